"""Ops as a PyTorch user would write them (channels_last, torch's own modules); bench/ops.py times them."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from chase_fast.kernels.prroi_pool.reference import axis_weights

IDENTITY, NORM_LRELU = 0, 2


def ramp(like: Tensor) -> Tensor:
    """A fixed incoming gradient in the layout of `like`; not constant, batch norm would swallow that."""
    values = torch.arange(like.numel(), device=like.device) % 17 - 8.0
    return torch.empty_like(like).copy_(values.view(like.shape))


def node_sum(branches, weights, gamma, beta, mean, var, kinds, groups, training) -> tuple[Tensor, ...]:
    """One F.batch_norm per branch and group, F.leaky_relu, then the weighted sum. Returns the node only."""
    out = 0
    for b, (y, kind) in enumerate(zip(branches, kinds)):
        if kind != IDENTITY:
            parts = y.chunk(groups) if training else (y,)
            normed = [
                F.batch_norm(
                    p,
                    None if training else mean[b],
                    None if training else var[b],
                    gamma[b],
                    beta[b],
                    training,
                )
                for p in parts
            ]
            y = torch.cat(normed) if len(normed) > 1 else normed[0]
            if kind == NORM_LRELU:
                y = F.leaky_relu(y, 0.01)
        out = out + weights[b] * y
    return (out,)


def sep_conv(
    x, depthwise, pointwise, gamma, beta, mean, var, stride, dilation, flavour, groups, training
) -> tuple[Tensor, ...]:
    """F.conv2d twice, in the dtype of x, one F.batch_norm per group, the activation. Returns the map only."""
    depthwise, pointwise = depthwise.to(x.dtype), pointwise.to(x.dtype)
    padding = dilation * (depthwise.shape[-1] - 1) // 2
    if flavour == "darts":
        x = F.relu(x)
    depthwise, pointwise = depthwise.to(x.dtype), pointwise.to(x.dtype)  # as autocast does
    x = F.conv2d(x, depthwise[:, None], None, stride, padding, dilation, groups=x.shape[1])
    x = F.conv2d(x, pointwise[:, :, None, None])
    parts = x.chunk(groups) if training else (x,)
    statistics = (None, None) if training else (mean, var)
    normed = [F.batch_norm(part, *statistics, gamma, beta, training) for part in parts]
    y = torch.cat(normed) if len(normed) > 1 else normed[0]
    return (F.leaky_relu(y, 0.01, inplace=True) if flavour == "chase" else y,)


def _grouped_norm(y: Tensor, gamma, beta, mean, var, groups: int, training: bool) -> Tensor:
    if not training:
        return F.batch_norm(y, mean, var, gamma, beta)
    parts = [F.batch_norm(p, None, None, gamma, beta, True) for p in y.chunk(groups)]
    return torch.cat(parts) if groups > 1 else parts[0]


def mixed_op(x, ops, depthwise, pointwise, gamma, beta, mean, var, flavour, groups, training) -> list[Tensor]:
    """Modules of a textbook search cell on channels_last maps: grouped and 1x1 convolutions edge by edge,
    torch's pools and batch norm; pools and the ReLU before the convolutions once per source. Maps only."""
    darts = flavour == "darts"
    act = F.relu if darts else F.leaky_relu
    stages, affines, running = iter(zip(depthwise, pointwise)), iter(zip(gamma, beta)), iter(zip(mean, var))
    activated = F.relu(x) if darts and depthwise else x
    maps = []

    def separable(y: Tensor, stage: tuple[Tensor, Tensor], e: int, dilation: int) -> Tensor:
        d, p = (weights[e].to(y.dtype) for weights in stage)
        y = F.conv2d(y, d[:, None], padding=dilation * (d.shape[-1] // 2), dilation=dilation, groups=len(d))
        return F.conv2d(y, p[:, :, None, None])

    for op in ops:
        if op.endswith("pool_3x3"):
            max_pool = op.startswith("max")
            y = F.max_pool2d(x, 3, 1, 1) if max_pool else F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
            m, v = next(running)
            maps.append(_grouped_norm(y, None, None, m[0], v[0], groups, training))
        elif op.startswith("dil_conv"):
            stage = next(stages)
            maps += [separable(activated, stage, e, 2) for e in range(len(stage[0]))]
        else:
            first, second, (g, b), (m, v) = next(stages), next(stages), next(affines), next(running)
            for e in range(len(g)):
                y = separable(activated, first, e, 1)
                y = act(_grouped_norm(y, g[e], b[e], m[e], v[e], groups, training))
                maps.append(separable(y, second, e, 1))
    return maps


def prroi_pool(features: Tensor, rois: Tensor, output_size, scale: float) -> Tensor:
    """Two matrix products per image, for all of its boxes at once; differentiable by autograd."""
    (rows, columns), (height, width) = output_size, features.shape[2:]
    x0, y0, x1, y1 = (rois[:, 1:] * scale).unbind(1)
    box_width, box_height = (x1 - x0).clamp(min=0), (y1 - y0).clamp(min=0)
    area = box_width * box_height / (rows * columns)
    per_area = torch.where(area == 0, 0.0, 1 / torch.where(area == 0, 1.0, area))
    weights_y = axis_weights(y0, box_height, rows, height) * per_area[:, None, None]
    weights_x = axis_weights(x0, box_width, columns, width)
    pooled, order = [], []
    for n, image in enumerate(features.contiguous()):
        boxes = (rois[:, 0] == n).nonzero()[:, 0]
        lines = torch.tensordot(weights_y[boxes], image, dims=([2], [1]))  # [R, rows, C, W]
        pooled.append(torch.matmul(lines, weights_x[boxes, None].transpose(2, 3)).transpose(1, 2))
        order.append(boxes)
    return torch.cat(pooled)[torch.cat(order).argsort()]


def pool_boxes(maps: Tensor, boxes: Tensor, size: int, scale: float) -> Tensor:
    """PrRoI pooling of P boxes of every image, as two batched matrix products.

    maps [B, C, H, W], boxes [B, P, 4] as x, y, w, h in pixels -> [B P, C, size, size].
    """
    b, c, h, w = maps.shape
    x, y, width, height = (boxes.flatten(0, 1) * scale).unbind(1)
    width, height = width.clamp(min=0), height.clamp(min=0)
    area = width * height / size**2
    per_area = torch.where(area == 0, 0.0, 1 / torch.where(area == 0, 1.0, area))
    rows = axis_weights(y, height, size, h) * per_area[:, None, None]  # [B P, size, H]
    columns = axis_weights(x, width, size, w)
    lines = rows.view(b, -1, h) @ maps.to(rows.dtype).permute(0, 2, 3, 1).reshape(b, h, w * c)
    lines = lines.view(-1, size, w, c)  # [B P, size, W, C]
    return (columns.unsqueeze(1) @ lines).permute(0, 3, 1, 2)


def kl_loss(scores: Tensor, density: Tensor, grid_scale: float) -> Tensor:
    """log_softmax and the cross entropy with a density of any mass."""
    log_q = scores.flatten(-2).log_softmax(-1).view_as(scores)
    cross = (density * scores).sum((-2, -1))
    return scores[..., 0, 0] - log_q[..., 0, 0] + math.log(grid_scale) - grid_scale * cross


def target_filter_apply(features: Tensor, filters: Tensor) -> Tensor:
    """A grouped convolution with one output channel per sequence, for each of the m filters."""
    s, k = features.shape[1], filters.shape[-1]
    images = features.flatten(1, 2)  # [n, s C, H, W]
    return torch.stack([F.conv2d(images, f, padding=k // 2, groups=s) for f in filters])


def target_filter_apply_transpose(features: Tensor, residual: Tensor, filter_size: int) -> Tensor:
    """A grouped convolution that takes channels as images and residuals as kernels."""
    n, s = features.shape[:2]
    images = features.flatten(0, 1).transpose(0, 1)  # [C, n s, H, W]
    kernels = residual.flatten(0, 1).unsqueeze(1)
    product = F.conv2d(images, kernels, padding=filter_size // 2, groups=n * s)  # [C, n s, k, k]
    return product.unflatten(1, (n, s)).sum(1).transpose(0, 1)


def target_filter_solve_prdimp(
    features: Tensor,
    filter: Tensor,
    label_density: Tensor,
    log_step_length: Tensor,
    filter_reg: Tensor,
    sample_weight: Tensor,
    iterations: int,
    min_filter_reg: float,
    alpha_eps: float,
    softmax_reg: float | None,
) -> tuple[Tensor, Tensor]:
    """The solver on these convolutions."""
    extra = None if softmax_reg is None else features.new_full((*features.shape[:2], 1), softmax_reg)

    def residual(scores):
        flat = scores.flatten(2)
        logits = flat if extra is None else torch.cat((flat, extra), -1)
        q = logits.softmax(-1)[..., : flat.shape[-1]].view_as(scores)
        weight = sample_weight[..., None, None]

        def curvature(u):
            mean = (q * u).sum((-2, -1), keepdim=True)
            return (sample_weight * (q * u * (u - mean)).sum((-2, -1)).clamp(min=0)).sum(0)

        loss = sample_weight * (logits.logsumexp(-1) - (label_density * scores).sum((-2, -1)))
        return weight * (q - label_density), curvature, loss.sum(0)

    return _steepest_descent(
        features, filter, log_step_length, filter_reg, iterations, min_filter_reg, alpha_eps, residual
    )


def target_filter_solve_dimp(
    features: Tensor,
    filter: Tensor,
    label: Tensor,
    target_mask: Tensor,
    spatial_weight: Tensor,
    log_step_length: Tensor,
    filter_reg: Tensor,
    sample_weight: Tensor,
    iterations: int,
    min_filter_reg: float,
    alpha_eps: float,
) -> tuple[Tensor, Tensor]:
    """The solver on these convolutions."""
    cell = spatial_weight * sample_weight.sqrt()[..., None, None]

    def residual(scores):
        slope = (1 - target_mask) / 2 * scores.sign() + (1 + target_mask) / 2
        error = cell * ((1 - target_mask) / 2 * scores.abs() + (1 + target_mask) / 2 * scores - label)
        tilt = cell * slope
        return tilt * error, lambda u: (tilt * u).square().sum((0, 2, 3)), error.square().sum((0, 2, 3))

    return _steepest_descent(
        features, filter, log_step_length, filter_reg, iterations, min_filter_reg, alpha_eps, residual
    )


def _steepest_descent(features, filter, log_step, filter_reg, iterations, min_reg, alpha_eps, residual):
    """residual(scores) -> residual map, curvature of a response per sequence, data loss per sequence."""
    reg = filter_reg.square().clamp(min=min_reg**2)
    scores = target_filter_apply(features, filter[None])[0]
    iterates, losses = [filter], []
    for i in range(iterations + 1):
        r, curvature, loss = residual(scores)
        losses.append((loss + reg * filter.square().sum((1, 2, 3))).mean())
        if i == iterations:
            break
        gradient = target_filter_apply_transpose(features, r, filter.shape[-1]) + reg * filter
        response = target_filter_apply(features, gradient[None])[0]
        squared = gradient.square().sum((1, 2, 3))
        bottom = (curvature(response) + (reg + alpha_eps) * squared).clamp(min=1e-8)
        factor = (log_step.exp() * squared / bottom)[:, None, None, None]
        filter = filter - factor * gradient
        scores = scores - factor[:, 0] * response
        iterates.append(filter)
    return torch.stack(iterates), torch.stack(losses)
