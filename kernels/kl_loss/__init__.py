"""Grid KL loss: cross entropy of a label density against the softmax of a score map, and that density.

    loss = log(a sum_cells exp s) - a sum_cells p s

with cell area a = `grid_scale`. It is the KL divergence plus the entropy of p, its minimum (about
log(2 pi e sigma^2) for a Gaussian of `sigma` cells).
Source: Danelljan et al., Probabilistic Regression for Visual Tracking (2020).
"""

import torch
from torch import Tensor

from chase_fast.lazy import front_door

from .. import _dispatch
from .._autograd import not_differentiable, recompute
from . import reference

front_door(__name__, call="kl_loss")
CAN_RUN = {
    "reference": _dispatch.always,
    "cpu": _dispatch.native_cpu(torch.float32, torch.float64),
    "triton": _dispatch.triton(torch.float32, torch.float64),
}
LEAST_CELLS = 1 << 15  # of all score maps, for a fast backend on the CPU


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
    backend = _dispatch.resolve("kl_loss", CAN_RUN, scores, backend, LEAST_CELLS)
    inputs = scores, density, float(grid_scale)
    return reference.kl_loss(*inputs) if backend == "reference" else _kl_loss(*inputs, backend)[0]


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
def _kl_loss(scores: Tensor, density: Tensor, grid_scale: float, backend: str) -> tuple[Tensor, Tensor]:
    """Loss and, for the backward, the log of the sum of exp (empty from the reference)."""
    if backend == "reference":
        return reference.kl_loss(scores, density, grid_scale), scores.new_empty(0)
    return _dispatch.implementation("kl_loss", backend).forward(scores, density, grid_scale)


@_kl_loss.register_fake
def _(scores, density, grid_scale, backend):
    loss = scores.new_empty(scores.shape[:-2])
    return loss, scores.new_empty(0) if backend == "reference" else torch.empty_like(loss)


@torch.library.custom_op("chase_fast::kl_loss_backward", mutates_args=())
def _backward_op(
    grad: Tensor,
    scores: Tensor,
    density: Tensor,
    normaliser: Tensor,
    grid_scale: float,
    want_scores: bool,
    want_density: bool,
    backend: str,
) -> tuple[Tensor, Tensor]:
    """Gradients of scores and density; empty if not wanted."""
    run = _dispatch.implementation("kl_loss", backend).backward
    return run(grad, scores, density, normaliser, grid_scale, want_scores, want_density)


@_backward_op.register_fake
def _(grad, scores, density, normaliser, grid_scale, want_scores, want_density, backend):
    return (
        scores.new_empty(scores.shape if want_scores else 0),
        density.new_empty(density.shape if want_density else 0),
    )


not_differentiable(_backward_op)


def _setup_context(ctx, inputs, output):
    scores, density, ctx.grid_scale, ctx.backend = inputs
    ctx.save_for_backward(scores, density, output[1])
    ctx.mark_non_differentiable(output[1])


def _backward(ctx, grad, _):
    scores, density, normaliser = ctx.saved_tensors
    if ctx.backend == "reference":
        inputs, needed = (scores, density, ctx.grid_scale), ctx.needs_input_grad[:3]
        return *recompute(reference.kl_loss, inputs, needed, (grad,)), None
    need = ctx.needs_input_grad[:2]
    found = _backward_op(grad, scores, density, normaliser, ctx.grid_scale, *need, ctx.backend)
    return *(g if wanted else None for g, wanted in zip(found, need)), None, None


_kl_loss.register_autograd(_backward, setup_context=_setup_context)
