"""Kernels of sep_conv's backward in Triton. Maps and taps as in triton_forward.py."""

import triton
import triton.language as tl

from .triton_forward import cell_of, depthwise_tile, dot, norm_of


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
    offsets = (tl.program_id(2).to(tl.int64) * rows + r)[:, None] * D + d[None, :]  # [BM, BC]
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
        at = (first + t).to(tl.int64)[:, None] * D + d[None, :]  # [BT, D]
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
    offsets = (group.to(tl.int64) * rows + r)[:, None] * D + d[None, :]  # [BM, BC]
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
        b = tl.load(pointwise + d[:, None] * C + c[None, :], mask=inside, other=0.0)  # [BK, BN]
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
    offsets = p.to(tl.int64)[:, None] * C + c[None, :]  # [BM, BC]
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
    column = t % K * DILATION - DILATION * (K - 1) // 2  # [BT]
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
