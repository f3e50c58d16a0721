"""Products of features and filters in Triton: responses X f, adjoints X^T r and the gradient of the features.

Features X are read by strides [n, s, C, pixels]. A filter is a column of C rows for each of its k k taps:
    adjoint   [C, taps] = X [C, pixels] T [pixels, taps],  T the residual map gathered at every tap's shift
    response  P [pixels, taps] = X^T f, folded: every score sums its taps of P at their shifts
Matrix products are float32 split in three TF32 terms: errors of float32. Sums have a fixed order.
Contiguous arrays: filters [m, s, C, taps], score maps [m, n, s, cells], P [parts, n, s, m taps, pixels].
"""

import triton
import triton.language as tl


@triton.jit
def shifted(maps, pixel, tap, valid, H, W, K: tl.constexpr):
    """Score maps at `pixel` minus the shift of `tap`, 0 outside; `maps` + pixel + tap must broadcast."""
    y = pixel // W - tap // K + K // 2
    x = pixel % W - tap % K + K // 2
    rows = H + (K + 1) % 2
    columns = W + (K + 1) % 2
    inside = (y >= 0) & (y < rows) & (x >= 0) & (x < columns)
    return tl.load(maps + y * columns + x, mask=inside & valid, other=0.0)


@triton.jit
def adjoint(
    features, maps, first, last, column, n, s, q, C, H, W, s_frame, s_channel, s_pixel, columns,
    K: tl.constexpr, BC: tl.constexpr, BP: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """Adjoint [BC, BN] of frames [first, last) for the channels of program_id(0); features of a sequence."""
    c = tl.program_id(0) * BC + tl.arange(0, BC)
    tap = (column % (K * K))[None, :]
    cells = (H + (K + 1) % 2) * (W + (K + 1) % 2)
    tiles = tl.cdiv(H * W, BP)
    total = tl.zeros((BC, BN), tl.float32)
    for t in range((last - first) * tiles):
        frame = first + t // tiles
        pixel = t % tiles * BP + tl.arange(0, BP)
        image = features + frame * tl.cast(s_frame, tl.int64)
        x = tl.load(
            image + c[:, None] * s_channel + pixel[None, :] * s_pixel,
            mask=(c < C)[:, None] & (pixel < H * W)[None, :],
            other=0.0,
        )
        base = maps + ((column // (K * K) * n + frame) * s + q)[None, :] * cells
        valid = (pixel < H * W)[:, None] & (column < columns)[None, :]
        r = shifted(base, pixel[:, None], tap, valid, H, W, K)  # [BP, BN]
        total = tl.dot(x, r, total, input_precision="tf32x3")
    return total


@triton.jit
def folded(products, cell, H, W, K: tl.constexpr, BN: tl.constexpr):
    """Scores [cells] of products P [taps, pixels] of one filter with one image."""
    tap = tl.arange(0, BN)
    columns = W + (K + 1) % 2
    y = (cell // columns)[None, :] + (tap // K)[:, None] - K // 2  # [BN, cells]
    x = (cell % columns)[None, :] + (tap % K)[:, None] - K // 2
    inside = (y >= 0) & (y < H) & (x >= 0) & (x < W) & (tap < K * K)[:, None]
    return tl.sum(tl.load(products + tap[:, None] * H * W + y * W + x, mask=inside, other=0.0), 0)


@triton.jit
def target_filter_adjoint_kernel(
    features, maps, parts, n, s, C, H, W, s_frame, s_sequence, s_channel, s_pixel, frames, columns,
    K: tl.constexpr, BC: tl.constexpr, BP: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """parts [chunks, m, s, C, taps] = adjoints of `frames` frames each.

    Program (channels, columns, (chunk, sequence)).
    """
    q = tl.program_id(2) % s
    chunk = tl.program_id(2) // s
    column = tl.program_id(1) * BN + tl.arange(0, BN)
    first = chunk * frames
    total = adjoint(
        features + q.to(tl.int64) * s_sequence, maps, first, tl.minimum(first + frames, n), column, n, s, q,
        C, H, W, s_frame, s_channel, s_pixel, columns, K, BC, BP, BN,
    )  # fmt: skip
    c = tl.program_id(0) * BC + tl.arange(0, BC)
    m = columns // (K * K)
    row = ((chunk * m + column // (K * K)) * s + q)[None, :].to(tl.int64) * C + c[:, None]
    mask = (c < C)[:, None] & (column < columns)[None, :]
    tl.store(parts + row * (K * K) + (column % (K * K))[None, :], total, mask=mask)


@triton.jit
def target_filter_sum_kernel(parts, out, size, count, BLOCK: tl.constexpr):
    """out [size] = sum of parts [count, size]."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), tl.float32)
    for i in range(count):
        total += tl.load(parts + i * tl.cast(size, tl.int64) + at, mask=at < size, other=0.0)
    tl.store(out + at, total, mask=at < size)


@triton.jit
def target_filter_response_kernel(
    features, filters, products, n, s, C, H, W, s_frame, s_sequence, s_channel, s_pixel, channels, groups,
    columns, K: tl.constexpr, BC: tl.constexpr, BP: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """products [parts, n, s, m taps, pixels], a part for `channels` channels.

    Program (pixels, (part, column group), (frame, sequence)).
    """
    pixel = tl.program_id(0) * BP + tl.arange(0, BP)
    part = tl.program_id(1) // groups
    column = tl.program_id(1) % groups * BN + tl.arange(0, BN)
    image = tl.program_id(2)
    q = image % s
    x0 = features + (image // s).to(tl.int64) * s_frame + q.to(tl.int64) * s_sequence
    total = tl.zeros((BP, BN), tl.float32)
    for first in range(part * channels, tl.minimum((part + 1) * channels, C), BC):
        c = first + tl.arange(0, BC)
        x = tl.load(
            x0 + c[None, :] * s_channel + pixel[:, None] * s_pixel,
            mask=(c < C)[None, :] & (pixel < H * W)[:, None],
            other=0.0,
        )
        row = (column // (K * K) * s + q)[None, :] * C + c[:, None]
        f = tl.load(
            filters + row * (K * K) + (column % (K * K))[None, :],
            mask=(c < C)[:, None] & (column < columns)[None, :],
            other=0.0,
        )
        total = tl.dot(x, f, total, input_precision="tf32x3")
    row = (part * n * s + image).to(tl.int64) * columns + column
    mask = (pixel < H * W)[:, None] & (column < columns)[None, :]
    tl.store(products + row[None, :] * (H * W) + pixel[:, None], total, mask=mask)


@triton.jit
def target_filter_fold_kernel(
    products, scores, images, m, parts, H, W, K: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr
):
    """scores [m, images, cells]; program (cells, filter, image)."""
    cell = tl.program_id(0) * BM + tl.arange(0, BM)
    j = tl.program_id(1)
    image = tl.program_id(2)
    cells = (H + (K + 1) % 2) * (W + (K + 1) % 2)
    total = tl.zeros((BM,), tl.float32)
    for part in range(parts):
        row = ((part * images + image).to(tl.int64) * m + j) * (K * K)
        total += folded(products + row * (H * W), cell, H, W, K, BN)  # [BM]
    tl.store(scores + (j * images + image).to(tl.int64) * cells + cell, total, mask=cell < cells)


@triton.jit
def target_filter_features_grad_kernel(
    maps, filters, out, n, s, m, C, H, W, s_frame, s_sequence, s_channel, s_pixel,
    K: tl.constexpr, BC: tl.constexpr, BP: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """out: gradient of sum_j <maps_j, response to filters_j>; program (pixels, channels, image)."""
    pixel = tl.program_id(0) * BP + tl.arange(0, BP)
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    image = tl.program_id(2)
    q = image % s
    tap = tl.arange(0, BN)
    cells = (H + (K + 1) % 2) * (W + (K + 1) % 2)
    valid = (pixel < H * W)[:, None] & (tap < K * K)[None, :]
    total = tl.zeros((BP, BC), tl.float32)
    for j in range(m):
        base = maps + (j * n * s + image).to(tl.int64) * cells
        r = shifted(base, pixel[:, None], tap[None, :], valid, H, W, K)  # [BP, BN]
        f = tl.load(
            filters + ((j * s + q) * C + c)[None, :] * (K * K) + tap[:, None],
            mask=(c < C)[None, :] & (tap < K * K)[:, None],
            other=0.0,
        )
        total = tl.dot(r, f, total, input_precision="tf32x3")
    x0 = out + (image // s).to(tl.int64) * s_frame + q.to(tl.int64) * s_sequence
    mask = (pixel < H * W)[:, None] & (c < C)[None, :]
    tl.store(x0 + pixel[:, None] * s_pixel + c[None, :] * s_channel, total, mask=mask)
