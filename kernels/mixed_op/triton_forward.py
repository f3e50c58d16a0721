"""Forward of the Triton backend: see triton_impl.py."""

import torch
from torch import Tensor

from .._layout import channels_last
from . import triton_launch as launch
from . import triton_pool
from .triton_launch import POOLS, Maps, Weights, join_moments


def _pools(sizes: Maps, x: Tensor, kinds: tuple[int, ...], given, training: bool, eps: float):
    """(maps, means, variances) of the pools there are, the maximum first. kinds: flags of maximum, average;
    given: their running (mean, var)."""
    count, (bm, bc) = sum(kinds), sizes.blocks.elements
    flags = {"MAX": kinds[0], "AVG": kinds[1], "BM": bm, "BC": bc}
    shape, grid = (sizes.rows, sizes.height, sizes.width, sizes.channels), sizes.grid(1)
    means, variances = (
        tuple(sizes.table(1, sizes.groups, sizes.channels) for _ in range(count)) for _ in range(2)
    )
    if training:
        parts = sizes.parts(count, grid[0])
        triton_pool.mixed_op_pool_moments_kernel[grid](x, *parts, *shape, **flags)
        join_moments(sizes, parts, bm, means, variances)
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
    maps: dict[str, tuple[Tensor, ...]] = {}
    tables: dict[str, tuple[Tensor, Tensor]] = {}
    saved: list[Tensor] = []
    pools = [op for op in POOLS if op in ops]
    if pools:
        given = [] if training else [running[op] for op in pools]
        kinds = tuple(int(op in pools) for op in POOLS)
        outs, means, variances = _pools(sizes, x, kinds, given, training, eps)
        maps = {op: (out,) for op, out in zip(pools, outs)}
        tables = dict(zip(pools, zip(means, variances)))
    weights = Weights(sizes, depthwise, pointwise)
    stages, affines = iter(zip(weights.taps, weights.pointwise)), iter(zip(gamma, beta))
    a = torch.relu(x) if flavour == "darts" and depthwise else x
    for op in ops:
        if op in pools:
            continue
        k, (taps, matrix) = int(op[-1]), next(stages)
        if op.startswith("dil_conv"):
            maps[op] = launch.pointwise(sizes, launch.depthwise(sizes, (a,), taps, k, 2, None), matrix)
            continue
        parts = launch.moment_parts(sizes, len(taps)) if training else None
        between = launch.depthwise(sizes, (a,), taps, k, 1, None)
        ys = launch.pointwise(sizes, between, matrix, parts=parts)
        del between
        m, v = (sizes.table(len(taps), groups, sizes.channels) for _ in range(2))
        if parts is not None:
            join_moments(sizes, parts, sizes.blocks.product[0], (m,), (v,))
        else:
            for table, t in zip((m, v), running[op]):
                table.copy_(t.unsqueeze(1).expand_as(table))
        tables[op] = m, v
        g, b = next(affines)
        norm = launch.Norm(g.contiguous(), b.contiguous(), m, v, eps, slope)
        taps, matrix = next(stages)
        maps[op] = launch.pointwise(sizes, launch.depthwise(sizes, ys, taps, k, 1, norm), matrix)
        saved += ys if save else ()
    statistics = [tables[op][i] for i in range(2) for op in normed]
    return [y for op in ops for y in maps[op]] + statistics + saved
