"""One node of the cell: the weighted sum of all branches that enter it, each behind its batch norm.

    out = sum_b w_b phi_b(z_b),   z_b = gamma_b yhat_b + beta_b,   yhat_b = (y_b - mean_b) / sqrt(var_b + eps)

Kind of branch b: IDENTITY (skip, and pools that `mixed_op` has normalised: w y), NORM (phi = identity:
convolutions of the darts flavour) or NORM_LRELU (phi = leaky ReLU: convolutions of the chase flavour).
Batch statistics are taken per group: images come as `groups` equal runs (training frames, test frames).
Variances are biased; nothing is mutated.
Source: DARTS (Liu et al. 2019) eq. 2 on branches that end in batch norm.

Gradients need two reductions per branch, group and channel, S1 = sum g phi'(z) and S2 = sum g phi'(z) yhat:
dgamma = w S2, dbeta = w S1, dw = sum_c gamma S2 + beta S1 (phi is homogeneous: phi(z) = z phi'(z)), and
dy = w gamma / sqrt(var + eps) (g phi'(z) - S1/M - yhat S2/M), the last two terms with batch statistics only.

Memory plan of the fast backends: branches are read as NHWC (`channels_last`; any other layout is copied to it
once), outputs are NHWC. The forward reads every branch twice (once in eval mode), the backward twice (once
where no gradient of that branch is wanted); nothing but the tables is stored.
"""

import torch
from torch import Tensor

from chase_fast.lazy import front_door

from .. import _dispatch
from .._autograd import differentiable, not_differentiable, recompute
from .._layout import channels_last
from . import reference
from .reference import IDENTITY, NORM, NORM_LRELU

front_door(__name__, call="node_sum")
__all__ = ["CAN_RUN", "IDENTITY", "NORM", "NORM_LRELU", "node_sum"]

CAN_RUN = {
    "reference": _dispatch.always,
    "cpu": _dispatch.native_cpu(torch.float32, torch.float64),
    "triton": _dispatch.triton(torch.float32, torch.float64, torch.bfloat16),
    "cuda": _dispatch.native_cuda(torch.float32, torch.float64, torch.bfloat16),
}


