"""Triton kernels of the depthwise convolutions of all edges of a stage, and of what their gradient needs.

Grids end in edges x blocks of channels; see triton_tiles.py for strips.
"""

import triton
import triton.language as tl

from .triton_norm import norm_tables
from .triton_tiles import COLUMNS, column_mask, depthwise, load_column, pick, store_columns, strips


@triton.jit
def mixed_op_pack_taps_kernel(taps, out, rows, C, SIZES: tl.constexpr, BLOCK: tl.constexpr):
    """Stage s: [E, C, k k] -> [E, k k, C], one stage behind the other; rows = E C, SIZES = k k."""
    r = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    start = 0
    for s in tl.static_range(len(SIZES)):
        if tl.program_id(1) == s:
            for t in range(SIZES[s]):
                v = tl.load(taps[s] + r * SIZES[s] + t, mask=r < rows)  # [BLOCK]
                tl.store(out + start * rows + (r // C * SIZES[s] + t) * C + r % C, v, mask=r < rows)
        start += SIZES[s]


@triton.jit
def mixed_op_depthwise_kernel(
    xs, outs, taps, gamma, beta, mean, var, rows, H, W, C,
    K: tl.constexpr, DIL: tl.constexpr, NORM: tl.constexpr, EPS: tl.constexpr, SLOPE: tl.constexpr,
    BM: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """outs[e] = DW(xs[e]), with NORM DW(act(BN(xs[e]))). rows: strips of a BN group.

    Grid: (tiles, groups, edges x blocks). taps [E, K K, C]; gamma, beta [E, C]; mean, var [E, G, C].
    """
    blocks = tl.cdiv(C, BC)
    e, group = tl.program_id(2) // blocks, tl.program_id(1)
    c = tl.program_id(2) % blocks * BC + tl.arange(0, BC)
    tile = tl.program_id(0) * BM
    offsets, h, w = strips(group * rows + tile, rows - tile, c, H, W, C, BM)  # [BM, BC], [BM], [BM]
    zero = tl.zeros((BM, BC), tl.float32)
    if NORM:
        m, rstd, g, shift = norm_tables(gamma, beta, mean, var, e, group, tl.num_programs(1), c, C, EPS)
        scale = g * rstd  # [BC]
    else:
        m, scale, shift = c, c, c
    a0, a1, a2, a3, a4, a5 = depthwise(
        pick(xs, e) + offsets, taps + e * K * K * C, h, w, c, H, W, C, m, scale, shift,
        zero, zero, zero, zero, zero, zero, K, DIL, False, NORM, SLOPE,
    )  # fmt: skip
    store_columns(pick(outs, e) + offsets, h, w, c, W, C, a0, a1, a2, a3, a4, a5)


@triton.jit
def mixed_op_depthwise_to_x_kernel(
    gs, taps, acc, rows, H, W, C,
    EDGES: tl.constexpr, K: tl.constexpr, DIL: tl.constexpr, ADD: tl.constexpr,
    BM: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """acc (+)= sum over edges, in order, of the adjoint of DW on gs[e]. Grid: (tiles, blocks)."""
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    tile = tl.program_id(0) * BM
    offsets, h, w = strips(tile, rows - tile, c, H, W, C, BM)  # [BM, BC], [BM], [BM]
    a0 = tl.zeros((BM, BC), tl.float32)
    a1, a2, a3, a4, a5 = a0, a0, a0, a0, a0
    if ADD:
        a0 = load_column(acc + offsets, h >= 0, w, c, W, C, 0)
        a1 = load_column(acc + offsets, h >= 0, w, c, W, C, 1)
        a2 = load_column(acc + offsets, h >= 0, w, c, W, C, 2)
        a3 = load_column(acc + offsets, h >= 0, w, c, W, C, 3)
        a4 = load_column(acc + offsets, h >= 0, w, c, W, C, 4)
        a5 = load_column(acc + offsets, h >= 0, w, c, W, C, 5)
    for e in range(EDGES):
        a0, a1, a2, a3, a4, a5 = depthwise(
            pick(gs, e) + offsets, taps + e * K * K * C, h, w, c, H, W, C, c, c, c,
            a0, a1, a2, a3, a4, a5, K, DIL, True, False, 0.0,
        )  # fmt: skip
    store_columns(acc + offsets, h, w, c, W, C, a0, a1, a2, a3, a4, a5)


@triton.jit
def behind_norm(y, t, row, w, c, W, C, m, scale, shift, D: tl.constexpr, SLOPE: tl.constexpr):
    """(act'(z) t, that times y - mean) at column D"""
    d = load_column(y, row, w, c, W, C, D) - m[None, :]  # [BM, BC]
    t = tl.where(d * scale[None, :] + shift[None, :] > 0, t, t * SLOPE)
    t = tl.where(column_mask(row, w, c, W, C, D), t, 0.0)
    return t, t * d


@triton.jit
def mixed_op_depthwise_to_norm_kernel(
    gs, ys, ts, taps, gamma, beta, mean, var, part1, part2, rows, H, W, C,
    K: tl.constexpr, EPS: tl.constexpr, SLOPE: tl.constexpr, BM: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """ts[e] = act'(z) x adjoint of DW on gs[e], and per tile its sums with 1 and yhat, [E, G, tiles, C].

    Grid: as mixed_op_depthwise_kernel.
    """
    blocks = tl.cdiv(C, BC)
    e, group = tl.program_id(2) // blocks, tl.program_id(1)
    c = tl.program_id(2) % blocks * BC + tl.arange(0, BC)
    tile = tl.program_id(0) * BM
    offsets, h, w = strips(group * rows + tile, rows - tile, c, H, W, C, BM)  # [BM, BC], [BM], [BM]
    zero = tl.zeros((BM, BC), tl.float32)
    a0, a1, a2, a3, a4, a5 = depthwise(
        pick(gs, e) + offsets, taps + e * K * K * C, h, w, c, H, W, C, c, c, c,
        zero, zero, zero, zero, zero, zero, K, 1, True, False, 0.0,
    )  # fmt: skip
    m, rstd, g, shift = norm_tables(gamma, beta, mean, var, e, group, tl.num_programs(1), c, C, EPS)
    scale = g * rstd  # [BC]
    y, row = pick(ys, e) + offsets, h >= 0
    a0, d0 = behind_norm(y, a0, row, w, c, W, C, m, scale, shift, 0, SLOPE)
    a1, d1 = behind_norm(y, a1, row, w, c, W, C, m, scale, shift, 1, SLOPE)
    a2, d2 = behind_norm(y, a2, row, w, c, W, C, m, scale, shift, 2, SLOPE)
    a3, d3 = behind_norm(y, a3, row, w, c, W, C, m, scale, shift, 3, SLOPE)
    a4, d4 = behind_norm(y, a4, row, w, c, W, C, m, scale, shift, 4, SLOPE)
    a5, d5 = behind_norm(y, a5, row, w, c, W, C, m, scale, shift, 5, SLOPE)
    store_columns(pick(ts, e) + offsets, h, w, c, W, C, a0, a1, a2, a3, a4, a5)
    part = ((e * tl.num_programs(1) + group) * tl.num_programs(0) + tl.program_id(0)).to(tl.int64) * C + c
    tl.store(part1 + part, tl.sum(a0 + a1 + a2 + a3 + a4 + a5, 0), mask=c < C)
    tl.store(part2 + part, tl.sum(d0 + d1 + d2 + d3 + d4 + d5, 0) * rstd, mask=c < C)


@triton.jit
def mixed_op_depthwise_weights_kernel(
    xs, gs, part, gamma, beta, mean, var, rows, chunk, chunks, H, W, C,
    K: tl.constexpr, DIL: tl.constexpr, NORM: tl.constexpr, EPS: tl.constexpr, SLOPE: tl.constexpr,
    BM: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """part[s, e, tap, c] = sum over the strips of chunk s of gs[e] x moved xs[e] (NORM: act(BN(xs[e]))).

    Grid: (groups x chunks, blocks, edges x K): a program has one row of taps. rows, chunk: strips.
    """
    s = tl.program_id(0)
    group, start = s // chunks, s % chunks * chunk
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    e, i = tl.program_id(2) // K, tl.program_id(2) % K
    dh = (i - K // 2) * DIL
    reach: tl.constexpr = K // 2 * DIL
    if NORM:
        groups = tl.num_programs(0) // chunks
        m, rstd, gain, shift = norm_tables(gamma, beta, mean, var, e, group, groups, c, C, EPS)
        scale = gain * rstd  # [BC]
    else:
        m, scale, shift = c, c, c
    t0 = tl.zeros((BM, BC), tl.float32)
    t1, t2, t3, t4 = t0, t0, t0, t0
    x, grad = pick(xs, e), pick(gs, e)
    for p in tl.range(start, tl.minimum(start + chunk, rows), BM, num_stages=1):
        offsets, h, w = strips(group * rows + p, rows - p, c, H, W, C, BM)  # [BM, BC], [BM], [BM]
        g, row = grad + offsets, h >= 0
        g0 = load_column(g, row, w, c, W, C, 0)  # [BM, BC]
        g1 = load_column(g, row, w, c, W, C, 1)
        g2 = load_column(g, row, w, c, W, C, 2)
        g3 = load_column(g, row, w, c, W, C, 3)
        g4 = load_column(g, row, w, c, W, C, 4)
        g5 = load_column(g, row, w, c, W, C, 5)
        row = (h + dh >= 0) & (h + dh < H)
        y = x + offsets + dh * W * C
        columns = (g0, g1, g2, g3, g4, g5)
        for d in tl.static_range(-reach, reach + COLUMNS):
            mask = (row & (w + d >= 0) & (w + d < W))[:, None] & (c < C)[None, :]
            v = tl.load(y + d * C, mask=mask, other=0.0).to(tl.float32)  # [BM, BC]
            if NORM:
                z = (v - m[None, :]) * scale[None, :] + shift[None, :]
                v = tl.where(mask, tl.where(z <= 0, z * SLOPE, z), 0.0)
            if d + reach >= 0 and d + reach < COLUMNS:
                t0 += columns[d + reach] * v
            if d + reach - DIL >= 0 and d + reach - DIL < COLUMNS:
                t1 += columns[d + reach - DIL] * v
            if d + reach - 2 * DIL >= 0 and d + reach - 2 * DIL < COLUMNS:
                t2 += columns[d + reach - 2 * DIL] * v
            if K == 5 and d + reach - 3 * DIL >= 0 and d + reach - 3 * DIL < COLUMNS:
                t3 += columns[d + reach - 3 * DIL] * v
            if K == 5 and d + reach - 4 * DIL >= 0 and d + reach - 4 * DIL < COLUMNS:
                t4 += columns[d + reach - 4 * DIL] * v
    out = part + (s * tl.num_programs(2) + tl.program_id(2)).to(tl.int64) * K * C + c
    tl.store(out, tl.sum(t0, 0), mask=c < C)
    tl.store(out + C, tl.sum(t1, 0), mask=c < C)
    tl.store(out + 2 * C, tl.sum(t2, 0), mask=c < C)
    if K == 5:
        tl.store(out + 3 * C, tl.sum(t3, 0), mask=c < C)
        tl.store(out + 4 * C, tl.sum(t4, 0), mask=c < C)
