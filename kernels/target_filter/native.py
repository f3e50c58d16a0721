"""Allocates outputs, calls csrc/cpu/target_filter.cpp; the gradient of the features is a product of BLAS."""

import torch
from torch import Tensor

from .._dispatch import native


def _images(features: Tensor) -> Tensor:
    """The same, with every image contiguous or channels-last; a copy only if it has neither order."""
    channels, height, width = features.shape[2:]
    orders = (height * width, width, 1), (1, width * channels, channels)
    if any(
        all(size == 1 or a == b for size, a, b in zip(features.shape[2:], features.stride()[2:], order))
        for order in orders
    ):
        return features
    return features.contiguous()


def _map_size(features: Tensor, k: int) -> tuple[int, int]:
    return features.shape[-2] + (k + 1) % 2, features.shape[-1] + (k + 1) % 2


def _call(name: str, *arguments) -> None:
    """Runs the function `cpu_target_filter_NAME` of the native module."""
    getattr(native(), f"cpu_target_filter_{name}")(*arguments, torch.get_num_threads())


def apply(features: Tensor, filters: Tensor) -> Tensor:
    features, filters = _images(features), filters.contiguous()
    n, s = features.shape[:2]
    out = features.new_empty(len(filters), n, s, *_map_size(features, filters.shape[-1]))
    _call("apply", features, filters, out)
    return out


def apply_transpose(features: Tensor, residual: Tensor, k: int) -> Tensor:
    """residual [m, n, s, H', W'] -> [m, s, C, k, k]."""
    features, residual = _images(features), residual.contiguous()
    out = features.new_empty(len(residual), *features.shape[1:3], k, k)
    _call("apply_transpose", features, residual, out)
    return out


def features_gradient(features: Tensor, maps: Tensor, filters: Tensor) -> Tensor:
    """Gradient of sum_j <maps_j, score(features, filters_j)> to features, in their memory order.

    maps [m, n, s, H', W'], filters [m, s, C, k, k] -> like features.
    """
    n, s, c, h, w = features.shape
    m, k = len(filters), filters.shape[-1]
    unfolded = maps.new_empty(n, s, h * w, m * k * k)
    _call("unfold", maps.contiguous(), k, unfolded)
    taps = filters.flatten(3).permute(1, 2, 0, 3).reshape(s, c, m * k * k)
    channels_last = features.stride(2) == 1
    out = features.new_empty(n, s, *((h * w, c) if channels_last else (c, h * w)))
    for frame in range(n):  # all at once, BLAS would copy the taps for every frame
        if channels_last:
            torch.bmm(unfolded[frame], taps.transpose(1, 2), out=out[frame])
        else:
            torch.bmm(taps, unfolded[frame].transpose(1, 2), out=out[frame])
    if channels_last:
        return out.view(n, s, h, w, c).permute(0, 1, 4, 2, 3)
    return out.view(features.shape)


def _solver_inputs(features, maps, log_step_length, filter_reg, sample_weight):
    n, s = features.shape[:2]
    scalars = torch.cat((log_step_length, filter_reg))
    if sample_weight is None:
        weight = torch.full((n, s), 1 / n, dtype=features.dtype)
    else:
        weight = sample_weight.expand(n, s).contiguous()
    return _images(features), [m.contiguous() for m in maps], scalars, weight


def _constants(min_filter_reg: float, alpha_eps: float, softmax_reg: float | None):
    return native().SolverConstants(min_filter_reg, alpha_eps, softmax_reg)


def solve(
    features: Tensor,
    filter: Tensor,
    maps: list[Tensor],
    log_step_length: Tensor,
    filter_reg: Tensor,
    sample_weight: Tensor | None,
    iterations: int,
    min_filter_reg: float,
    alpha_eps: float,
    softmax_reg: float | None = None,
) -> tuple[Tensor, ...]:
    """maps: [label_density] for PrDiMP, [label, target_mask, spatial_weight] for DiMP.

    Returns:
        iterates, losses, and for the backward the steps' gradients [iterations, s, C, k, k], scores
        [iterations + 1, n, s, H', W'] and responses to the gradients [iterations, n, s, H', W'].
    """
    features, *inputs = _solver_inputs(features, maps, log_step_length, filter_reg, sample_weight)
    shape, size = filter.shape, maps[0].shape
    lengths = (iterations + 1, *shape), (iterations + 1,), (iterations, *shape)
    more = (iterations + 1, *size), (iterations, *size)
    out = tuple(features.new_empty(length) for length in (*lengths, *more))
    constants = _constants(min_filter_reg, alpha_eps, softmax_reg)
    _call("solve", features, filter.contiguous(), *inputs, constants, *out)
    return out


def solve_backward(
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
    softmax_reg: float | None = None,
) -> tuple[Tensor, Tensor, list[Tensor], Tensor, Tensor, Tensor]:
    """Gradients of features (empty if not wanted), filter, maps, log_step_length, filter_reg, sample_weight
    [n, s]."""
    features, maps, scalars, weight = _solver_inputs(
        features, maps, log_step_length, filter_reg, sample_weight
    )
    grad_filter, grad_weight = features.new_empty(iterates.shape[1:]), features.new_empty(weight.shape)
    grad_maps, grad_scalars = [m.new_empty(m.shape) for m in maps], scalars.new_empty(2)
    factors = gradients.new_empty(gradients.shape)
    factor_maps = scores.new_empty(2 * len(gradients) + 1, *scores.shape[1:])
    _call(
        "solve_backward",
        *(features, maps, scalars, weight, _constants(min_filter_reg, alpha_eps, softmax_reg)),
        *(iterates, gradients, scores, responses, grad_iterates.contiguous(), grad_losses.contiguous()),
        *(grad_filter, grad_maps, grad_scalars, grad_weight, factors, factor_maps),
    )
    grad_features = features.new_empty(0)
    if want_features:
        grad_features = features_gradient(
            features, factor_maps, torch.cat((gradients, factors, iterates[:1]))
        )
    log_step, reg = grad_scalars.split(1)
    return grad_features, grad_filter, grad_maps, log_step.clone(), reg.clone(), grad_weight
