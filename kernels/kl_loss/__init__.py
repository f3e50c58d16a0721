"""Grid KL loss: cross entropy of a label density against the softmax of a score map, and that density.

    loss = log(a sum_cells exp s) - a sum_cells p s

with cell area a = `grid_scale`. It is the KL divergence plus the entropy of p, its minimum (about
log(2 pi e sigma^2) for a Gaussian of `sigma` cells).
Source: Danelljan et al., Probabilistic Regression for Visual Tracking (2020).
"""

import torch
from torch import Tensor

from .. import _dispatch
from .._autograd import recompute
from . import reference

CAN_RUN = {"reference": _dispatch.always}


def kl_loss(scores: Tensor, density: Tensor, grid_scale: float = 1.0, backend: str | None = None) -> Tensor:
    """Loss of every score map.

    Args:
        scores: [..., H, W].
        density: p, [..., H, W]; may lack leading dimensions of `scores` (several iterates share one label).
        grid_scale: area a of a cell.

    Returns:
        [...]: one value per score map. Differentiable to `scores` and `density`.

    Raises:
        ValueError: the trailing dimensions differ.
    """
    lead = scores.dim() - density.dim()
    if density.dim() < 2 or lead < 0 or scores.shape[lead:] != density.shape:
        raise ValueError(f"kl_loss: density {list(density.shape)} does not fit scores {list(scores.shape)}")
    backend = _dispatch.resolve("kl_loss", CAN_RUN, scores, backend)
    run = reference.kl_loss if backend == "reference" else lambda *arguments: _kl_loss(*arguments, backend)
    return run(scores, density, float(grid_scale))


def label_density(
    centre: Tensor,
    size: tuple[int, int],
    sigma: float,
    threshold: float = 0.0,
    normalize: bool = True,
    uniform: float = 0.0,
    shrink: float = 0.0,
) -> Tensor:
    """Gaussian label density on a score grid, as the filter solver uses it. Not differentiated.

    Steps: 2-D Gaussian density in cells; values <= threshold to 0; divided by (sum + 1e-8) if `normalize`;
    (1 - shrink) ((1 - uniform) p + uniform / cells).

    Args:
        centre: [..., 2] (row, column) in score-index units.
        size: (rows, columns).
        sigma: standard deviation in cells; 0 gives 1 at the nearest cell.

    Returns:
        [..., rows, columns].
    """
    return reference.label_density(centre.detach(), size, sigma, threshold, normalize, uniform, shrink)


@torch.library.custom_op("chase_fast::kl_loss", mutates_args=())
def _kl_loss(scores: Tensor, density: Tensor, grid_scale: float, backend: str) -> Tensor:
    return reference.kl_loss(scores, density, grid_scale)


@_kl_loss.register_fake
def _(scores, density, grid_scale, backend):
    return scores.new_empty(scores.shape[:-2])


def _setup_context(ctx, inputs, output):
    ctx.inputs = inputs[:-1]


def _backward(ctx, grad):
    return *recompute(reference.kl_loss, ctx.inputs, ctx.needs_input_grad[:-1], (grad,)), None


_kl_loss.register_autograd(_backward, setup_context=_setup_context)
