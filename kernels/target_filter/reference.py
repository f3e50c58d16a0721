"""Target filter in plain torch: correlation, its adjoint and the two unrolled solvers (the definition).

Correlation and adjoint are one matrix product each plus a small fold / unfold over the k x k taps:
a grouped convolution with one output channel per sequence is several times slower on CPU
(bench/RECORDS.md).
"""

import torch
import torch.nn.functional as F


def _padding(k: int) -> int:
    """Padding of fold / unfold on the score side that equals zero padding k // 2 on the feature side."""
    return k - 1 - k // 2


def apply(features: torch.Tensor, filters: torch.Tensor) -> torch.Tensor:
    """score(y, x) = sum over c, a, b of f[c, a, b] X[c, y + a - k//2, x + b - k//2], zero outside X.

    features [n, s, C, H, W], filters [m, s, C, k, k] -> [m, n, s, H', W']; H' = H + 1 for even k, else H.
    """
    n, s, _, h, w = features.shape
    m, k = filters.shape[0], filters.shape[-1]
    taps = filters.flip(-2, -1).permute(1, 0, 3, 4, 2).reshape(s, m * k * k, -1)  # [s, m k k, C]
    partial = taps @ features.flatten(3)  # [n, s, m k k, H W]
    size = (h + (k + 1) % 2, w + (k + 1) % 2)
    scores = F.fold(partial.flatten(0, 1), size, k, padding=_padding(k))  # [n s, m, H', W']
    return scores.view(n, s, m, *size).permute(2, 0, 1, 3, 4).contiguous()


def apply_transpose(features: torch.Tensor, residual: torch.Tensor, filter_size: int) -> torch.Tensor:
    """(X^T r)[c, a, b] = sum over images, y, x of r(y, x) X[c, y + a - k//2, x + b - k//2].

    features [n, s, C, H, W], residual [n, s, H', W'] -> [s, C, k, k].
    """
    k = filter_size
    n, s, c = features.shape[:3]
    taps = F.unfold(residual.flatten(0, 1).unsqueeze(1), k, padding=_padding(k))  # [n s, k k, H W]
    product = features.flatten(3) @ taps.view(n, s, k * k, -1).transpose(-2, -1)  # [n, s, C, k k]
    return product.sum(0).view(s, c, k, k).flip(-2, -1)


def _regulariser(filter_reg: torch.Tensor, min_filter_reg: float) -> torch.Tensor:
    return filter_reg.square().clamp(min=min_filter_reg**2)  # scalar lambda, [1]


def _sum_per_sequence(x: torch.Tensor) -> torch.Tensor:
    """Sum over everything but the sequences: [s, C, k, k] -> [s]."""
    return x.flatten(1).sum(1)


def _descend(filter, gradient, curvature, step, weight):
    """Steepest descent with exact step length: (new filter, factor of the gradient taken off, [s])."""
    squared = _sum_per_sequence(gradient.square())
    factor = step * squared / (curvature + weight * squared).clamp(min=1e-8)  # [s]
    return filter - factor.view(-1, 1, 1, 1) * gradient, factor


def softmax(scores: torch.Tensor, softmax_reg: float | None) -> tuple[torch.Tensor, torch.Tensor]:
    """(softmax, logsumexp) over the last axis, with one more logit softmax_reg left out of the output."""
    if softmax_reg is None:
        normaliser = scores.logsumexp(-1)
    else:
        normaliser = scores.logsumexp(-1)
        normaliser = torch.logaddexp(normaliser, torch.full_like(normaliser, softmax_reg))
    return (scores - normaliser.unsqueeze(-1)).exp(), normaliser


def solve_prdimp(
    features: torch.Tensor,
    filter: torch.Tensor,
    label_density: torch.Tensor,
    log_step_length: torch.Tensor,
    filter_reg: torch.Tensor,
    sample_weight: torch.Tensor | None,
    iterations: int,
    min_filter_reg: float,
    alpha_eps: float,
    softmax_reg: float | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Steepest descent with Newton curvature on the KL loss of the filter."""
    n, k = features.shape[0], filter.shape[-1]
    weight = features.new_full((1, 1), 1 / n) if sample_weight is None else sample_weight  # g, [n | 1, s | 1]
    step, reg = log_step_length.exp(), _regulariser(filter_reg, min_filter_reg)
    density = label_density.flatten(2)  # [n, s, H' W']
    scores = apply(features, filter.unsqueeze(0))[0]
    size = scores.shape[-2:]
    scores = scores.flatten(2)
    iterates, losses = [filter], []
    for i in range(iterations + 1):
        q, normaliser = softmax(scores, softmax_reg)
        data_loss = (weight * (normaliser - (density * scores).sum(-1))).sum(0)  # [s]
        losses.append((data_loss + reg * _sum_per_sequence(filter.square())).mean())
        if i == iterations:
            break
        residual = (weight.unsqueeze(-1) * (q - density)).unflatten(-1, size)
        gradient = apply_transpose(features, residual, k) + reg * filter
        response = apply(features, gradient.unsqueeze(0))[0].flatten(2)  # u = X G
        spread = response - (q * response).sum(-1, keepdim=True)
        curvature = (q * response * spread).sum(-1).clamp(min=0)  # h, [n, s]
        filter, factor = _descend(filter, gradient, (weight * curvature).sum(0), step, reg + alpha_eps)
        scores = scores - factor.view(1, -1, 1) * response  # the response is linear: no second pass over X
        iterates.append(filter)
    return torch.stack(iterates), torch.stack(losses)


def solve_dimp(
    features: torch.Tensor,
    filter: torch.Tensor,
    label: torch.Tensor,
    target_mask: torch.Tensor,
    spatial_weight: torch.Tensor,
    log_step_length: torch.Tensor,
    filter_reg: torch.Tensor,
    sample_weight: torch.Tensor | None,
    iterations: int,
    min_filter_reg: float,
    alpha_eps: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Steepest descent with Gauss-Newton curvature on the weighted squares of DiMP."""
    n, k = features.shape[0], filter.shape[-1]
    weight = features.new_full((1, 1), 1 / n) if sample_weight is None else sample_weight
    step, reg = log_step_length.exp(), _regulariser(filter_reg, min_filter_reg)
    cell_weight = spatial_weight * weight.sqrt()[..., None, None]  # V, [n, s, H', W']
    below, above = (1 - target_mask) / 2, (1 + target_mask) / 2
    scores = apply(features, filter.unsqueeze(0))[0]
    iterates, losses = [filter], []
    for i in range(iterations + 1):
        residual = cell_weight * (below * scores.abs() + above * scores - label)
        losses.append((residual.square().sum((0, 2, 3)) + reg * _sum_per_sequence(filter.square())).mean())
        if i == iterations:
            break
        slope = cell_weight * (below * scores.detach().sign() + above)  # V a'
        gradient = apply_transpose(features, slope * residual, k) + reg * filter
        response = apply(features, gradient.unsqueeze(0))[0]  # X G
        curvature = (slope * response).square().sum((0, 2, 3))
        filter, factor = _descend(filter, gradient, curvature, step, reg + alpha_eps)
        scores = scores - factor.view(1, -1, 1, 1) * response  # the response is linear: no second pass over X
        iterates.append(filter)
    return torch.stack(iterates), torch.stack(losses)
