"""Triton kernels of the separable convolutions: depthwise and pointwise in one pass, and their gradients.

The depthwise output never reaches memory: a program makes [BM, BK] of it in registers and feeds it to the
product with all (up to BN = 256) output channels. All edges of a stage are one launch (a grid axis).
"""

import triton
import triton.language as tl

from .triton_tiles import depthwise, dot, pick, pixels


@triton.jit
def mixed_op_pack_taps_kernel(taps, out, rows, C, SIZES: tl.constexpr, BLOCK: tl.constexpr):
    """Stage s: [E, C, k k] -> [E, k k, C], one stage behind the other; rows = E C, SIZES = k k."""
    r = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    start = 0
    for s in tl.static_range(len(SIZES)):
        if tl.program_id(1) == s:
            for t in range(SIZES[s]):
                v = tl.load(taps[s] + r * SIZES[s] + t, mask=r < rows)
                tl.store(out + start * rows + (r // C * SIZES[s] + t) * C + r % C, v, mask=r < rows)
        start += SIZES[s]


@triton.jit
def mixed_op_cast_kernel(tensors, out, count, BLOCK: tl.constexpr):
    """Tensors of `count` elements, cast and stacked."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    v = tl.load(pick(tensors, tl.program_id(1)) + i, mask=i < count)
    first = tl.program_id(1).to(tl.int64) * count
    tl.store(out + first + i, v.to(out.dtype.element_ty), mask=i < count)


@triton.jit
def mixed_op_stage_kernel(
    xs, outs, taps, pointwise, part_mean, part_m2, rows, H, W, C,
    K: tl.constexpr, DIL: tl.constexpr, TRANSPOSED: tl.constexpr, MOMENTS: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """outs[e] = DW(xs[e]) pointwise^T (TRANSPOSED: DW(xs[e]) pointwise; K = 1: DW is the identity), and with
    MOMENTS the mean and the sum of squares about it per tile, [E, G, tiles, C].

    Grid: (tiles, groups, edges x blocks of BN channels). taps [E, K K, C], pointwise [E, C, C].
    """
    blocks = tl.cdiv(C, BN)
    e = tl.program_id(2) // blocks
    n = tl.program_id(2) % blocks * BN + tl.arange(0, BN)
    tile, group = tl.program_id(0), tl.program_id(1)
    count = tl.minimum(BM, rows - tile * BM)
    first, inside, h, w = pixels(group * rows + tile * BM, count, H, W, BM)
    x = pick(xs, e) + first * C
    weights = pointwise + e.to(tl.int64) * C * C
    total = tl.zeros((BM, BN), tl.float32)
    for k in tl.range(0, C, BK, num_stages=1):  # pipelining would buffer every tap in shared memory
        c = k + tl.arange(0, BK)
        if K == 1:
            offsets = tl.arange(0, BM)[:, None] * C + c[None, :]
            a = tl.load(x + offsets, mask=inside[:, None] & (c < C)[None, :], other=0.0)
        else:
            a = depthwise(x, taps + e * K * K * C, h, w, c, H, W, C, K, DIL, False, BM)
        if TRANSPOSED:
            b = weights + c[:, None] * C + n[None, :]
        else:
            b = weights + n[None, :] * C + c[:, None]
        b = tl.load(b, mask=(c < C)[:, None] & (n < C)[None, :], other=0.0)
        total = dot(a.to(b.dtype), b, total)
    offsets = tl.arange(0, BM)[:, None] * C + n[None, :]
    mask = inside[:, None] & (n < C)[None, :]
    out = pick(outs, e)
    tl.store(out + first * C + offsets, total.to(out.dtype.element_ty), mask=mask)
    if MOMENTS:
        mean = tl.sum(total, 0) / count
        d = tl.where(inside[:, None], total - mean[None, :], 0.0)
        part = ((e * tl.num_programs(1) + group) * tl.num_programs(0) + tile).to(tl.int64) * C
        tl.store(part_mean + part + n, mean, mask=n < C)
        tl.store(part_m2 + part + n, tl.sum(d * d, 0), mask=n < C)


@triton.jit
def mixed_op_depthwise_to_x_kernel(
    gs, taps, acc, count, H, W, C,
    EDGES: tl.constexpr, K: tl.constexpr, DIL: tl.constexpr, ADD: tl.constexpr,
    BM: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """acc (+)= sum over edges, in order, of the adjoint of DW on gs[e]. Grid: (tiles, blocks of channels)."""
    tile = tl.program_id(0)
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    first, inside, h, w = pixels(tile * BM, tl.minimum(BM, count - tile * BM), H, W, BM)
    offsets = first * C + tl.arange(0, BM)[:, None] * C + c[None, :]
    mask = inside[:, None] & (c < C)[None, :]
    total = tl.zeros((BM, BC), tl.float32)
    if ADD:
        total += tl.load(acc + offsets, mask=mask, other=0.0)
    for e in range(EDGES):
        total += depthwise(pick(gs, e) + first * C, taps + e * K * K * C, h, w, c, H, W, C, K, DIL, True, BM)
    tl.store(acc + offsets, total, mask=mask)


@triton.jit
def mixed_op_pointwise_weights_kernel(
    xs, grads, taps, part, count, chunk, H, W, C,
    K: tl.constexpr, DIL: tl.constexpr, BM: tl.constexpr, BO: tl.constexpr, BI: tl.constexpr,
):  # fmt: skip
    """part[s, e, out, in] = sum over the pixels of chunk s of grads[e] x DW(xs[e]).

    Grid: (blocks of BI in x blocks of BO out, chunks, edges); chunk is a multiple of BM.
    """
    blocks = tl.cdiv(C, BI)
    i = tl.program_id(0) % blocks * BI + tl.arange(0, BI)
    o = tl.program_id(0) // blocks * BO + tl.arange(0, BO)
    s, e = tl.program_id(1), tl.program_id(2)
    x, grad = pick(xs, e), pick(grads, e)
    total = tl.zeros((BO, BI), tl.float32)
    start = s * chunk
    for p in tl.range(start, tl.minimum(start + chunk, count), BM, num_stages=1):
        first, inside, h, w = pixels(p, tl.minimum(BM, count - p), H, W, BM)
        d = depthwise(x + first * C, taps + e * K * K * C, h, w, i, H, W, C, K, DIL, False, BM)
        offsets = tl.arange(0, BM)[:, None] * C + o[None, :]
        g = tl.load(grad + first * C + offsets, mask=inside[:, None] & (o < C)[None, :], other=0.0)
        total = dot(tl.trans(g), d.to(g.dtype), total)
    out = part + (s * tl.num_programs(2) + e).to(tl.int64) * C * C
    mask = (o < C)[:, None] & (i < C)[None, :]
    tl.store(out + o[:, None] * C + i[None, :], total, mask=mask)


@triton.jit
def tap_product(x, g, offsets, row, w, c, H, W, C, dh, dw):
    """g times x moved by (dh, dw), [BM, BC]"""
    inside = row & (w + dw >= 0) & (w + dw < W)
    mask = inside[:, None] & (c < C)[None, :]
    return g * tl.load(x + offsets + (dh * W + dw) * C, mask=mask, other=0.0).to(tl.float32)


@triton.jit
def mixed_op_depthwise_weights_kernel(
    xs, gs, part, count, chunk, H, W, C,
    K: tl.constexpr, DIL: tl.constexpr, BM: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """part[s, e, tap, c] = sum over the pixels of chunk s of gs[e] x moved xs[e].

    Grid: (chunks, blocks of channels, edges x K): a program has one row of taps.
    """
    s = tl.program_id(0)
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    e, i = tl.program_id(2) // K, tl.program_id(2) % K
    dh = (i - K // 2) * DIL
    left = -(K // 2) * DIL
    t0 = tl.zeros((BM, BC), tl.float32)
    t1 = tl.zeros((BM, BC), tl.float32)
    t2 = tl.zeros((BM, BC), tl.float32)
    t3 = tl.zeros((BM, BC), tl.float32)
    t4 = tl.zeros((BM, BC), tl.float32)
    x, grad = pick(xs, e), pick(gs, e)
    offsets = tl.arange(0, BM)[:, None] * C + c[None, :]
    start = s * chunk
    for p in tl.range(start, tl.minimum(start + chunk, count), BM, num_stages=1):
        first, inside, h, w = pixels(p, tl.minimum(BM, count - p), H, W, BM)
        y = x + first * C
        mask = inside[:, None] & (c < C)[None, :]
        g = tl.load(grad + first * C + offsets, mask=mask, other=0.0).to(tl.float32)
        row = (h + dh >= 0) & (h + dh < H)
        t0 += tap_product(y, g, offsets, row, w, c, H, W, C, dh, left)
        t1 += tap_product(y, g, offsets, row, w, c, H, W, C, dh, left + DIL)
        t2 += tap_product(y, g, offsets, row, w, c, H, W, C, dh, left + 2 * DIL)
        if K == 5:
            t3 += tap_product(y, g, offsets, row, w, c, H, W, C, dh, left + 3 * DIL)
            t4 += tap_product(y, g, offsets, row, w, c, H, W, C, dh, left + 4 * DIL)
    out = part + ((s * tl.num_programs(2) + tl.program_id(2)) * K).to(tl.int64) * C + c
    tl.store(out, tl.sum(t0, 0), mask=c < C)
    tl.store(out + C, tl.sum(t1, 0), mask=c < C)
    tl.store(out + 2 * C, tl.sum(t2, 0), mask=c < C)
    if K == 5:
        tl.store(out + 3 * C, tl.sum(t3, 0), mask=c < C)
        tl.store(out + 4 * C, tl.sum(t4, 0), mask=c < C)


@triton.jit
def mixed_op_join_parts_kernel(part, out, size, chunks, C, TAPS: tl.constexpr, BLOCK: tl.constexpr):
    """out = sum over chunks of part [chunks, size], in order; [E, TAPS, C] becomes [E, C, TAPS]."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), tl.float64)
    for s in range(chunks):
        total += tl.load(part + tl.cast(s, tl.int64) * size + i, mask=i < size, other=0.0).to(tl.float64)
    to = (i // (TAPS * C) * C + i % C) * TAPS + i // C % TAPS
    tl.store(out + to, total.to(out.dtype.element_ty), mask=i < size)
