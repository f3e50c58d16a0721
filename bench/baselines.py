"""Ops as a PyTorch user would write them (channels_last, torch's own modules); bench/ops.py times them."""

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
    """F.conv2d twice, one F.batch_norm per group, the activation. Returns the map only."""
    padding = dilation * (depthwise.shape[-1] - 1) // 2
    if flavour == "darts":
        x = F.relu(x)
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
        d, p = (weights[e] for weights in stage)
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
