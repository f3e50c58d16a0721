"""Target filter: one k x k x C filter per sequence applied to n frames, and the solvers that learn it.

    apply             score(y, x) = sum_{c,a,b} f[c, a, b] X[c, y + a - k//2, x + b - k//2], zero outside X
    apply_transpose   (X^T r)[c, a, b] = sum over frames, y, x of r(y, x) X[c, y + a - k//2, x + b - k//2]
    solve_prdimp      steepest descent with Newton curvature on the KL divergence to a label density
    solve_dimp        steepest descent with Gauss-Newton curvature on weighted squared residuals

Score maps have H' = H + 1 rows for even k, H for odd k (columns likewise). With stride 16, score index i
stands for image pixel 16 i (even k) or 16 (i + 1/2) (odd k).

Both solvers minimise over f, per sequence, with frame weights g (1/n unless given) and
lambda = max(filter_reg^2, min_filter_reg^2), eta = exp(log_step_length), by `iterations` steps

    f <- f - eta alpha G,    alpha = |G|^2 / max(1e-8, curvature + (lambda + alpha_eps) |G|^2)

PrDiMP:  q = softmax(s), with one more logit softmax_reg that is dropped (none if None);
         G = X^T(g (q - p)) + lambda f,  curvature = sum g h,  h = max(0, sum q u^2 - (sum q u)^2),  u = X G;
         loss = sum g (log(sum exp s + exp softmax_reg) - sum p s) + lambda |f|^2.
         (The step is that of lambda/2 |f|^2: the published tracker reports twice what it minimises.)
DiMP:    a(s) = (1-m)/2 |s| + (1+m)/2 s,  V = v sqrt(g),  G = X^T(a' V V (a - y)) + lambda f,
         curvature = sum (V a' X G)^2;  loss = sum (V (a - y))^2 + lambda |f|^2.

Losses are averaged over sequences. Everything is differentiated through (no detached iterate).

Memory plan of the fast backends: the features are read where they lie (contiguous or channels-last images),
once per step by the CPU, twice by Triton (the second time mostly from L2). The forward keeps every step's
gradient G, scores and responses u; the backward reads the features as often, and writes their gradient as one
matrix product over all steps. Triton takes float32 only: its products have the errors of float32 (three TF32
terms), which the finite difference of a search needs; callers cast bfloat16.

Sources: Bhat et al., Learning Discriminative Model Prediction for Tracking (2019);
Danelljan et al., Probabilistic Regression for Visual Tracking (2020).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .. import _dispatch
from .._autograd import not_differentiable, recompute
from . import reference

CAN_RUN = {
    "reference": _dispatch.always,
    "cpu": _dispatch.native_cpu(torch.float32, torch.float64),
    "triton": _dispatch.triton(torch.float32),
}
LEAST_FEATURES = 1 << 17  # elements, for a fast backend of a single product on the CPU
Solved = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]  # of a solver with all that its backward needs


def apply(features: Tensor, filters: Tensor, backend: str | None = None) -> Tensor:
    """Scores of filters on every frame of their sequence.

    Args:
        features: [n, s, C, H, W] frames x sequences.
        filters: [s, C, k, k], or [m, s, C, k, k] for m filters per sequence in one pass over the features.

    Returns:
        [n, s, H', W'], or [m, n, s, H', W']. Differentiable to both.
    """
    _check(features, filters if filters.dim() == 5 else filters.unsqueeze(0))
    backend = _dispatch.resolve("target_filter", CAN_RUN, features, backend, LEAST_FEATURES)
    run = reference.apply if backend == "reference" else _forced(_apply, backend)
    return run(features, filters) if filters.dim() == 5 else run(features, filters.unsqueeze(0))[0]


def apply_transpose(
    features: Tensor, residual: Tensor, filter_size: int, backend: str | None = None
) -> Tensor:
    """Adjoint of `apply` to the filter, summed over the frames of each sequence.

    Args:
        features: [n, s, C, H, W].
        residual: [n, s, H', W'].
        filter_size: k.

    Returns:
        [s, C, k, k]. Differentiable to both tensors.
    """
    _check_maps(features, filter_size, residual=residual)
    backend = _dispatch.resolve("target_filter", CAN_RUN, features, backend, LEAST_FEATURES)
    run = reference.apply_transpose if backend == "reference" else _forced(_apply_transpose, backend)
    return run(features, residual, filter_size)


def solve_prdimp(
    features: Tensor,
    filter: Tensor,
    label_density: Tensor,
    log_step_length: Tensor,
    filter_reg: Tensor,
    sample_weight: Tensor | None = None,
    *,
    iterations: int = 5,
    min_filter_reg: float = 0.05,
    alpha_eps: float = 0.05,
    softmax_reg: float | None = None,
    backend: str | None = None,
) -> tuple[Tensor, Tensor]:
    """Unrolled PrDiMP solver.

    Args:
        features: [n, s, C, H, W].
        filter: [s, C, k, k], the start.
        label_density: p, [n, s, H', W'].
        log_step_length, filter_reg: [1], learned.
        sample_weight: g, [n, s] or [n, 1]; 1/n each if None. Frames of weight 0 do not count.

    Returns:
        iterates [iterations + 1, s, C, k, k] with the start first, losses [iterations + 1].
        Differentiable to all tensors.
    """
    _check(features, filter.unsqueeze(0))
    _check_maps(features, filter.shape[-1], label_density=label_density)
    _check_scalars(features, log_step_length, filter_reg, sample_weight, iterations)
    backend = _dispatch.resolve("target_filter", CAN_RUN, features, backend)
    run = reference.solve_prdimp if backend == "reference" else _forced(_solve_prdimp, backend)
    tensors = (features, filter, label_density, log_step_length, filter_reg, sample_weight)
    return run(*tensors, iterations, float(min_filter_reg), float(alpha_eps), softmax_reg)[:2]


def solve_dimp(
    features: Tensor,
    filter: Tensor,
    label: Tensor,
    target_mask: Tensor,
    spatial_weight: Tensor,
    log_step_length: Tensor,
    filter_reg: Tensor,
    sample_weight: Tensor | None = None,
    *,
    iterations: int = 5,
    min_filter_reg: float = 1e-3,
    alpha_eps: float = 0.0,
    backend: str | None = None,
) -> tuple[Tensor, Tensor]:
    """Unrolled DiMP solver.

    Args:
        features: [n, s, C, H, W].
        filter: [s, C, k, k], the start.
        label, target_mask, spatial_weight: y, m and v, [n, s, H', W'].
        log_step_length, filter_reg: [1], learned.
        sample_weight: g, [n, s] or [n, 1]; 1/n each if None. Frames of weight 0 do not count.

    Returns:
        iterates [iterations + 1, s, C, k, k] with the start first, losses [iterations + 1].
        Differentiable to all tensors.
    """
    _check(features, filter.unsqueeze(0))
    maps = {"label": label, "target_mask": target_mask, "spatial_weight": spatial_weight}
    _check_maps(features, filter.shape[-1], **maps)
    _check_scalars(features, log_step_length, filter_reg, sample_weight, iterations)
    backend = _dispatch.resolve("target_filter", CAN_RUN, features, backend)
    run = reference.solve_dimp if backend == "reference" else _forced(_solve_dimp, backend)
    given = (features, filter, label, target_mask, spatial_weight, log_step_length, filter_reg, sample_weight)
    return run(*given, iterations, float(min_filter_reg), float(alpha_eps))[:2]


def _forced(op: Callable[..., Any], backend: str) -> Callable[..., Any]:
    return lambda *arguments: op(*arguments, backend)


def _check(features: Tensor, filters: Tensor) -> None:
    if features.dim() != 5 or not features.is_floating_point():
        raise ValueError(
            f"target_filter: features must be floating [n, s, C, H, W], not {list(features.shape)}"
        )
    s, c = features.shape[1:3]
    if filters.dim() != 5 or filters.shape[1:3] != (s, c) or filters.shape[3] != filters.shape[4]:
        raise ValueError(f"target_filter: filters must be [(m,) {s}, {c}, k, k], not {list(filters.shape)}")


def _check_maps(features: Tensor, k: int, **maps: Tensor) -> None:
    if features.dim() != 5:
        raise ValueError(f"target_filter: features must be [n, s, C, H, W], not {list(features.shape)}")
    wanted = (*features.shape[:2], *score_size(features, k))
    for name, value in maps.items():
        if tuple(value.shape) != wanted:
            raise ValueError(f"target_filter: {name} must be {list(wanted)}, not {list(value.shape)}")


def _check_scalars(features, log_step_length, filter_reg, sample_weight, iterations) -> None:
    n, s = features.shape[:2]
    if log_step_length.shape != (1,) or filter_reg.shape != (1,):
        raise ValueError("target_filter: log_step_length and filter_reg must have shape [1]")
    if sample_weight is not None and tuple(sample_weight.shape) not in ((n, 1), (n, s)):
        raise ValueError(
            f"target_filter: sample_weight must be [{n}, 1 or {s}], not {list(sample_weight.shape)}"
        )
    if iterations < 0:
        raise ValueError(f"target_filter: iterations must be >= 0, not {iterations}")


def score_size(features: Tensor, k: int) -> tuple[int, int]:
    """(rows, columns) of the score maps of k x k filters on `features` [..., H, W]."""
    return features.shape[-2] + (k + 1) % 2, features.shape[-1] + (k + 1) % 2


@torch.library.custom_op("chase_fast::target_filter_apply", mutates_args=())
def _apply(features: Tensor, filters: Tensor, backend: str) -> Tensor:
    if backend == "reference":
        return reference.apply(features, filters)
    return _dispatch.implementation("target_filter", backend).apply(features, filters)


@_apply.register_fake
def _(features, filters, backend):
    n, s = features.shape[:2]
    return features.new_empty(filters.shape[0], n, s, *score_size(features, filters.shape[-1]))


@torch.library.custom_op("chase_fast::target_filter_apply_transpose", mutates_args=())
def _apply_transpose(features: Tensor, residual: Tensor, filter_size: int, backend: str) -> Tensor:
    if backend == "reference":
        return reference.apply_transpose(features, residual, filter_size)
    return _dispatch.implementation("target_filter", backend).apply_transpose(
        features, residual.unsqueeze(0), filter_size
    )[0]


@_apply_transpose.register_fake
def _(features, residual, filter_size, backend):
    return features.new_empty(*features.shape[1:3], filter_size, filter_size)


@torch.library.custom_op("chase_fast::target_filter_products_backward", mutates_args=())
def _products_backward(
    features: Tensor, maps: Tensor, filters: Tensor, wanted: list[bool], backend: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of b = sum_j <maps_j, score(features, filters_j)> to its arguments; empty if unwanted.

    maps [m, n, s, H', W'], filters [m, s, C, k, k]. Both `apply` (maps: the incoming gradient) and
    `apply_transpose` (filters: the incoming gradient) are derivatives of b.
    """
    run, empty = _dispatch.implementation("target_filter", backend), features.new_empty(0)
    return (
        run.features_gradient(features, maps, filters) if wanted[0] else empty,
        run.apply(features, filters) if wanted[1] else empty.clone(),
        run.apply_transpose(features, maps, filters.shape[-1]) if wanted[2] else empty.clone(),
    )


