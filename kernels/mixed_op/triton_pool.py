"""Triton kernels of the two 3x3 pools with their batch norm (no affine). One pass serves both; a source that
has one pool only compiles the other away (MAX, AVG)."""

import triton
import triton.language as tl

from .triton_tiles import pixels


@triton.jit
def pool_both(x, h, w, c, H, W, C, BM: tl.constexpr):
    """(maximum, its tap 0 .. 8, average, pixels inside [BM]); the first maximum in scan order, NaN wins."""
    offsets = tl.arange(0, BM)[:, None] * C + c[None, :]
    best = tl.zeros(offsets.shape, tl.float32)
    at = tl.full(offsets.shape, -1, tl.int32)
    total = tl.zeros(offsets.shape, tl.float32)
    count = tl.zeros((BM,), tl.float32)
    for tap in tl.static_range(9):
        dh, dw = tap // 3 - 1, tap % 3 - 1
        inside = (h + dh >= 0) & (h + dh < H) & (w + dw >= 0) & (w + dw < W)
        mask = inside[:, None] & (c < C)[None, :]
        v = tl.load(x + offsets + (dh * W + dw) * C, mask=mask, other=0.0).to(tl.float32)
        total += v
        count += inside.to(tl.float32)
        take = mask & ((v > best) | (v != v) | (at < 0))
        best = tl.where(take, v, best)  # [BM, BC]
        at = tl.where(take, tap, at)
    count = tl.maximum(count, 1.0)
    return best, at, total / count[:, None], count


