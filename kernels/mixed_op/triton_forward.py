"""Forward of the Triton backend: see triton_impl.py."""

import torch
from torch import Tensor

from . import triton_pool
from .triton_launch import Maps, Weights, channels_last, elementwise_grid, inner_norm, join_moments, stage


def _pools_forward(sizes, x, kinds, given, training, eps):
    """kinds: (max, average) flags; given: running (mean, var) of the pools there are. -> outs, means, vars."""
    count = sum(kinds)
    flags = {"MAX": kinds[0], "AVG": kinds[1], "BM": sizes.blocks.pixels, "BC": sizes.blocks.channels}
    shape, grid = (sizes.rows, sizes.height, sizes.width, sizes.channels), elementwise_grid(sizes, 1)
    means, variances = (
        tuple(sizes.table(1, sizes.groups, sizes.channels) for _ in range(count)) for _ in range(2)
    )
    if training:
        parts = sizes.parts(count, sizes.blocks.pixels)
        triton_pool.mixed_op_pool_moments_kernel[grid](x, *parts, *shape, **flags)
        join_moments(sizes, parts, sizes.blocks.pixels, means, variances)
    else:
        for (m, v), mean, var in zip(given, means, variances):
            mean.copy_(m.expand_as(mean[0]))
            var.copy_(v.expand_as(var[0]))
    outs = sizes.scratch(count)
    triton_pool.mixed_op_pool_norm_kernel[grid](x, outs, means, variances, *shape, EPS=eps, **flags)
    return outs, means, variances


def forward(
    x, ops, depthwise, pointwise, gamma, beta, mean, var, flavour, groups, training, eps, slope, save
) -> list[Tensor]:
    """maps, means, variances and, with `save`, per sep_conv the E inputs of its inner batch norm."""
    x, sizes = channels_last(x), Maps.of(x, groups)
    slope = 0.0 if flavour == "darts" else slope
    normed = [op for op in ops if not op.startswith("dil_conv")]
    running = dict(zip(normed, zip(mean, var)))
    maps, tables, saved = {}, {}, []
    pools = [op for op in ("max_pool_3x3", "avg_pool_3x3") if op in ops]
    if pools:
        kinds = tuple(int(op in pools) for op in ("max_pool_3x3", "avg_pool_3x3"))
        given = [running[op] for op in pools] if not training else []
        outs, means, variances = _pools_forward(sizes, x, kinds, given, training, eps)
        maps = {op: (out,) for op, out in zip(pools, outs)}
        tables = {op: pair for op, pair in zip(pools, zip(means, variances))}
    weights = Weights(sizes, depthwise, pointwise)
    stages = iter(zip(weights.taps, weights.pointwise))
    affines = iter(zip(gamma, beta))
    a = torch.relu(x) if flavour == "darts" and depthwise else x
    for op in ops:
        if op in pools:
            continue
        k, sep = int(op[-1]), op.startswith("sep_conv")
        taps, matrix = next(stages)
        ys = sizes.scratch(len(taps))
        if sep:
            used = tuple(sizes.table(len(taps), groups, sizes.channels) for _ in range(2))
            parts = sizes.parts(len(ys), sizes.blocks.stage[0]) if training else None
            stage(sizes, (a,), ys, taps, matrix, k, 1, parts=parts)
            if training:
                join_moments(sizes, parts, sizes.blocks.stage[0], *((table,) for table in used))
            else:
                for table, t in zip(used, running[op]):
                    table.copy_(t.unsqueeze(1).expand_as(table))
            g, b = (t.contiguous() for t in next(affines))
            zs = inner_norm(sizes, ys, g, b, *used, eps, slope)
            maps[op], tables[op] = sizes.scratch(len(taps)), used
            stage(sizes, zs, maps[op], *next(stages), k, 1)
            saved += ys if save else ()
        else:
            stage(sizes, (a,), ys, taps, matrix, k, 2)
            maps[op] = ys
    statistics = [tables[op][i] for i in range(2) for op in normed]
    return [y for op in ops for y in maps[op]] + statistics + saved
