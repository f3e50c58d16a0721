"""Triton kernels of the inner batch norm: joining statistics, applying it, its gradient. Joins are in float64
and in a fixed order."""

import triton
import triton.language as tl

from .triton_tiles import pick


@triton.jit
def mixed_op_join_moments_kernel(
    part_mean, part_m2, means, variances, rows, C, tiles, BM: tl.constexpr, BT: tl.constexpr, BC: tl.constexpr
):
    """Moments of tiles of BM pixels, [B, R, tiles, C] -> B tables [R, C] of means and biased variances.

    Grid: (blocks of channels, R, B).
    """
    c = tl.program_id(0) * BC + tl.arange(0, BC)
    row = tl.program_id(1)
    first = (tl.program_id(2) * tl.num_programs(1) + row).to(tl.int64) * tiles * C
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
    mean, var = pick(means, tl.program_id(2)), pick(variances, tl.program_id(2))
    tl.store(mean + row * C + c, m.to(mean.dtype.element_ty), mask=c < C)
    tl.store(var + row * C + c, (v / rows).to(var.dtype.element_ty), mask=c < C)


@triton.jit
def mixed_op_join_sums_kernel(
    part1, part2, sum1, sum2, total1, total2, groups, C, tiles,
    TOTALS: tl.constexpr, BT: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """Sums of tiles, [B, G, tiles, C] -> sums of groups [B, G, C] and, with TOTALS, of all [B, C].

    Grid: (blocks of channels, B).
    """
    c = tl.program_id(0) * BC + tl.arange(0, BC)
    b = tl.program_id(1)
    all1 = tl.zeros((BC,), tl.float64)
    all2 = tl.zeros((BC,), tl.float64)
    for g in range(groups):
        first = tl.cast(b * groups + g, tl.int64) * tiles * C
        s1 = tl.zeros((BC,), tl.float64)
        s2 = tl.zeros((BC,), tl.float64)
        for k in range(0, tiles, BT):
            t = k + tl.arange(0, BT)
            at = first + t[:, None] * C + c[None, :]  # [BT, BC]
            mask = (t < tiles)[:, None] & (c < C)[None, :]
            s1 += tl.sum(tl.load(part1 + at, mask=mask, other=0.0).to(tl.float64), 0)
            s2 += tl.sum(tl.load(part2 + at, mask=mask, other=0.0).to(tl.float64), 0)
        tl.store(sum1 + (b * groups + g) * C + c, s1.to(sum1.dtype.element_ty), mask=c < C)
        tl.store(sum2 + (b * groups + g) * C + c, s2.to(sum2.dtype.element_ty), mask=c < C)
        all1 += s1
        all2 += s2
    if TOTALS:
        tl.store(total1 + b * C + c, all1.to(total1.dtype.element_ty), mask=c < C)
        tl.store(total2 + b * C + c, all2.to(total2.dtype.element_ty), mask=c < C)


@triton.jit
def norm_tables(gamma, beta, mean, var, e, group, groups, c, C, EPS: tl.constexpr):
    """(mean, rstd, gamma, beta) of an edge and a group, [BC] each"""
    at = (e * groups + group) * C + c
    m = tl.load(mean + at, mask=c < C, other=0.0)
    rstd = 1 / tl.sqrt(tl.load(var + at, mask=c < C, other=1.0) + EPS)
    g = tl.load(gamma + e * C + c, mask=c < C, other=0.0)
    return m, rstd, g, tl.load(beta + e * C + c, mask=c < C, other=0.0)


@triton.jit
def mixed_op_norm_backward_kernel(
    ts, ys, outs, gamma, beta, mean, var, sum1, sum2, rows, C,
    TRAINING: tl.constexpr, EPS: tl.constexpr, BM: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """outs[e] = gamma rstd (t - S1 / rows - yhat S2 / rows). Grid: (tiles, groups, edges x
    blocks of channels)."""
    blocks = tl.cdiv(C, BC)
    e, group = tl.program_id(2) // blocks, tl.program_id(1)
    c = tl.program_id(2) % blocks * BC + tl.arange(0, BC)
    r = tl.program_id(0) * BM + tl.arange(0, BM)
    offsets = (group * rows).to(tl.int64) * C + r[:, None] * C + c[None, :]
    mask = (r < rows)[:, None] & (c < C)[None, :]
    m, rstd, g, _ = norm_tables(gamma, beta, mean, var, e, group, tl.num_programs(1), c, C, EPS)
    t = tl.load(pick(ts, e) + offsets, mask=mask, other=0.0).to(tl.float32)  # [BM, BC]
    if TRAINING:
        at = (e * tl.num_programs(1) + group) * C + c
        s1 = tl.load(sum1 + at, mask=c < C, other=0.0) / rows  # [BC]
        s2 = tl.load(sum2 + at, mask=c < C, other=0.0) / rows
        d = tl.load(pick(ys, e) + offsets, mask=mask, other=0.0).to(tl.float32) - m[None, :]
        t = t - s1[None, :] - d * (rstd * s2)[None, :]
    out = pick(outs, e)
    tl.store(out + offsets, (t * (g * rstd)[None, :]).to(out.dtype.element_ty), mask=mask)
