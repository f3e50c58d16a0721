"""Adam on flat tensors, in a form that a CUDA graph can replay."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from chase_fast.fields import Fields
from chase_fast.nn.state import check_like


class Adam:
    """Adam (Kingma and Ba 2015) as torch.optim.Adam computes it, to the last digit in eager runs on a CPU.

    The number of steps is known on the host; what depends on it and on the learning rate are two numbers
    (`numbers`), which a captured step gets as inputs. `apply` only touches tensors.

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
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ):
        self._tensors, self._betas, self._eps, self._weight_decay = tuple(tensors), betas, eps, weight_decay
        self.steps = 0
        self._moments = [(torch.zeros_like(t), torch.zeros_like(t)) for t in self._tensors]

    @property
    def state(self) -> list[Tensor]:
        return [moment for pair in self._moments for moment in pair]

    def numbers(self, lr: float) -> tuple[float, float]:
        """(lr / (1 - beta1^t), sqrt(1 - beta2^t)) for the next step, the t-th."""
        one, two = (1 - beta ** (self.steps + 1) for beta in self._betas)
        return lr / one, math.sqrt(two)

    @torch.no_grad()
    def apply(self, gradients: Sequence[Tensor], size: float | Tensor, root: float | Tensor) -> None:
        """One step in place. size, root: from `numbers`, or 0-d tensors of them."""
        beta1, beta2 = self._betas
        for tensor, gradient, (mean, square) in zip(self._tensors, gradients, self._moments, strict=True):
            if self._weight_decay:
                gradient = gradient.add(tensor, alpha=self._weight_decay)
            mean.lerp_(gradient, 1 - beta1)
            square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
            tensor.addcdiv_(mean * size, square.sqrt().div_(root).add_(self._eps), value=-1)

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, "moments": self.state}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Copies into the moments where they are: a captured step keeps its addresses.

        Raises:
            ValueError: number, shapes or types of the tensors are others, or a number is not finite.
        """
        state = Fields.of(state, "Adam")
        for mine, other in zip(self.state, state.items("moments"), strict=True):
            check_like(other, mine, f"moments of shape {list(getattr(other, 'shape', ()))}: one")
            mine.copy_(other)
        self.steps = state.integer("steps", 0)
