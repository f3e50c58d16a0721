"""sep_conv in Triton; formulas: __init__.py. Maps are NHWC: [rows, C], a row is a pixel of an image.

    inference  one kernel: depthwise -> product -> batch norm with running statistics -> activation
    training   the same tile with its moments -> join -> normalise
    backward   S1, S2 per tile -> join, with the gradients of gamma and beta -> gradient of the product ->
               gradient between depthwise and pointwise -> gradients of x and, by parts of the image rows, of
               the depthwise; gradient of the pointwise by parts of the pixels, the depthwise computed again
No tile straddles two BN groups. No atomics: partial results are joined in a fixed order, in float64.
Sums are float32, whatever the dtype of the maps.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from .._dispatch import interpreting
from .native import channels_last

# Tiles: pixels (M), channels summed over in a step (K), channels of the result (N); of elementwise kernels
# and joins: rows and channels. Chosen for sm_90 at C = 256: no spills, 16 warps or more on a multiprocessor.
BLOCK_M, BLOCK_K, BLOCK_N = 64, 32, 256
FRAME_M, FRAME_K, FRAME_N, FRAME_WARPS = 16, 128, 64, 8  # of few pixels; N also twice that, K then half
REDUCE_M, REDUCE_C = 64, 64
DEPTHWISE_M, DEPTHWISE_C, TAPS_UNROLL = 32, 64, 4
WEIGHT_M, WEIGHT_C = 32, 64
JOIN_T, JOIN_C = 32, 32
PROGRAMS = 120  # that fill the GPU: an H100 or H200 has 132 multiprocessors
INTERPRETED = tl.constexpr(interpreting())


@triton.jit
def dot(a, b, total):
    """total + a b; float32 products are three of TF32, bfloat16 ones exact."""
    if INTERPRETED:  # the interpreter holds bfloat16 as integers
        return tl.dot(a.to(tl.float32), b.to(tl.float32), total)
    else:
        return tl.dot(a, b, total, input_precision="tf32x3")


@triton.jit
def cell_of(row, valid, H, W, OH, OW, K: tl.constexpr, STRIDE: tl.constexpr, DILATION: tl.constexpr):
    """Input pixel under the first tap of output pixels `row` [BM]: its row, column, index in the batch."""
    top = row // OW % OH * STRIDE - DILATION * (K - 1) // 2
    left = row % OW * STRIDE - DILATION * (K - 1) // 2
    return tl.where(valid, top, -H - DILATION * K), left, (row // (OW * OH) * H + top) * W + left


@triton.jit
def depthwise_tile(
    x, taps, top, left, origin, c, C, H, W,
    K: tl.constexpr, DILATION: tl.constexpr, RELU: tl.constexpr,
):  # fmt: skip
    """Depthwise outputs [BM, BK] of the pixels of `cell_of`, channels c; zero outside. taps: [K * K, C]."""
    total = tl.zeros((top.shape[0], c.shape[0]), tl.float32)
    start = x + origin.to(tl.int64)[:, None] * C + c[None, :]
    for i in range(K):
        y = top + i * DILATION
        for j in tl.static_range(K):
            q = left + j * DILATION
            inside = (y >= 0) & (y < H) & (q >= 0) & (q < W)
            v = tl.load(
                start + (i * W + j) * DILATION * C, mask=inside[:, None] & (c < C)[None, :], other=0.0
            ).to(tl.float32)
            if RELU:
                v = tl.where(v < 0, 0.0, v)
            total += v * tl.load(taps + (i * K + j) * C + c, mask=c < C, other=0.0)[None, :]
    return total


@triton.jit
def product_tile(
    x, taps, pointwise, row, valid, d, C, D, H, W, OH, OW,
    K: tl.constexpr, STRIDE: tl.constexpr, DILATION: tl.constexpr, RELU: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """pointwise [D, C] x depthwise of the pixels `row` [BM], channels d [BN]: [BM, BN], 0 if not valid."""
    top, left, origin = cell_of(row, valid, H, W, OH, OW, K, STRIDE, DILATION)
    total = tl.zeros((row.shape[0], d.shape[0]), tl.float32)
    for k in tl.range(0, C, BK, num_stages=1):  # a pipeline would copy every tap to shared memory
        c = k + tl.arange(0, BK)
        a = depthwise_tile(x, taps, top, left, origin, c, C, H, W, K, DILATION, RELU)
        inside = (d < D)[:, None] & (c < C)[None, :]
        b = tl.load(pointwise + d[:, None] * C + c[None, :], mask=inside, other=0.0)
        stored = x.dtype.element_ty
        total = dot(a.to(stored), tl.trans(b.to(stored)), total)
    return total


@triton.jit
def norm_of(gamma, beta, mean, var, group, d, D, EPS: tl.constexpr):
    """(mean, rstd, gamma * rstd, beta) of a BN group, [BN] each."""
    m = tl.load(mean + group * D + d, mask=d < D, other=0.0)
    rstd = 1 / tl.sqrt(tl.load(var + group * D + d, mask=d < D, other=1.0) + EPS)
    g = tl.load(gamma + d, mask=d < D, other=0.0)
    return m, rstd, g * rstd, tl.load(beta + d, mask=d < D, other=0.0)


@triton.jit
def normalised(y, m, scale, shift, LRELU: tl.constexpr, SLOPE: tl.constexpr):
    z = (y - m[None, :]) * scale[None, :] + shift[None, :]
    if LRELU:
        z = tl.where(z > 0, z, z * SLOPE)
    return z


@triton.jit
def sep_conv_inference_kernel(
    x, taps, pointwise, gamma, beta, mean, var, y, used_mean, used_var, rows, groups, C, D, H, W, OH, OW,
    K: tl.constexpr, STRIDE: tl.constexpr, DILATION: tl.constexpr, RELU: tl.constexpr,
    EPS: tl.constexpr, SLOPE: tl.constexpr, BM: tl.constexpr, BK: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """One program per (row tile, tile of D). The first row tile also writes the statistics [groups, D]."""
    row = tl.program_id(0) * BM + tl.arange(0, BM)
    d = tl.program_id(1) * BN + tl.arange(0, BN)
    product = product_tile(
        x, taps, pointwise, row, row < rows, d, C, D, H, W, OH, OW, K, STRIDE, DILATION, RELU, BK
    )
    m, _, scale, shift = norm_of(gamma, beta, mean, var, 0, d, D, EPS)
    z = normalised(product, m, scale, shift, not RELU, SLOPE)
    inside = (row < rows)[:, None] & (d < D)[None, :]
    tl.store(y + row.to(tl.int64)[:, None] * D + d[None, :], z.to(y.dtype.element_ty), mask=inside)
    if tl.program_id(0) == 0:
        v = tl.load(var + d, mask=d < D, other=0.0)
        for g in range(groups):
            tl.store(used_mean + g * D + d, m, mask=d < D)
            tl.store(used_var + g * D + d, v, mask=d < D)


@triton.jit
def sep_conv_product_kernel(
    x, taps, pointwise, product, part_mean, part_m2, rows, C, D, H, W, OH, OW,
    K: tl.constexpr, STRIDE: tl.constexpr, DILATION: tl.constexpr, RELU: tl.constexpr,
    MOMENTS: tl.constexpr, BM: tl.constexpr, BK: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """One program per (row tile of a group, tile of D, group); rows are those of a group."""
    r = tl.program_id(0) * BM + tl.arange(0, BM)
    row = tl.program_id(2) * rows + r
    d = tl.program_id(1) * BN + tl.arange(0, BN)
    total = product_tile(
        x, taps, pointwise, row, r < rows, d, C, D, H, W, OH, OW, K, STRIDE, DILATION, RELU, BK
    )
    inside = (r < rows)[:, None] & (d < D)[None, :]
    offsets = row.to(tl.int64)[:, None] * D + d[None, :]
    tl.store(product + offsets, total.to(product.dtype.element_ty), mask=inside)
    if MOMENTS:
        mean = tl.sum(total, 0) / tl.minimum(BM, rows - tl.program_id(0) * BM).to(tl.float32)
        delta = tl.where((r < rows)[:, None], total - mean[None, :], 0.0)
        part = (tl.program_id(2) * tl.num_programs(0) + tl.program_id(0)).to(tl.int64) * D + d
        tl.store(part_mean + part, mean, mask=d < D)
        tl.store(part_m2 + part, tl.sum(delta * delta, 0), mask=d < D)


@triton.jit
def sep_conv_join_moments_kernel(
    part_mean, part_m2, mean, var, rows, D, tiles, BM: tl.constexpr, BT: tl.constexpr, BC: tl.constexpr
):
    """Mean and variance [groups, D] from those of `tiles` tiles of BM rows; one program per (BC, group)."""
    d = tl.program_id(0) * BC + tl.arange(0, BC)
    first = tl.program_id(1).to(tl.int64) * tiles * D
    m = tl.zeros((BC,), tl.float64)
    for k in range(0, tiles, BT):
        t = k + tl.arange(0, BT)
        inside = (t < tiles)[:, None] & (d < D)[None, :]
        part = tl.load(part_mean + first + t[:, None] * D + d[None, :], mask=inside, other=0.0)
        m += tl.sum(part.to(tl.float64) * tl.minimum(BM, rows - t * BM)[:, None], 0)
    m = m / rows
    v = tl.zeros((BC,), tl.float64)
    for k in range(0, tiles, BT):
        t = k + tl.arange(0, BT)
        inside = (t < tiles)[:, None] & (d < D)[None, :]
        at = first + t[:, None] * D + d[None, :]
        delta = tl.load(part_mean + at, mask=inside, other=0.0).to(tl.float64) - m[None, :]
        within = tl.load(part_m2 + at, mask=inside, other=0.0).to(tl.float64)
        between = delta * delta * tl.minimum(BM, rows - t * BM)[:, None]
        v += tl.sum(within + tl.where(inside, between, 0.0), 0)
    tl.store(mean + tl.program_id(1) * D + d, m.to(tl.float32), mask=d < D)
    tl.store(var + tl.program_id(1) * D + d, (v / rows).to(tl.float32), mask=d < D)


@triton.jit
def sep_conv_normalise_kernel(
    product, y, gamma, beta, mean, var, rows, D,
    LRELU: tl.constexpr, EPS: tl.constexpr, SLOPE: tl.constexpr, BM: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """y may be the product itself."""
    r = tl.program_id(0) * BM + tl.arange(0, BM)
    d = tl.program_id(1) * BC + tl.arange(0, BC)
    offsets = (tl.program_id(2).to(tl.int64) * rows + r)[:, None] * D + d[None, :]
    inside = (r < rows)[:, None] & (d < D)[None, :]
    m, _, scale, shift = norm_of(gamma, beta, mean, var, tl.program_id(2), d, D, EPS)
    z = normalised(
        tl.load(product + offsets, mask=inside, other=0.0).to(tl.float32), m, scale, shift, LRELU, SLOPE
    )
    tl.store(y + offsets, z.to(y.dtype.element_ty), mask=inside)


@triton.jit
def norm_grad(grad, product, offsets, inside, m, scale, shift, LRELU: tl.constexpr, SLOPE: tl.constexpr):
    """(gradient of BN's output, product - mean), [BM, BN] each; the gradient is 0 outside."""
    g = tl.load(grad + offsets, mask=inside, other=0.0).to(tl.float32)
    y = tl.load(product + offsets, mask=inside, other=0.0).to(tl.float32) - m[None, :]
    if LRELU:
        g = tl.where(y * scale[None, :] + shift[None, :] > 0, g, g * SLOPE)
    return g, y


@triton.jit
def sep_conv_sums_kernel(
    grad, product, gamma, beta, mean, var, part1, part2, rows, D,
    LRELU: tl.constexpr, EPS: tl.constexpr, SLOPE: tl.constexpr, BM: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """S1 = sum g phi', S2 = sum g phi' yhat of a tile of rows, as in node_sum."""
    r = tl.program_id(0) * BM + tl.arange(0, BM)
    d = tl.program_id(1) * BC + tl.arange(0, BC)
    offsets = (tl.program_id(2).to(tl.int64) * rows + r)[:, None] * D + d[None, :]
    inside = (r < rows)[:, None] & (d < D)[None, :]
    m, rstd, scale, shift = norm_of(gamma, beta, mean, var, tl.program_id(2), d, D, EPS)
    g, y = norm_grad(grad, product, offsets, inside, m, scale, shift, LRELU, SLOPE)
    part = (tl.program_id(2) * tl.num_programs(0) + tl.program_id(0)).to(tl.int64) * D + d
    tl.store(part1 + part, tl.sum(g, 0), mask=d < D)
    tl.store(part2 + part, tl.sum(g * y, 0) * rstd, mask=d < D)


@triton.jit
def joined(part, first, d, D, tiles, BT: tl.constexpr):
    """Sum of rows first ... first + tiles of part [., D] at columns d, in float64."""
    total = tl.zeros((d.shape[0],), tl.float64)
    for k in range(0, tiles, BT):
        t = k + tl.arange(0, BT)
        inside = (t < tiles)[:, None] & (d < D)[None, :]
        at = (first + t).to(tl.int64)[:, None] * D + d[None, :]
        total += tl.sum(tl.load(part + at, mask=inside, other=0.0).to(tl.float64), 0)
    return total


@triton.jit
def sep_conv_join_sums_kernel(
    part1, part2, sum1, sum2, grad_gamma, grad_beta, groups, D, tiles, BT: tl.constexpr, BC: tl.constexpr
):
    """S1, S2 [groups, D], and the gradients of gamma and beta, which are their sums over the groups."""
    d = tl.program_id(0) * BC + tl.arange(0, BC)
    to_gamma = tl.zeros((BC,), tl.float64)
    to_beta = tl.zeros((BC,), tl.float64)
    for g in range(groups):
        s1 = joined(part1, g * tiles, d, D, tiles, BT)
        s2 = joined(part2, g * tiles, d, D, tiles, BT)
        tl.store(sum1 + g * D + d, s1.to(tl.float32), mask=d < D)
        tl.store(sum2 + g * D + d, s2.to(tl.float32), mask=d < D)
        to_beta += s1
        to_gamma += s2
    tl.store(grad_gamma + d, to_gamma.to(tl.float32), mask=d < D)
    tl.store(grad_beta + d, to_beta.to(tl.float32), mask=d < D)


@triton.jit
def sep_conv_product_grad_kernel(
    grad, product, gamma, beta, mean, var, sum1, sum2, out, rows, D,
    LRELU: tl.constexpr, TRAINING: tl.constexpr, EPS: tl.constexpr, SLOPE: tl.constexpr,
    BM: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """Gradient of the pointwise outputs."""
    r = tl.program_id(0) * BM + tl.arange(0, BM)
    d = tl.program_id(1) * BC + tl.arange(0, BC)
    group = tl.program_id(2)
    offsets = (group.to(tl.int64) * rows + r)[:, None] * D + d[None, :]
    inside = (r < rows)[:, None] & (d < D)[None, :]
    m, rstd, scale, shift = norm_of(gamma, beta, mean, var, group, d, D, EPS)
    g, y = norm_grad(grad, product, offsets, inside, m, scale, shift, LRELU, SLOPE)
    if TRAINING:
        s1 = tl.load(sum1 + group * D + d, mask=d < D, other=0.0) / rows
        s2 = tl.load(sum2 + group * D + d, mask=d < D, other=0.0) / rows
        g = g - s1[None, :] - (s2 * rstd)[None, :] * y
    tl.store(out + offsets, (g * scale[None, :]).to(out.dtype.element_ty), mask=inside)


@triton.jit
def sep_conv_between_grad_kernel(
    grad, pointwise, between, pixels, C, D, BM: tl.constexpr, BK: tl.constexpr, BN: tl.constexpr
):
    """Gradient [pixels, C] of the depthwise outputs from that of the pointwise outputs [pixels, D]."""
    row = tl.program_id(0) * BM + tl.arange(0, BM)
    c = tl.program_id(1) * BN + tl.arange(0, BN)
    total = tl.zeros((BM, BN), tl.float32)
    start = grad + row.to(tl.int64)[:, None] * D
    stored = between.dtype.element_ty
    for k in tl.range(0, D, BK, num_stages=2):
        d = k + tl.arange(0, BK)
        a = tl.load(start + d[None, :], mask=(row < pixels)[:, None] & (d < D)[None, :], other=0.0)
        inside = (d < D)[:, None] & (c < C)[None, :]
        b = tl.load(pointwise + d[:, None] * C + c[None, :], mask=inside, other=0.0)
        total = dot(a, b.to(stored), total)
    inside = (row < pixels)[:, None] & (c < C)[None, :]
    tl.store(between + row.to(tl.int64)[:, None] * C + c[None, :], total.to(stored), mask=inside)


@triton.jit
def sep_conv_x_grad_kernel(
    between, x, taps, grad_x, pixels, C, H, W, OH, OW,
    K: tl.constexpr, STRIDE: tl.constexpr, DILATION: tl.constexpr, RELU: tl.constexpr,
    BM: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """One program per (tile of input pixels, channels): sum of the outputs that a pixel reached."""
    p = tl.program_id(0) * BM + tl.arange(0, BM)
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    n = p // (W * H)
    bottom = tl.where(p < pixels, p // W % H + DILATION * (K - 1) // 2, -1)
    right = p % W + DILATION * (K - 1) // 2
    total = tl.zeros((BM, BC), tl.float32)
    start = between + ((n * OH + bottom) * OW + right).to(tl.int64)[:, None] * C + c[None, :]  # stride 1
    for i in range(K):
        y = bottom - i * DILATION  # of the output pixel, times the stride
        for j in tl.static_range(K):
            q = right - j * DILATION
            hit = (y >= 0) & (y < OH * STRIDE) & (q >= 0) & (q < OW * STRIDE)
            at = start - (i * OW + j) * DILATION * C
            if STRIDE > 1:
                hit = hit & (y % STRIDE == 0) & (q % STRIDE == 0)
                pixel = (n * OH + y // STRIDE) * OW + q // STRIDE
                at = between + pixel.to(tl.int64)[:, None] * C + c[None, :]
            g = tl.load(at, mask=hit[:, None] & (c < C)[None, :], other=0.0).to(tl.float32)
            total += g * tl.load(taps + (i * K + j) * C + c, mask=c < C, other=0.0)[None, :]
    offsets = p.to(tl.int64)[:, None] * C + c[None, :]
    inside = (p < pixels)[:, None] & (c < C)[None, :]
    if RELU:
        total = tl.where(tl.load(x + offsets, mask=inside, other=0.0) <= 0, 0.0, total)
    tl.store(grad_x + offsets, total.to(grad_x.dtype.element_ty), mask=inside)


@triton.jit
def sep_conv_taps_grad_kernel(
    x, between, part, lines, share, C, H, W, OH, OW,
    K: tl.constexpr, STRIDE: tl.constexpr, DILATION: tl.constexpr, RELU: tl.constexpr,
    BT: tl.constexpr, BC: tl.constexpr, UNROLL: tl.constexpr,
):  # fmt: skip
    """part [parts, K * K, C]: gradients of the taps over `share` of the `lines` (rows of output images); one
    program per (part, channels). A thread has its taps and channels and walks over the pixels: a tile of
    pixels would be reduced across threads for every tap."""
    t = tl.arange(0, BT)
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    channel = (c < C)[None, :]
    column = t % K * DILATION - DILATION * (K - 1) // 2
    total = tl.zeros((BT, BC), tl.float32)
    first = tl.program_id(0) * share
    for line in range(first, tl.minimum(first + share, lines)):
        y = line % OH * STRIDE + t // K * DILATION - DILATION * (K - 1) // 2
        inside = (t < K * K) & (y >= 0) & (y < H)
        start = x + ((line // OH * H + y) * W + column).to(tl.int64)[:, None] * C + c[None, :]
        grads = between + tl.cast(line, tl.int64) * OW * C + c
        for left in range(0, OW, UNROLL):
            for u in tl.static_range(UNROLL):  # loads in flight
                q = left + u
                hit = inside & (column + q * STRIDE >= 0) & (column + q * STRIDE < W)
                v = tl.load(start + q * STRIDE * C, mask=hit[:, None] & channel, other=0.0).to(tl.float32)
                if RELU:
                    v = tl.where(v < 0, 0.0, v)
                g = tl.load(grads + q * C, mask=(c < C) & (q < OW), other=0.0).to(tl.float32)
                total += v * g[None, :]
    at = (tl.program_id(0).to(tl.int64) * (K * K) + t)[:, None] * C + c[None, :]
    tl.store(part + at, total, mask=(t < K * K)[:, None] & channel)


@triton.jit
def sep_conv_pointwise_grad_kernel(
    x, taps, grad, part, pixels, share, C, D, H, W, OH, OW,
    K: tl.constexpr, STRIDE: tl.constexpr, DILATION: tl.constexpr, RELU: tl.constexpr,
    BM: tl.constexpr, BD: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """part [parts, D, C]: gradient of the pointwise outputs^T x depthwise outputs over `share` pixels; one
    program per (part, tile of C, tile of D)."""
    first = tl.program_id(0) * share
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    d = tl.program_id(2) * BD + tl.arange(0, BD)
    total = tl.zeros((BD, BC), tl.float32)
    for k in tl.range(first, tl.minimum(first + share, pixels), BM, num_stages=1):
        row = k + tl.arange(0, BM)
        top, left, origin = cell_of(row, row < pixels, H, W, OH, OW, K, STRIDE, DILATION)
        a = depthwise_tile(x, taps, top, left, origin, c, C, H, W, K, DILATION, RELU)
        inside = (row < pixels)[:, None] & (d < D)[None, :]
        g = tl.load(grad + row.to(tl.int64)[:, None] * D + d[None, :], mask=inside, other=0.0)
        total = dot(tl.trans(g), a.to(g.dtype), total)
    at = (tl.program_id(0).to(tl.int64) * D + d)[:, None] * C + c[None, :]
    tl.store(part + at, total, mask=(d < D)[:, None] & (c < C)[None, :])


@triton.jit
def sep_conv_join_kernel(part, out, tiles, size, inner, outer, BT: tl.constexpr, BC: tl.constexpr):
    """out = sum over the tiles of part [tiles, size], its columns transposed from [outer, inner]."""
    i = tl.program_id(0) * BC + tl.arange(0, BC)
    total = joined(part, 0, i, size, tiles, BT)
    tl.store(out + i % inner * outer + i // inner, total.to(tl.float32), mask=i < size)


def _block(size: int, most: int) -> int:
    """Block for `size` channels: a power of 2, at least 16 for the tensor cores."""
    return max(16, min(most, triton.next_power_of_2(size)))


def _taps(depthwise: Tensor) -> Tensor:
    """[C, k, k] -> [k, k, C]; no copy where the memory is in that order."""
    return depthwise.permute(1, 2, 0).contiguous()


def _new_map(x: Tensor, channels: int, stride: int) -> Tensor:
    n, _, h, w = x.shape
    shape = (n, -(-h // stride), -(-w // stride), channels)
    return torch.empty(shape, dtype=x.dtype, device=x.device).permute(0, 3, 1, 2)


def _float(like: Tensor, *shape: int) -> Tensor:
    return torch.empty(shape, dtype=torch.float32, device=like.device)


def _empty(like: Tensor) -> Tensor:
    """Stands for a result that is not wanted; a fresh one each time, an op's results must not alias."""
    return torch.empty(0, dtype=like.dtype, device=like.device)


def _rows_of_tile(x: Tensor, most: int) -> int:
    """BM of a product: half in float32, whose 3xTF32 products need twice the registers."""
    return most // 2 if x.dtype == torch.float32 else most


def _warps(width: int) -> int:
    """Warps of a product `width` channels wide."""
    return max(4, width // 16)


def _inference_tile(x: Tensor, pixels: int, channels: int) -> dict:
    """A tile of the product; for few pixels a small one, so that PROGRAMS programs share them.

    A frame of 22 x 22 pixels and 256 channels: 31 tiles of 16 pixels x 4 of 64 channels = 124 programs; of
    18 x 18: 21 x 4 = 84; of 22 x 22 and 1024 channels: 31 x 8 of 128 = 248. Every tile of channels computes
    the depthwise again, so narrower ones gain nothing. A step is as deep as registers allow (32 weights per
    thread): what takes time is the C / BK k loads that wait for one another.
    """
    bm, bn = _rows_of_tile(x, BLOCK_M), _block(channels, BLOCK_N)
    if pixels >= bm * PROGRAMS:
        return {"BM": bm, "BN": bn, "BK": _block(x.shape[1], BLOCK_K), "num_warps": _warps(bn)}
    bn = min(bn, 2 * FRAME_N)
    if triton.cdiv(pixels, FRAME_M) * triton.cdiv(channels, bn) < PROGRAMS:
        bn = min(bn, FRAME_N)
    bk = _block(x.shape[1], min(FRAME_K, FRAME_K * FRAME_N // bn))
    return {"BM": FRAME_M, "BN": bn, "BK": bk, "num_warps": FRAME_WARPS}


def forward(
    x, depthwise, pointwise, gamma, beta, mean, var,
    stride, dilation, flavour, groups, training, eps, slope, keep,
):  # fmt: skip
    x, taps, pointwise = channels_last(x), _taps(depthwise), pointwise.contiguous()
    gamma, beta = gamma.contiguous(), beta.contiguous()
    (_, c, h, w), d, lrelu = x.shape, pointwise.shape[0], flavour == "chase"
    y = _new_map(x, d, stride)
    oh, ow = y.shape[2:]
    pixels = y.shape[0] * oh * ow
    used_mean, used_var = _float(x, groups, d), _float(x, groups, d)
    sizes = c, d, h, w, oh, ow
    convolution = {"K": depthwise.shape[-1], "STRIDE": stride, "DILATION": dilation, "RELU": not lrelu}
    if not training and not keep:
        tile = _inference_tile(x, pixels, d)
        sep_conv_inference_kernel[triton.cdiv(pixels, tile["BM"]), triton.cdiv(d, tile["BN"])](
            x, taps, pointwise, gamma, beta, mean.contiguous(), var.contiguous(), y, used_mean, used_var,
            pixels, groups, *sizes, **convolution, EPS=eps, SLOPE=slope, **tile,
        )  # fmt: skip
        return y, used_mean, used_var, _empty(x), _empty(x)
    rows, bm, bn = pixels // groups, _rows_of_tile(x, BLOCK_M), _block(d, BLOCK_N)
    tiles = triton.cdiv(rows, bm)
    product = torch.empty_like(y) if keep else y
    parts = _float(x, 2, groups, tiles, d) if training else (used_mean, used_var)
    sep_conv_product_kernel[tiles, triton.cdiv(d, bn), groups](
        x, taps, pointwise, product, *parts, rows, *sizes, **convolution, MOMENTS=training,
        BM=bm, BK=_block(c, BLOCK_K), BN=bn, num_warps=_warps(bn),
    )  # fmt: skip
    if training:
        sep_conv_join_moments_kernel[triton.cdiv(d, JOIN_C), groups](
            *parts, used_mean, used_var, rows, d, tiles, BM=bm, BT=JOIN_T, BC=JOIN_C
        )
    else:
        used_mean.copy_(mean.expand(groups, d))
        used_var.copy_(var.expand(groups, d))
    block = _block(d, REDUCE_C)
    sep_conv_normalise_kernel[triton.cdiv(rows, REDUCE_M), triton.cdiv(d, block), groups](
        product, y, gamma, beta, used_mean, used_var, rows, d,
        LRELU=lrelu, EPS=eps, SLOPE=slope, BM=REDUCE_M, BC=block,
    )  # fmt: skip
    return y, used_mean, used_var, _empty(x), product if keep else _empty(x)


def backward(
    grad, x, depthwise, pointwise, gamma, beta, mean, var, between, product,
    stride, dilation, flavour, training, eps, slope, wanted,
):  # fmt: skip
    to_x, to_depthwise, to_pointwise = wanted[:3]
    grad, x, product = channels_last(grad), channels_last(x), channels_last(product)
    taps, pointwise = _taps(depthwise), pointwise.contiguous()
    tables = [t.contiguous() for t in (gamma, beta, mean, var)]
    (n, c, h, w), d, lrelu, groups = x.shape, pointwise.shape[0], flavour == "chase", mean.shape[0]
    oh, ow = product.shape[2:]
    pixels = n * oh * ow
    rows = pixels // groups
    norm = {"LRELU": lrelu, "EPS": eps, "SLOPE": slope, "BM": REDUCE_M, "BC": _block(d, REDUCE_C)}
    convolution = {"K": depthwise.shape[-1], "STRIDE": stride, "DILATION": dilation, "RELU": not lrelu}

    tiles = triton.cdiv(rows, REDUCE_M)
    grid = tiles, triton.cdiv(d, norm["BC"]), groups
    parts, sums = _float(x, 2, groups, tiles, d), _float(x, 2, groups, d)
    sep_conv_sums_kernel[grid](grad, product, *tables, *parts, rows, d, **norm)
    grad_gamma, grad_beta = _float(x, d), _float(x, d)
    sep_conv_join_sums_kernel[(triton.cdiv(d, JOIN_C),)](
        *parts, *sums, grad_gamma, grad_beta, groups, d, tiles, BT=JOIN_T, BC=JOIN_C
    )
    grad_x = torch.empty_like(x, memory_format=torch.channels_last) if to_x else _empty(x)
    grad_depthwise = _float(x, *depthwise.shape) if to_depthwise else _empty(depthwise)
    grad_pointwise = _float(x, d, c) if to_pointwise else _empty(pointwise)
    if to_x or to_depthwise or to_pointwise:
        grad_product = torch.empty_like(product)
        sep_conv_product_grad_kernel[grid](
            grad, product, *tables, *sums, grad_product, rows, d, TRAINING=training, **norm
        )
    if to_x or to_depthwise:
        grad_between, bm, bn = _new_map(x, c, stride), _rows_of_tile(x, BLOCK_M), _block(c, BLOCK_N)
        sep_conv_between_grad_kernel[triton.cdiv(pixels, bm), triton.cdiv(c, bn)](
            grad_product, pointwise, grad_between, pixels, c, d,
            BM=bm, BK=_block(d, BLOCK_K), BN=bn, num_warps=_warps(bn),
        )  # fmt: skip
        bc = _block(c, DEPTHWISE_C)
        if to_x:
            sep_conv_x_grad_kernel[triton.cdiv(n * h * w, DEPTHWISE_M), triton.cdiv(c, bc)](
                grad_between, x, taps, grad_x, n * h * w, c, h, w, oh, ow,
                **convolution, BM=DEPTHWISE_M, BC=bc,
            )  # fmt: skip
        if to_depthwise:
            lines, lanes = n * oh, triton.cdiv(c, bc)
            share = triton.cdiv(lines, max(1, 4 * PROGRAMS // lanes))
            part = _float(x, triton.cdiv(lines, share), depthwise.numel())
            sep_conv_taps_grad_kernel[part.shape[0], lanes](
                x, grad_between, part, lines, share, c, h, w, oh, ow,
                **convolution, BT=triton.next_power_of_2(depthwise[0].numel()), BC=bc, UNROLL=TAPS_UNROLL,
            )  # fmt: skip
            _join(part, grad_depthwise, inner=c)
    if to_pointwise:
        bm, bc, bd = _rows_of_tile(x, WEIGHT_M), _block(c, WEIGHT_C), _block(d, BLOCK_N)
        lanes = triton.cdiv(c, bc), triton.cdiv(d, bd)
        parts = max(1, min(PROGRAMS // (lanes[0] * lanes[1]), triton.cdiv(pixels, bm)))
        share = triton.cdiv(triton.cdiv(pixels, parts), bm) * bm
        part = _float(x, parts, d * c)
        sep_conv_pointwise_grad_kernel[parts, *lanes](
            x, taps, grad_product, part, pixels, share, c, d, h, w, oh, ow,
            **convolution, BM=bm, BD=bd, BC=bc, num_warps=_warps(bd),
        )  # fmt: skip
        _join(part, grad_pointwise, inner=d * c)
    return grad_x, grad_depthwise, grad_pointwise, grad_gamma, grad_beta


def _join(part: Tensor, out: Tensor, inner: int) -> None:
    """out = the sum of part [tiles, size] over its tiles, transposed from [size / inner, inner]."""
    tiles, size = part.shape
    sep_conv_join_kernel[(triton.cdiv(size, JOIN_C),)](
        part, out, tiles, size, inner, size // inner, BT=JOIN_T, BC=JOIN_C
    )
