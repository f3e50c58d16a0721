"""Triton kernels of the pointwise convolutions of all edges of a stage, and of their weight gradients."""

import triton
import triton.language as tl

from .triton_tiles import dot, pick


@triton.jit
def mixed_op_cast_kernel(tensors, out, count, BLOCK: tl.constexpr):
    """Tensors of `count` elements, cast and stacked."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    v = tl.load(pick(tensors, tl.program_id(1)) + i, mask=i < count)
    first = tl.program_id(1).to(tl.int64) * count
    tl.store(out + first + i, v.to(out.dtype.element_ty), mask=i < count)


@triton.jit
def mixed_op_pointwise_kernel(
    xs, outs, weights, part_mean, part_m2, rows, C,
    TRANSPOSED: tl.constexpr, MOMENTS: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """outs[e] = xs[e] weights[e]^T (TRANSPOSED: xs[e] weights[e]), weights [E, C, C]; with MOMENTS the mean
    and the sum of squares about it per tile, [E, G, tiles, C]. rows: pixels of a BN group.

    Grid: (tiles x blocks of BN channels, groups, edges): blocks of a tile run together and share its xs.
    """
    blocks = tl.cdiv(C, BN)
    e, group, tile = tl.program_id(2), tl.program_id(1), tl.program_id(0) // blocks
    n = tl.program_id(0) % blocks * BN + tl.arange(0, BN)
    r = tl.arange(0, BM)
    count = tl.minimum(BM, rows - tile * BM)
    inside = r < count
    first = (group * rows + tile * BM).to(tl.int64) * C
    x, weight = pick(xs, e) + first, weights + e.to(tl.int64) * C * C
    total = tl.zeros((BM, BN), tl.float32)
    for k in range(0, C, BK):
        c = k + tl.arange(0, BK)
        a = tl.load(x + r[:, None] * C + c[None, :], mask=inside[:, None] & (c < C)[None, :], other=0.0)
        if TRANSPOSED:
            at = c[:, None] * C + n[None, :]
        else:
            at = n[None, :] * C + c[:, None]
        b = tl.load(weight + at, mask=(c < C)[:, None] & (n < C)[None, :], other=0.0)  # [BK, BN]
        total = dot(a, b, total)
    out = pick(outs, e) + first
    mask = inside[:, None] & (n < C)[None, :]
    tl.store(out + r[:, None] * C + n[None, :], total.to(out.dtype.element_ty), mask=mask)
    if MOMENTS:
        mean = tl.sum(total, 0) / count  # [BN]
        d = tl.where(inside[:, None], total - mean[None, :], 0.0)  # [BM, BN]
        tiles = tl.num_programs(0) // blocks
        part = ((e * tl.num_programs(1) + group) * tiles + tile).to(tl.int64) * C
        tl.store(part_mean + part + n, mean, mask=n < C)
        tl.store(part_m2 + part + n, tl.sum(d * d, 0), mask=n < C)


@triton.jit
def mixed_op_pointwise_weights_kernel(
    xs, grads, part, count, chunk, C, BM: tl.constexpr, BO: tl.constexpr, BI: tl.constexpr
):
    """part[s, e, out, in] = sum over the pixels of chunk s of grads[e] x xs[e].

    Grid: (blocks of BI in x blocks of BO out, chunks, edges); chunk is a multiple of BM.
    """
    blocks = tl.cdiv(C, BI)
    i = tl.program_id(0) % blocks * BI + tl.arange(0, BI)
    o = tl.program_id(0) // blocks * BO + tl.arange(0, BO)
    s, e = tl.program_id(1), tl.program_id(2)
    first = (s * chunk).to(tl.int64) * C
    x, grad = pick(xs, e) + first, pick(grads, e) + first
    left = tl.minimum(chunk, count - s * chunk)
    total = tl.zeros((BO, BI), tl.float32)
    for p in range(0, left, BM):
        r = p + tl.arange(0, BM)
        v = tl.load(x + r[:, None] * C + i[None, :], mask=(r < left)[:, None] & (i < C)[None, :], other=0.0)
        g = tl.load(
            grad + r[:, None] * C + o[None, :], mask=(r < left)[:, None] & (o < C)[None, :], other=0.0
        )
        total = dot(tl.trans(g), v, total)  # [BO, BM] [BM, BI]
    out = part + (s * tl.num_programs(2) + e).to(tl.int64) * C * C
    mask = (o < C)[:, None] & (i < C)[None, :]
    tl.store(out + o[:, None] * C + i[None, :], total, mask=mask)


@triton.jit
def mixed_op_join_parts_kernel(part, out, size, chunks, C, TAPS: tl.constexpr, BLOCK: tl.constexpr):
    """out = sum over chunks of part [chunks, size], in order; [E, TAPS, C] becomes [E, C, TAPS]."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), tl.float64)
    for s in range(chunks):
        total += tl.load(part + tl.cast(s, tl.int64) * size + i, mask=i < size, other=0.0).to(tl.float64)
    to = (i // (TAPS * C) * C + i % C) * TAPS + i // C % TAPS
    tl.store(out + to, total.to(out.dtype.element_ty), mask=i < size)
