"""node_sum in Triton; formulas: __init__.py. A program holds a [BM, BC] tile of one BN group's [rows, C].

    forward   moments per tile -> join -> weighted sum: the node's tile stays in registers, branches stream by
    backward  S1, S2 per tile -> join -> table gradients; then the branch gradients from the same tiles
The branches are a tuple: loops over them are unrolled and one launch serves all. No atomics: tiles are joined
in a fixed order, in float64.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from .._layout import channels_last

BLOCK_M = 16
JOIN_TILES, JOIN_CHANNELS = 64, 32  # of a program that joins tiles
IDENTITY = tl.constexpr(0)
LRELU = tl.constexpr(2)


@triton.jit
def tile_of(rows, C, BM: tl.constexpr, BC: tl.constexpr):
    """(offsets [BM, BC], mask, channels [BC]) of program (row tile, channel block, group)."""
    r = tl.program_id(0) * BM + tl.arange(0, BM)
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    offsets = (tl.program_id(2).to(tl.int64) * rows + r)[:, None] * C + c[None, :]
    return offsets, (r < rows)[:, None] & (c < C)[None, :], c


@triton.jit
def table_row(b, C):
    """Start of row (b, group of this program) in a [B, G, C] table."""
    return (b * tl.num_programs(2) + tl.program_id(2)).to(tl.int64) * C


@triton.jit
def partial_row(b, C):
    """Start of row (b, group, row tile of this program) in a [B, G, tiles, C] table."""
    return ((b * tl.num_programs(2) + tl.program_id(2)) * tl.num_programs(0) + tl.program_id(0)).to(
        tl.int64
    ) * C


@triton.jit
def norm_of(gamma, beta, mean, var, b, c, C, KIND: tl.constexpr, EPS: tl.constexpr):
    """(mean, rstd, scale, beta), [BC] each; IDENTITY is mean 0, rstd 1, scale 1, beta 0."""
    m = tl.load(mean + table_row(b, C) + c, mask=c < C, other=0.0)
    v = tl.load(var + table_row(b, C) + c, mask=c < C, other=1.0)
    if KIND == IDENTITY:
        return m, v, v, m
    else:
        rstd = 1 / tl.sqrt(v + EPS)
        g = tl.load(gamma + b * C + c, mask=c < C, other=0.0)
        return m, rstd, g * rstd, tl.load(beta + b * C + c, mask=c < C, other=0.0)


@triton.jit
def node_sum_moments_kernel(
    ys, part_mean, part_m2, rows, C, KINDS: tl.constexpr, BM: tl.constexpr, BC: tl.constexpr
):
    offsets, mask, c = tile_of(rows, C, BM, BC)
    real = part_mean.dtype.element_ty
    count = tl.minimum(BM, rows - tl.program_id(0) * BM).to(real)
    for b in tl.static_range(len(KINDS)):
        mean = tl.zeros((BC,), real)
        m2 = mean + count  # IDENTITY: mean 0, variance 1
        if KINDS[b] != IDENTITY:
            y = tl.load(ys[b] + offsets, mask=mask, other=0.0).to(real)
            mean = tl.sum(y, 0) / count  # [BC]
            d = tl.where(mask, y - mean[None, :], 0.0)  # [BM, BC]
            m2 = tl.sum(d * d, 0)
        tl.store(part_mean + partial_row(b, C) + c, mean, mask=c < C)
        tl.store(part_m2 + partial_row(b, C) + c, m2, mask=c < C)


@triton.jit
def node_sum_join_moments_kernel(
    part_mean, part_m2, mean, var, rows, C, tiles, BM: tl.constexpr, BT: tl.constexpr, BC: tl.constexpr
):
    """Grid: (channel blocks, rows (b, group)); BT tiles at once, so that their loads overlap."""
    c = tl.program_id(0) * BC + tl.arange(0, BC)
    row = tl.program_id(1).to(tl.int64)  # (b, group)
    first = row * tiles * C
    m = tl.zeros((BC,), tl.float64)
    for k in range(0, tiles, BT):
        t = k + tl.arange(0, BT)
        count = tl.maximum(tl.minimum(BM, rows - t * BM), 0)  # [BT]
        mask = (t < tiles)[:, None] & (c < C)[None, :]
        tile_mean = tl.load(part_mean + first + t[:, None] * C + c[None, :], mask=mask, other=0.0)
        m += tl.sum(count[:, None] * tile_mean.to(tl.float64), 0)
    m = m / rows
    v = tl.zeros((BC,), tl.float64)
    for k in range(0, tiles, BT):
        t = k + tl.arange(0, BT)
        count = tl.maximum(tl.minimum(BM, rows - t * BM), 0)  # [BT]
        mask = (t < tiles)[:, None] & (c < C)[None, :]
        tile_mean = tl.load(part_mean + first + t[:, None] * C + c[None, :], mask=mask, other=0.0)
        d = tile_mean.to(tl.float64) - m[None, :]  # [BT, BC]
        m2 = tl.load(part_m2 + first + t[:, None] * C + c[None, :], mask=mask, other=0.0)
        v += tl.sum(m2.to(tl.float64) + count[:, None] * d * d, 0)
    real = mean.dtype.element_ty
    tl.store(mean + row * C + c, m.to(real), mask=c < C)
    tl.store(var + row * C + c, (v / rows).to(real), mask=c < C)


@triton.jit
def node_sum_weighted_sum_kernel(
    ys, out, weights, gamma, beta, mean, var, rows, C,
    KINDS: tl.constexpr, EPS: tl.constexpr, SLOPE: tl.constexpr, BM: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    offsets, mask, c = tile_of(rows, C, BM, BC)
    total = tl.zeros((BM, BC), weights.dtype.element_ty)
    for first in tl.static_range(0, len(KINDS), 4):
        # always true, but a basic block: else all arithmetic moves behind the last load and registers spill
        if tl.program_id(0) * BM < rows:
            for b in tl.static_range(first, min(first + 4, len(KINDS))):
                m, _, scale, shift = norm_of(gamma, beta, mean, var, b, c, C, KINDS[b], EPS)
                y = tl.load(ys[b] + offsets, mask=mask, other=0.0).to(total.dtype)
                z = (y - m[None, :]) * scale[None, :] + shift[None, :]  # [BM, BC]
                if KINDS[b] == LRELU:
                    z = tl.where(z > 0, z, z * SLOPE)
                total += tl.load(weights + b) * z
    tl.store(out + offsets, total.to(out.dtype.element_ty), mask=mask)


@triton.jit
def node_sum_sums_kernel(
    ys, grad, gamma, beta, mean, var, part1, part2, rows, C,
    KINDS: tl.constexpr, EPS: tl.constexpr, SLOPE: tl.constexpr, BM: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    offsets, mask, c = tile_of(rows, C, BM, BC)
    real = part1.dtype.element_ty
    g = tl.load(grad + offsets, mask=mask, other=0.0).to(real)  # [BM, BC]
    for b in tl.static_range(len(KINDS)):
        m, rstd, scale, shift = norm_of(gamma, beta, mean, var, b, c, C, KINDS[b], EPS)
        d = tl.load(ys[b] + offsets, mask=mask, other=0.0).to(real) - m[None, :]
        t = g
        if KINDS[b] == LRELU:
            t = tl.where(d * scale[None, :] + shift[None, :] > 0, g, g * SLOPE)
        tl.store(part1 + partial_row(b, C) + c, tl.sum(t, 0), mask=c < C)
        tl.store(part2 + partial_row(b, C) + c, tl.sum(t * d, 0) * rstd, mask=c < C)


@triton.jit
def node_sum_join_sums_kernel(part1, part2, sum1, sum2, C, tiles, BT: tl.constexpr, BC: tl.constexpr):
    c = tl.program_id(0) * BC + tl.arange(0, BC)
    row = tl.program_id(1).to(tl.int64)  # (b, group)
    first = row * tiles * C
    s1 = tl.zeros((BC,), tl.float64)
    s2 = tl.zeros((BC,), tl.float64)
    for k in range(0, tiles, BT):
        t = k + tl.arange(0, BT)
        at = first + t[:, None] * C + c[None, :]  # [BT, BC]
        mask = (t < tiles)[:, None] & (c < C)[None, :]
        s1 += tl.sum(tl.load(part1 + at, mask=mask, other=0.0).to(tl.float64), 0)
        s2 += tl.sum(tl.load(part2 + at, mask=mask, other=0.0).to(tl.float64), 0)
    tl.store(sum1 + row * C + c, s1.to(sum1.dtype.element_ty), mask=c < C)
    tl.store(sum2 + row * C + c, s2.to(sum2.dtype.element_ty), mask=c < C)


@triton.jit
def node_sum_table_grads_kernel(
    sum1, sum2, weights, gamma, beta, grad_weights, grad_gamma, grad_beta, groups, C,
    KINDS: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """One program per branch; BC covers all channels."""
    b = tl.program_id(0)
    c = tl.arange(0, BC)
    s1 = tl.zeros((BC,), tl.float64)
    s2 = tl.zeros((BC,), tl.float64)
    for g in range(groups):
        s1 += tl.load(sum1 + (b * groups + g) * C + c, mask=c < C, other=0.0).to(tl.float64)
        s2 += tl.load(sum2 + (b * groups + g) * C + c, mask=c < C, other=0.0).to(tl.float64)
    identity = False
    for i in tl.static_range(len(KINDS)):
        if KINDS[i] == IDENTITY:
            identity = identity | (b == i)
    w = tl.where(identity, 0.0, tl.load(weights + b))
    g = tl.where(identity, 1.0, tl.load(gamma + b * C + c, mask=c < C, other=0.0))
    shift = tl.where(identity, 0.0, tl.load(beta + b * C + c, mask=c < C, other=0.0))
    real = grad_weights.dtype.element_ty
    tl.store(grad_weights + b, tl.sum(g * s2 + shift * s1, 0).to(real))
    tl.store(grad_gamma + b * C + c, (w * s2).to(real), mask=c < C)
    tl.store(grad_beta + b * C + c, (w * s1).to(real), mask=c < C)


@triton.jit
def node_sum_branch_grads_kernel(
    ys, dys, grad, weights, gamma, beta, mean, var, sum1, sum2, rows, C,
    KINDS: tl.constexpr, WANTED: tl.constexpr, TRAINING: tl.constexpr,
    EPS: tl.constexpr, SLOPE: tl.constexpr, BM: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    offsets, mask, c = tile_of(rows, C, BM, BC)
    real = weights.dtype.element_ty
    g = tl.load(grad + offsets, mask=mask, other=0.0).to(real)  # [BM, BC]
    for b in tl.static_range(len(KINDS)):
        if WANTED[b]:
            m, rstd, scale, shift = norm_of(gamma, beta, mean, var, b, c, C, KINDS[b], EPS)
            d = tl.load(ys[b] + offsets, mask=mask, other=0.0).to(real) - m[None, :]
            t = g
            if KINDS[b] == LRELU:
                t = tl.where(d * scale[None, :] + shift[None, :] > 0, g, g * SLOPE)
            if TRAINING and KINDS[b] != IDENTITY:
                s1 = tl.load(sum1 + table_row(b, C) + c, mask=c < C, other=0.0) / rows  # [BC]
                s2 = tl.load(sum2 + table_row(b, C) + c, mask=c < C, other=0.0) / rows
                t = t - s1[None, :] - (s2 * rstd)[None, :] * d
            dy = (tl.load(weights + b) * scale)[None, :] * t
            tl.store(dys[b] + offsets, dy.to(dys[b].dtype.element_ty), mask=mask)


def _geometry(y: Tensor, branches: int, groups: int):
    """(rows per group, C, tiles, grid of tiles, grid of joins, channel block, blocks of a join)."""
    rows, channels = y.shape[0] // groups * y.shape[2] * y.shape[3], y.shape[1]
    block = min(128, triton.next_power_of_2(channels))
    tiles, lanes = triton.cdiv(rows, BLOCK_M), triton.cdiv(channels, block)
    join = min(JOIN_CHANNELS, block)
    joins = triton.cdiv(channels, join), branches * groups
    blocks = {"BT": min(JOIN_TILES, triton.next_power_of_2(tiles)), "BC": join}
    return rows, channels, tiles, (tiles, lanes, groups), joins, block, blocks


def forward(branches, weights, gamma, beta, mean, var, kinds, groups, training, eps, slope):
    ys = tuple(channels_last(y) for y in branches)
    weights, gamma, beta = weights.contiguous(), gamma.contiguous(), beta.contiguous()
    rows, channels, tiles, grid, joins, block, blocks = _geometry(ys[0], len(ys), groups)
    kinds = tuple(kinds)
    shape = (len(ys), groups, channels)
    if training:
        part_mean, part_m2 = torch.empty(
            (2, len(ys), groups, tiles, channels), dtype=gamma.dtype, device=gamma.device
        )
        used_mean = torch.empty(shape, dtype=gamma.dtype, device=gamma.device)
        used_var = torch.empty(shape, dtype=gamma.dtype, device=gamma.device)
        node_sum_moments_kernel[grid](
            ys, part_mean, part_m2, rows, channels, KINDS=kinds, BM=BLOCK_M, BC=block
        )
        node_sum_join_moments_kernel[joins](
            part_mean, part_m2, used_mean, used_var, rows, channels, tiles, BM=BLOCK_M, **blocks
        )
    else:
        used_mean, used_var = mean[:, None].expand(shape).clone(), var[:, None].expand(shape).clone()
        for b, kind in enumerate(kinds):
            if kind == IDENTITY.value:
                used_mean[b], used_var[b] = 0, 1
    out = torch.empty_like(ys[0], memory_format=torch.channels_last)
    node_sum_weighted_sum_kernel[grid](
        ys, out, weights, gamma, beta, used_mean, used_var, rows, channels,
        KINDS=kinds, EPS=eps, SLOPE=slope, BM=BLOCK_M, BC=block,
    )  # fmt: skip
    return out, used_mean, used_var


def backward(grad, branches, weights, gamma, beta, mean, var, kinds, training, eps, slope, wanted):
    ys, grad = tuple(channels_last(y) for y in branches), channels_last(grad)
    weights, gamma, beta = weights.contiguous(), gamma.contiguous(), beta.contiguous()
    mean, var = mean.contiguous(), var.contiguous()
    groups, kinds, wanted = mean.shape[1], tuple(kinds), tuple(wanted)
    rows, channels, tiles, grid, joins, block, blocks = _geometry(ys[0], len(ys), groups)
    shape = (len(ys), groups, channels)
    part1, part2 = torch.empty((2, len(ys), groups, tiles, channels), dtype=gamma.dtype, device=gamma.device)
    sum1, sum2 = torch.empty((2, *shape), dtype=gamma.dtype, device=gamma.device)
    node_sum_sums_kernel[grid](
        ys, grad, gamma, beta, mean, var, part1, part2, rows, channels,
        KINDS=kinds, EPS=eps, SLOPE=slope, BM=BLOCK_M, BC=block,
    )  # fmt: skip
    node_sum_join_sums_kernel[joins](part1, part2, sum1, sum2, channels, tiles, **blocks)
    to_weights, to_gamma, to_beta = (
        torch.empty(t.shape, dtype=t.dtype, device=t.device) for t in (weights, gamma, beta)
    )
    node_sum_table_grads_kernel[(len(ys),)](
        sum1, sum2, weights, gamma, beta, to_weights, to_gamma, to_beta, groups, channels,
        KINDS=kinds, BC=triton.next_power_of_2(channels),
    )  # fmt: skip
    gradients = [
        torch.empty_like(ys[0], memory_format=torch.channels_last) if want else ys[0].new_empty(0)
        for want in wanted
    ]
    if any(wanted):
        node_sum_branch_grads_kernel[grid](
            ys, tuple(gradients), grad, weights, gamma, beta, mean, var, sum1, sum2, rows, channels,
            KINDS=kinds, WANTED=wanted, TRAINING=training, EPS=eps, SLOPE=slope, BM=BLOCK_M, BC=block,
        )  # fmt: skip
    return gradients, to_weights, to_gamma, to_beta
