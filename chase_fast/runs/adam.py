"""Adam (Kingma and Ba 2015) in a form that a CUDA graph can replay."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from chase_fast.fields import Fields
from chase_fast.nn.state import check_like

Tensors = list[Tensor] | tuple[Tensor, ...]

BETAS = (0.9, 0.999)


def numbers(lr: float, step: int, betas: tuple[float, float] = BETAS) -> tuple[float, float]:
    """(lr / (1 - beta1^t), sqrt(1 - beta2^t)) for step t = 1, 2, ...: what a captured step gets as inputs."""
    one, two = (1 - beta**step for beta in betas)
    return lr / one, math.sqrt(two)


@torch.no_grad()
def adam_(
    tensors: Tensors,
    gradients: Tensors,
    means: Tensors,
    squares: Tensors,
    size: float | Tensor,
    root: float | Tensor,
    betas: tuple[float, float] = BETAS,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> None:
    """One step of all tensors and their moments, in place, in few launches; no value comes to the host.

    As torch.optim.Adam computes it, to the last digit in eager runs on a CPU.

    Args:
        tensors: of one type and device.
        means, squares: first and second moments.
        size, root: from `numbers`, or 0-d tensors of them.
        weight_decay: L2, added to the gradient.
    """
    beta1, beta2 = betas
    if isinstance(size, Tensor) and isinstance(root, Tensor):
        size, root = (x.to(tensors[0].dtype) for x in (size, root))
    if weight_decay:
        gradients = torch._foreach_add(gradients, tensors, alpha=weight_decay)
    torch._foreach_lerp_(means, gradients, 1 - beta1)
    torch._foreach_mul_(squares, beta2)
    torch._foreach_addcmul_(squares, gradients, gradients, value=1 - beta2)
    lengths = torch._foreach_sqrt(squares)
    torch._foreach_div_(lengths, root)
    torch._foreach_add_(lengths, eps)
    torch._foreach_addcdiv_(tensors, torch._foreach_mul(means, size), lengths, value=-1)


class Adam:
    """`adam_` on a few flat tensors, with its moments and the number of steps, which is known on the host.

    Args:
        tensors: changed in place.
        weight_decay: L2, added to the gradient.

    Attributes:
        steps: made so far; whoever calls `apply` counts.
        state: tensors that `apply` changes beside the weights: first and second moments.
    """

    def __init__(
        self,
        tensors: Sequence[Tensor],
        betas: tuple[float, float] = BETAS,
        weight_decay: float = 0.0,
    ):
        self._tensors, self._betas, self._weight_decay = tuple(tensors), betas, weight_decay
        self.steps = 0
        self._moments = [(torch.zeros_like(t), torch.zeros_like(t)) for t in self._tensors]

    @property
    def state(self) -> list[Tensor]:
        return [moment for pair in self._moments for moment in pair]

    def numbers(self, lr: float) -> tuple[float, float]:
        """Those of the next step."""
        return numbers(lr, self.steps + 1, self._betas)

    def apply(self, gradients: Tensors, size: float | Tensor, root: float | Tensor) -> None:
        """One step in place. size, root: from `numbers`, or 0-d tensors of them."""
        means, squares = zip(*self._moments)
        decay = self._weight_decay
        adam_(self._tensors, gradients, means, squares, size, root, betas=self._betas, weight_decay=decay)

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, "moments": self.state}

    @torch.no_grad()
    def load_state_dict(self, state: object) -> None:
        """Copies into the moments where they are: a captured step keeps its addresses.

        Raises:
            ValueError: number, shapes or types of the tensors are others, or a number is not finite.
        """
        fields = Fields.of(state, "Adam")
        for mine, other in zip(self.state, fields.entries("moments"), strict=True):
            check_like(other, mine, f"moments of shape {list(getattr(other, 'shape', ()))}: one")
            mine.copy_(other)
        self.steps = fields.integer("steps", 0)