@triton.jit
def mixed_op_pool_moments_kernel(
    x, part_mean, part_m2, rows, H, W, C,
    MAX: tl.constexpr, AVG: tl.constexpr, BM: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """Moments per tile, [pools, G, tiles, C], maximum before average. Grid: (tiles, groups, blocks)."""
    tile, group = tl.program_id(0), tl.program_id(1)
    c = tl.program_id(2) * BC + tl.arange(0, BC)
    count = tl.minimum(BM, rows - tile * BM)
    first, inside, h, w = pixels(group * rows + tile * BM, count, H, W, BM)
    best, _, average, _ = pool_both(x + first * C, h, w, c, H, W, C, BM)
    row = group * tl.num_programs(0) + tile
    if MAX:
        moments(best, inside, count, part_mean, part_m2, row, c, C)
        row += tl.num_programs(1) * tl.num_programs(0)
    if AVG:
        moments(average, inside, count, part_mean, part_m2, row, c, C)


@triton.jit
def moments(y, inside, count, part_mean, part_m2, row, c, C):
    y = tl.where(inside[:, None], y, 0.0)
    mean = tl.sum(y, 0) / count  # [BC]
    d = tl.where(inside[:, None], y - mean[None, :], 0.0)
    tl.store(part_mean + row.to(tl.int64) * C + c, mean, mask=c < C)
    tl.store(part_m2 + row.to(tl.int64) * C + c, tl.sum(d * d, 0), mask=c < C)


@triton.jit
def rstd_of(var, group, c, C, EPS: tl.constexpr):
    return 1 / tl.sqrt(tl.load(var + group * C + c, mask=c < C, other=1.0) + EPS)


@triton.jit
def mixed_op_pool_norm_kernel(
    x, outs, means, variances, rows, H, W, C,
    MAX: tl.constexpr, AVG: tl.constexpr, EPS: tl.constexpr, BM: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """Normalised pools. Tuples hold the pools there are, the maximum first; tables [G, C]."""
    tile, group = tl.program_id(0), tl.program_id(1)
    c = tl.program_id(2) * BC + tl.arange(0, BC)
    first, inside, h, w = pixels(group * rows + tile * BM, tl.minimum(BM, rows - tile * BM), H, W, BM)
    best, _, average, _ = pool_both(x + first * C, h, w, c, H, W, C, BM)
    offsets = first * C + tl.arange(0, BM)[:, None] * C + c[None, :]
    mask = inside[:, None] & (c < C)[None, :]
    if MAX:
        m = tl.load(means[0] + group * C + c, mask=c < C, other=0.0)
        y = (best - m[None, :]) * rstd_of(variances[0], group, c, C, EPS)[None, :]
        tl.store(outs[0] + offsets, y.to(x.dtype.element_ty), mask=mask)
    if AVG:
        m = tl.load(means[MAX] + group * C + c, mask=c < C, other=0.0)
        y = (average - m[None, :]) * rstd_of(variances[MAX], group, c, C, EPS)[None, :]
        tl.store(outs[MAX] + offsets, y.to(x.dtype.element_ty), mask=mask)


@triton.jit
def mixed_op_pool_sums_kernel(
    grads, outs, part1, part2, rows, C, POOLS: tl.constexpr, BM: tl.constexpr, BC: tl.constexpr
):
    """Sums of the gradient with 1 and the normalised map per tile, [pools, G, tiles, C]."""
    tile, group = tl.program_id(0), tl.program_id(1)
    c = tl.program_id(2) * BC + tl.arange(0, BC)
    r = tile * BM + tl.arange(0, BM)
    offsets = (group * rows).to(tl.int64) * C + r[:, None] * C + c[None, :]
    mask = (r < rows)[:, None] & (c < C)[None, :]
    for i in tl.static_range(POOLS):
        g = tl.load(grads[i] + offsets, mask=mask, other=0.0).to(tl.float32)
        y = tl.load(outs[i] + offsets, mask=mask, other=0.0).to(tl.float32)  # [BM, BC]
        part = ((i * tl.num_programs(1) + group) * tl.num_programs(0) + tile).to(tl.int64) * C + c
        tl.store(part1 + part, tl.sum(g, 0), mask=c < C)
        tl.store(part2 + part, tl.sum(g * y, 0), mask=c < C)


@triton.jit
def mixed_op_pool_norm_backward_kernel(
    x, grads, outs, to_pools, taps, variances, sum1, sum2, rows, H, W, C,
    MAX: tl.constexpr, AVG: tl.constexpr, TRAINING: tl.constexpr, EPS: tl.constexpr,
    BM: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """Gradients of the pools' outputs before their norm; the average's is divided by its count. taps: which
    pixel of its window is the maximum, int8."""
    tile, group = tl.program_id(0), tl.program_id(1)
    c = tl.program_id(2) * BC + tl.arange(0, BC)
    first, inside, h, w = pixels(group * rows + tile * BM, tl.minimum(BM, rows - tile * BM), H, W, BM)
    offsets = first * C + tl.arange(0, BM)[:, None] * C + c[None, :]
    mask = inside[:, None] & (c < C)[None, :]
    if MAX:
        _, at, _, _ = pool_both(x + first * C, h, w, c, H, W, C, BM)
        tl.store(taps + offsets, at.to(tl.int8), mask=mask)
    for i in tl.static_range(MAX + AVG):
        g = tl.load(grads[i] + offsets, mask=mask, other=0.0).to(tl.float32)
        if TRAINING:
            table = (i * tl.num_programs(1) + group) * C + c
            s1 = tl.load(sum1 + table, mask=c < C, other=0.0) / rows
            s2 = tl.load(sum2 + table, mask=c < C, other=0.0) / rows
            y = tl.load(outs[i] + offsets, mask=mask, other=0.0).to(tl.float32)  # [BM, BC]
            g = g - s1[None, :] - y * s2[None, :]
        g = g * rstd_of(variances[i], group, c, C, EPS)[None, :]
        if i == MAX:  # the average
            high = tl.minimum(h + 1, H - 1) - tl.maximum(h - 1, 0) + 1
            wide = tl.minimum(w + 1, W - 1) - tl.maximum(w - 1, 0) + 1
            g = g / tl.maximum(high * wide, 1).to(tl.float32)[:, None]
        tl.store(to_pools[i] + offsets, g.to(x.dtype.element_ty), mask=mask)


@triton.jit
def mixed_op_to_x_kernel(
    x, acc, to_pools, taps, to_x, count, H, W, C,
    MAX: tl.constexpr, AVG: tl.constexpr, CONVOLVED: tl.constexpr, RELU: tl.constexpr,
    BM: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """Gradient of x: what the convolutions left in acc (behind the ReLU of darts), and the pools'."""
    tile = tl.program_id(0)
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    first, inside, h, w = pixels(tile * BM, tl.minimum(BM, count - tile * BM), H, W, BM)
    base = first * C
    offsets = tl.arange(0, BM)[:, None] * C + c[None, :]
    mask = inside[:, None] & (c < C)[None, :]
    total = tl.zeros((BM, BC), tl.float32)
    if CONVOLVED:
        total += tl.load(acc + base + offsets, mask=mask, other=0.0)
        if RELU:
            value = tl.load(x + base + offsets, mask=mask, other=0.0).to(tl.float32)
            total = tl.where(value <= 0, 0.0, total)
    if MAX or AVG:
        for tap in tl.static_range(9):
            dh, dw = tap // 3 - 1, tap % 3 - 1
            near = (h + dh >= 0) & (h + dh < H) & (w + dw >= 0) & (w + dw < W)
            near = near[:, None] & (c < C)[None, :]
            to = base + offsets + (dh * W + dw) * C
            if MAX:  # the window at (dh, dw) sees this pixel as its tap 8 - tap
                g = tl.load(to_pools[0] + to, mask=near, other=0.0).to(tl.float32)
                total += tl.where(tl.load(taps + to, mask=near, other=-1) == 8 - tap, g, 0.0)
            if AVG:
                total += tl.load(to_pools[MAX] + to, mask=near, other=0.0).to(tl.float32)
    tl.store(to_x + base + offsets, total.to(to_x.dtype.element_ty), mask=mask)