@_products_backward.register_fake
def _(features, maps, filters, wanted, backend):
    like = (torch.empty_like(features), maps.new_empty(maps.shape), filters.new_empty(filters.shape))
    return tuple(t if want else features.new_empty(0) for t, want in zip(like, wanted))


def _apply_context(ctx, inputs, output):
    features, filters, ctx.backend = inputs
    ctx.save_for_backward(features, filters)


def _apply_backward(ctx, grad):
    features, filters = ctx.saved_tensors
    if ctx.backend == "reference":
        return *recompute(reference.apply, (features, filters), ctx.needs_input_grad[:2], (grad,)), None
    need = ctx.needs_input_grad
    found = _products_backward(features, grad, filters, [need[0], False, need[1]], ctx.backend)
    return found[0] if need[0] else None, found[2] if need[1] else None, None


def _apply_transpose_context(ctx, inputs, output):
    features, residual, ctx.filter_size, ctx.backend = inputs
    ctx.save_for_backward(features, residual)


def _apply_transpose_backward(ctx, grad):
    features, residual = ctx.saved_tensors
    need = ctx.needs_input_grad
    if ctx.backend == "reference":
        inputs = (features, residual, ctx.filter_size)
        return *recompute(reference.apply_transpose, inputs, need[:3], (grad,)), None
    maps, filters = residual.unsqueeze(0), grad.unsqueeze(0)
    found = _products_backward(features, maps, filters, [need[0], need[1], False], ctx.backend)
    return found[0] if need[0] else None, found[1][0] if need[1] else None, None, None


