"""Kernels of sep_conv's forward in Triton, and the tiles that its backward computes again.

Maps are NHWC: [rows, C], a row is a pixel of an image. `taps` is the depthwise as [k, k, C].
"""

import triton
import triton.language as tl

from .._dispatch import interpreting

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
    start = x + origin.to(tl.int64)[:, None] * C + c[None, :]  # [BM, BK]
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
        a = depthwise_tile(x, taps, top, left, origin, c, C, H, W, K, DILATION, RELU)  # [BM, BK]
        inside = (d < D)[:, None] & (c < C)[None, :]
        b = tl.load(pointwise + d[:, None] * C + c[None, :], mask=inside, other=0.0)  # [BN, BK]
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
    z = normalised(product, m, scale, shift, not RELU, SLOPE)  # [BM, BN]
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
        mean = tl.sum(total, 0) / tl.minimum(BM, rows - tl.program_id(0) * BM).to(tl.float32)  # [BN]
        delta = tl.where((r < rows)[:, None], total - mean[None, :], 0.0)  # [BM, BN]
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
        part = tl.load(part_mean + first + t[:, None] * D + d[None, :], mask=inside, other=0.0)  # [BT, BC]
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
    offsets = (tl.program_id(2).to(tl.int64) * rows + r)[:, None] * D + d[None, :]  # [BM, BC]
    inside = (r < rows)[:, None] & (d < D)[None, :]
    m, _, scale, shift = norm_of(gamma, beta, mean, var, tl.program_id(2), d, D, EPS)
    z = normalised(
        tl.load(product + offsets, mask=inside, other=0.0).to(tl.float32), m, scale, shift, LRELU, SLOPE
    )
    tl.store(y + offsets, z.to(y.dtype.element_ty), mask=inside)