def node_sum(
    branches: list[Tensor],
    weights: Tensor,
    gamma: Tensor,
    beta: Tensor,
    mean: Tensor,
    var: Tensor,
    kinds: list[int],
    groups: int = 1,
    training: bool = True,
    eps: float = 1e-5,
    slope: float = 0.01,
    backend: str | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Weighted sum of normalised branches.

    Args:
        branches: B tensors [N, C, H, W], floating, one dtype; best in channels_last memory.
        weights: [B] mixing weights. All tables are float32 (float64 with float64 branches).
        gamma, beta: [B, C] affine part of the norms; rows of IDENTITY branches are ignored.
        mean, var: [B, C] running statistics, used when `training` is False.
        kinds: per branch IDENTITY, NORM or NORM_LRELU.
        groups: number of equal runs of images with their own batch statistics; divides N.
        training: normalise by batch statistics, else by `mean` and `var`.
        eps: added to the variance.
        slope: of the leaky ReLU.
        backend: force `reference | cpu | triton | cuda`.

    Returns:
        out [N, C, H, W] in the dtype of the branches, and the statistics that were used: mean and biased
        variance [B, groups, C] (0 and 1 for IDENTITY). Differentiable to `branches`, `weights`, `gamma` and
        `beta`; twice differentiable on the reference backend.

    Raises:
        ValueError: wrong shape, dtype, device or kind.
        RuntimeError: the forced backend cannot run (why is in the text).
    """
    branches, kinds = list(branches), [int(k) for k in kinds]
    _check(branches, weights, gamma, beta, mean, var, kinds, groups)
    backend = _dispatch.resolve("node_sum", CAN_RUN, branches[0], backend)
    inputs = (branches, weights, gamma, beta, mean, var, kinds, groups, training, float(eps), float(slope))
    if backend == "reference":
        return reference.node_sum(*inputs)
    return tuple(_differentiable(*inputs, backend))


def _check(branches, weights, gamma, beta, mean, var, kinds, groups) -> None:
    if not branches or len(branches) != len(kinds):
        raise ValueError(
            f"node_sum: one kind per branch, not {len(branches)} branches and {len(kinds)} kinds"
        )
    if not set(kinds) <= {IDENTITY, NORM, NORM_LRELU}:
        raise ValueError(f"node_sum: kinds must be 0 (identity), 1 (norm), 2 (norm, leaky ReLU), not {kinds}")
    first = branches[0]
    if first.dim() != 4 or not first.is_floating_point() or first.numel() == 0:
        raise ValueError(f"node_sum: branches must be floating [N, C, H, W], not {_describe(first)}")
    for b, branch in enumerate(branches):
        if (branch.shape, branch.dtype, branch.device) != (first.shape, first.dtype, first.device):
            raise ValueError(f"node_sum: branch {b} is {_describe(branch)}, branch 0 is {_describe(first)}")
    dtype = torch.float64 if first.dtype == torch.float64 else torch.float32
    table = (len(branches), first.shape[1])
    tables = {"weights": weights, "gamma": gamma, "beta": beta, "mean": mean, "var": var}
    for name, t in tables.items():
        shape = table[:1] if name == "weights" else table
        if tuple(t.shape) != shape or t.dtype != dtype or t.device != first.device:
            raise ValueError(
                f"node_sum: {name} must be {dtype} {list(shape)} on {first.device}, not {_describe(t)}"
            )
    if groups < 1 or first.shape[0] % groups:
        raise ValueError(f"node_sum: {groups} groups do not divide {first.shape[0]} images")


def _describe(t: Tensor) -> str:
    return f"{t.dtype} {list(t.shape)} on {t.device}"


@torch.library.custom_op("chase_fast::node_sum", mutates_args=())
def _node_sum(
    branches: list[Tensor],
    weights: Tensor,
    gamma: Tensor,
    beta: Tensor,
    mean: Tensor,
    var: Tensor,
    kinds: list[int],
    groups: int,
    training: bool,
    eps: float,
    slope: float,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor]:
    inputs = (branches, weights, gamma, beta, mean, var, kinds, groups, training, eps, slope)
    if backend == "reference":
        out, mean, var = reference.node_sum(*inputs)
        return channels_last(out), mean, var
    return _dispatch.implementation("node_sum", backend).forward(*inputs)


@_node_sum.register_fake
def _(branches, weights, gamma, beta, mean, var, kinds, groups, training, eps, slope, backend):
    statistics = gamma.new_empty(len(branches), groups, gamma.shape[1])
    out = torch.empty_like(branches[0], memory_format=torch.channels_last)
    return out, statistics, torch.empty_like(statistics)


@torch.library.custom_op("chase_fast::node_sum_backward", mutates_args=())
def _backward_op(
    grad: Tensor,
    branches: list[Tensor],
    weights: Tensor,
    gamma: Tensor,
    beta: Tensor,
    mean: Tensor,
    var: Tensor,
    kinds: list[int],
    training: bool,
    eps: float,
    slope: float,
    wanted: list[bool],
    backend: str,
) -> tuple[list[Tensor], Tensor, Tensor, Tensor]:
    """mean, var: [B, groups, C] as the forward returned them; an unwanted branch gets an empty gradient."""
    return _dispatch.implementation("node_sum", backend).backward(
        grad, branches, weights, gamma, beta, mean, var, kinds, training, eps, slope, wanted
    )


@_backward_op.register_fake
def _(grad, branches, weights, gamma, beta, mean, var, kinds, training, eps, slope, wanted, backend):
    gradients = [
        torch.empty_like(y, memory_format=torch.channels_last) if want else y.new_empty(0)
        for y, want in zip(branches, wanted)
    ]
    return gradients, torch.empty_like(weights), gamma.new_empty(gamma.shape), beta.new_empty(beta.shape)


not_differentiable(_backward_op)


def _setup_context(ctx, inputs, output):
    branches, weights, gamma, beta, mean, var, *ctx.rest, ctx.backend = inputs
    if ctx.backend != "reference":
        _, mean, var = output
    ctx.save_for_backward(weights, gamma, beta, mean, var, *branches)
    ctx.mark_non_differentiable(*output[1:])


def _backward(ctx, grad, *_):
    weights, gamma, beta, mean, var, *branches = ctx.saved_tensors
    kinds, _, training, eps, slope = ctx.rest
    wanted, tables = list(ctx.needs_input_grad[0]), ctx.needs_input_grad[1:4]
    if ctx.backend == "reference":
        inputs = (branches, weights, gamma, beta, mean, var, *ctx.rest)
        needed = (wanted, *tables) + (False,) * (len(inputs) - 4)
        return *recompute(reference.node_sum, inputs, needed, (grad,)), None
    gradients, *rest = _backward_op(
        grad, branches, weights, gamma, beta, mean, var, kinds, training, eps, slope, wanted, ctx.backend
    )
    gradients = [g if want else None for g, want in zip(gradients, wanted)]
    return gradients, *[g if need else None for g, need in zip(rest, tables)], *(None,) * 8


_differentiable = differentiable(_node_sum, _backward, _setup_context)