_apply.register_autograd(_apply_backward, setup_context=_apply_context)
_apply_transpose.register_autograd(_apply_transpose_backward, setup_context=_apply_transpose_context)
not_differentiable(_products_backward)


@torch.library.custom_op("chase_fast::target_filter_solve_prdimp", mutates_args=())
def _solve_prdimp(
    features: Tensor,
    filter: Tensor,
    label_density: Tensor,
    log_step_length: Tensor,
    filter_reg: Tensor,
    sample_weight: Tensor | None,
    iterations: int,
    min_filter_reg: float,
    alpha_eps: float,
    softmax_reg: float | None,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """iterates, losses and what the backward needs: gradients, scores and responses of the steps."""
    learned = (log_step_length, filter_reg, sample_weight)
    constants = (iterations, min_filter_reg, alpha_eps, softmax_reg)
    return _solve(backend, reference.solve_prdimp, features, filter, [label_density], learned, constants)


@torch.library.custom_op("chase_fast::target_filter_solve_dimp", mutates_args=())
def _solve_dimp(
    features: Tensor,
    filter: Tensor,
    label: Tensor,
    target_mask: Tensor,
    spatial_weight: Tensor,
    log_step_length: Tensor,
    filter_reg: Tensor,
    sample_weight: Tensor | None,
    iterations: int,
    min_filter_reg: float,
    alpha_eps: float,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """As `_solve_prdimp`."""
    maps, learned = [label, target_mask, spatial_weight], (log_step_length, filter_reg, sample_weight)
    constants = (iterations, min_filter_reg, alpha_eps)
    return _solve(backend, reference.solve_dimp, features, filter, maps, learned, constants)


def _solve(backend, function, features, filter, maps, learned, constants) -> Solved:
    if backend == "reference":
        iterates, losses = function(features, filter, *maps, *learned, *constants)
        return iterates, losses, filter.new_empty(0), filter.new_empty(0), filter.new_empty(0)
    return _dispatch.implementation("target_filter", backend).solve(
        features, filter, maps, *learned, *constants
    )


def _solve_fake(features, filter, size, iterations, backend) -> tuple[Tensor, ...]:
    outputs = filter.new_empty(iterations + 1, *filter.shape), filter.new_empty(iterations + 1)
    if backend == "reference":
        return *outputs, *(filter.new_empty(0) for _ in range(3))
    lengths = (iterations, *filter.shape), (iterations + 1, *size), (iterations, *size)
    return *outputs, *(filter.new_empty(length) for length in lengths)


@_solve_prdimp.register_fake
def _(features, filter, label_density, *rest):
    return _solve_fake(features, filter, label_density.shape, rest[3], rest[-1])


@_solve_dimp.register_fake
def _(features, filter, label, *rest):
    return _solve_fake(features, filter, label.shape, rest[5], rest[-1])


@torch.library.custom_op("chase_fast::target_filter_solve_backward", mutates_args=())
def _solve_backward_op(
    grad_iterates: Tensor,
    grad_losses: Tensor,
    features: Tensor,
    maps: list[Tensor],
    log_step_length: Tensor,
    filter_reg: Tensor,
    sample_weight: Tensor | None,
    iterates: Tensor,
    gradients: Tensor,
    scores: Tensor,
    responses: Tensor,
    want_features: bool,
    min_filter_reg: float,
    alpha_eps: float,
    softmax_reg: float | None,
    backend: str,
) -> tuple[Tensor, Tensor, list[Tensor], Tensor, Tensor, Tensor]:
    """Gradients of features (empty if unwanted), filter, maps, log_step_length, filter_reg, weight [n, s].

    maps: one for PrDiMP, three for DiMP.
    """
    return _dispatch.implementation("target_filter", backend).solve_backward(
        *(grad_iterates, grad_losses, features, maps, log_step_length, filter_reg, sample_weight),
        *(iterates, gradients, scores, responses, want_features, min_filter_reg, alpha_eps, softmax_reg),
    )


@_solve_backward_op.register_fake
def _(
    grad_iterates, grad_losses, features, maps, log_step_length, filter_reg, sample_weight, iterates, *rest
):
    want_features = rest[3]
    return (
        torch.empty_like(features) if want_features else features.new_empty(0),
        iterates.new_empty(iterates.shape[1:]),
        [m.new_empty(m.shape) for m in maps],
        log_step_length.new_empty(1),
        filter_reg.new_empty(1),
        features.new_empty(features.shape[:2]),
    )


not_differentiable(_solve_backward_op)


def _register_solver(op, function, maps: int) -> None:
    """Backward of a solver with this many maps per frame; `function` is its reference."""

    def setup_context(ctx, inputs, output):
        *ctx.constants, ctx.backend = inputs[maps + 5 :]
        kept = output[2:] if ctx.backend == "reference" else (output[0], *output[2:])
        ctx.save_for_backward(*inputs[: maps + 5], *kept)
        ctx.mark_non_differentiable(*output[2:])

    def backward(ctx, grad_iterates, grad_losses, *_):
        tensors, kept = ctx.saved_tensors[: maps + 5], ctx.saved_tensors[maps + 5 :]
        if ctx.backend == "reference":
            inputs, needed = (*tensors, *ctx.constants), ctx.needs_input_grad[:-1]
            return *recompute(function, inputs, needed, (grad_iterates, grad_losses)), None
        features, _, *rest = tensors
        learned = rest[maps:]
        _, min_filter_reg, alpha_eps, *softmax_reg = ctx.constants  # DiMP has no softmax
        found = _solve_backward_op(
            *(grad_iterates, grad_losses, features, list(rest[:maps]), *learned, *kept),
            *(ctx.needs_input_grad[0], min_filter_reg, alpha_eps, *(softmax_reg or [None]), ctx.backend),
        )
        to_features, to_filter, to_maps, to_step, to_reg, to_weight = found
        if learned[2] is not None and learned[2].shape[1] < to_weight.shape[1]:
            to_weight = to_weight.sum(1, keepdim=True)
        gradients = (to_features, to_filter, *to_maps, to_step, to_reg, to_weight)
        wanted = [g if need else None for g, need in zip(gradients, ctx.needs_input_grad)]
        return *wanted, *(None for _ in ctx.constants), None

    op.register_autograd(backward, setup_context=setup_context)


_register_solver(_solve_prdimp, reference.solve_prdimp, maps=1)
_register_solver(_solve_dimp, reference.solve_dimp, maps=3)
