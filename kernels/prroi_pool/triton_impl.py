"""prroi_pool in Triton; formula: __init__.py, derivation of the gradients: csrc/cpu/prroi_pool.cpp.

    forward, box gradient   one program per (bin, block of channels); pixels of a row are a [BJ, BC] tile
                            whose channel axis is contiguous (NHWC). The box gradient leaves four partial
                            sums per program, added by torch.
    feature gradient        one program per ([BJ] pixels of a row, block of channels), gathering from the
                            boxes of the image.
Features of 16 bits are summed in the type of the boxes. No atomics: every element is summed by one program
in a fixed order. Nothing waits for the GPU.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from .._layout import channels_last
from .native import by_image

BLOCK_J = 8
BLOCK_C = 64


@triton.jit
def hat_integral(u):
    v = tl.minimum(tl.maximum(u, -1.0), 1.0)
    return 0.5 + v - 0.5 * v * tl.abs(v)


@triton.jit
def weight(low, high, cell):
    return hat_integral(high - cell) - hat_integral(low - cell)


@triton.jit
def cells_between(low, high, cells):
    """Cells [begin, end) whose hats reach into [low, high]."""
    begin = tl.minimum(tl.maximum(tl.floor(low), 0.0), cells).to(tl.int32)
    end = tl.minimum(tl.maximum(tl.floor(high + 2.0), 0.0), cells).to(tl.int32)
    return begin, end


@triton.jit
def extent(start, stop):
    return tl.where(stop < start, start * 0, stop - start)


@triton.jit
def inverse(area):
    """1 / area; 0 for a box without area, NaN for NaN coordinates."""
    return tl.where(area > 0, 1.0 / tl.where(area > 0, area, 1.0), area * 0)


@triton.jit
def edge(start, size, e, bins: tl.constexpr):
    return start + size * e / bins


@triton.jit
def line_integral(f, u, low, high, cells, other_cells, stride, other_stride, c, C, BJ: tl.constexpr):
    """Integral of F along the side at u, from low to high on the other axis: [BC]."""
    begin, end = cells_between(u, u, cells)
    other_begin, other_end = cells_between(low, high, other_cells)
    total = tl.zeros(c.shape, u.dtype)
    for k in range(begin, end):
        hat = tl.maximum(1.0 - tl.abs(u - k), 0.0)
        for l0 in range(other_begin, other_end, BJ):
            l = l0 + tl.arange(0, BJ)
            share = tl.where(l < other_end, hat * weight(low, high, l), 0.0)  # [BJ]
            inside = (l < other_end)[:, None] & (c < C)[None, :]
            tile = tl.load(
                f + k * stride + l[:, None] * other_stride + c[None, :], mask=inside, other=0.0
            )  # [BJ, BC]
            total += tl.sum(share[:, None] * tile.to(u.dtype), 0)
    return total


@triton.jit
def prroi_pool_fwd_kernel(
    features, rois, out, N, C, H, W,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, SCALE: tl.constexpr, BJ: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    r, bin = tl.program_id(0) // (ROWS * COLUMNS), tl.program_id(0) % (ROWS * COLUMNS)
    p, q = bin // COLUMNS, bin % COLUMNS
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    roi = rois + 5 * r
    index = tl.load(roi)
    x0, y0 = tl.load(roi + 1) * SCALE, tl.load(roi + 2) * SCALE
    width, height = extent(x0, tl.load(roi + 3) * SCALE), extent(y0, tl.load(roi + 4) * SCALE)
    left, right = edge(x0, width, q, COLUMNS), edge(x0, width, q + 1, COLUMNS)
    top, bottom = edge(y0, height, p, ROWS), edge(y0, height, p + 1, ROWS)
    per_area = inverse((height / ROWS) * (width / COLUMNS))
    known = (index >= 0) & (index < N)

    x_begin, x_end = cells_between(left, right, W)
    y_begin, y_end = cells_between(top, bottom, H)
    y_end = tl.where(known & (per_area > 0), y_end, y_begin)
    image = features + index.to(tl.int64) * H * W * C
    total = tl.zeros((BC,), x0.dtype)
    for i in range(y_begin, y_end):
        wy = weight(top, bottom, i)
        for j0 in range(x_begin, x_end, BJ):
            j = j0 + tl.arange(0, BJ)
            wx = tl.where(j < x_end, weight(left, right, j), 0.0)  # [BJ]
            inside = (j < x_end)[:, None] & (c < C)[None, :]
            tile = tl.load(image + (i * W + j[:, None]) * C + c[None, :], mask=inside, other=0.0)  # [BJ, BC]
            total += wy * tl.sum(wx[:, None] * tile.to(x0.dtype), 0)
    total = tl.where(known, total * per_area, float("nan"))
    here = out + (r.to(tl.int64) * C + c) * (ROWS * COLUMNS) + bin
    tl.store(here, total.to(out.dtype.element_ty), mask=c < C)


@triton.jit
def prroi_pool_bwd_features_kernel(
    grad, rois, order, first, grad_features, C, H, W,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, SCALE: tl.constexpr, BJ: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    n, i = tl.program_id(0) // H, tl.program_id(0) % H
    j = tl.program_id(1) * BJ + tl.arange(0, BJ)
    c = tl.program_id(2) * BC + tl.arange(0, BC)
    total = tl.zeros((BJ, BC), rois.dtype.element_ty)
    for k in range(tl.load(first + n), tl.load(first + n + 1)):
        r = tl.load(order + k)
        roi = rois + 5 * r
        x0, y0 = tl.load(roi + 1) * SCALE, tl.load(roi + 2) * SCALE
        width, height = extent(x0, tl.load(roi + 3) * SCALE), extent(y0, tl.load(roi + 4) * SCALE)
        per_area = inverse((height / ROWS) * (width / COLUMNS))
        begin, end = cells_between(y0, y0 + height, H)
        if (per_area != 0) & (i >= begin) & (i < end):
            for bin in range(ROWS * COLUMNS):
                p, q = bin // COLUMNS, bin % COLUMNS
                wy = weight(edge(y0, height, p, ROWS), edge(y0, height, p + 1, ROWS), i)
                wx = weight(edge(x0, width, q, COLUMNS), edge(x0, width, q + 1, COLUMNS), j)  # [BJ]
                g = tl.load(grad + (r * C + c) * (ROWS * COLUMNS) + bin, mask=c < C, other=0.0)  # [BC]
                total += (wy * per_area * wx)[:, None] * g.to(total.dtype)[None, :]
    pointers = grad_features + (tl.program_id(0).to(tl.int64) * W + j[:, None]) * C + c[None, :]
    tl.store(pointers, total.to(grad_features.dtype.element_ty), mask=(j < W)[:, None] & (c < C)[None, :])


@triton.jit
def prroi_pool_bwd_rois_kernel(
    grad, features, rois, out, partial, N, C, H, W,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, SCALE: tl.constexpr, BJ: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    r, bin = tl.program_id(0) // (ROWS * COLUMNS), tl.program_id(0) % (ROWS * COLUMNS)
    p, q = bin // COLUMNS, bin % COLUMNS
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    roi = rois + 5 * r
    index = tl.load(roi)
    x0, y0 = tl.load(roi + 1) * SCALE, tl.load(roi + 2) * SCALE
    width, height = extent(x0, tl.load(roi + 3) * SCALE), extent(y0, tl.load(roi + 4) * SCALE)
    left, right = edge(x0, width, q, COLUMNS), edge(x0, width, q + 1, COLUMNS)
    top, bottom = edge(y0, height, p, ROWS), edge(y0, height, p + 1, ROWS)
    per_area = inverse((height / ROWS) * (width / COLUMNS))
    known = (index >= 0) & (index < N)

    f = features + tl.where(known, index, 0).to(tl.int64) * H * W * C
    at_left = line_integral(f, left, top, bottom, W, H, C, W * C, c, C, BJ)
    at_right = line_integral(f, right, top, bottom, W, H, C, W * C, c, C, BJ)
    at_top = line_integral(f, top, left, right, H, W, W * C, C, c, C, BJ)
    at_bottom = line_integral(f, bottom, left, right, H, W, W * C, C, c, C, BJ)

    here = (r.to(tl.int64) * C + c) * (ROWS * COLUMNS) + bin
    g = tl.load(grad + here, mask=c < C, other=0.0).to(x0.dtype)
    value = tl.load(out + here, mask=c < C, other=0.0).to(x0.dtype)
    # value shrinks with the bin's size along an axis; only where there is an area
    some = tl.where(per_area != 0, per_area, 0.0)
    by_width, by_height = value * (some * height / ROWS), value * (some * width / COLUMNS)
    d_left = tl.sum(g * (by_width - at_left * per_area), 0)
    d_right = tl.sum(g * (at_right * per_area - by_width), 0)
    d_top = tl.sum(g * (by_height - at_top * per_area), 0)
    d_bottom = tl.sum(g * (at_bottom * per_area - by_height), 0)

    at_low_x, at_high_x = q.to(x0.dtype) / COLUMNS, (q + 1).to(x0.dtype) / COLUMNS
    at_low_y, at_high_y = p.to(x0.dtype) / ROWS, (p + 1).to(x0.dtype) / ROWS
    corners = partial + (tl.program_id(0).to(tl.int64) * tl.num_programs(1) + tl.program_id(1)) * 4
    tl.store(corners, (1 - at_low_x) * d_left + (1 - at_high_x) * d_right)
    tl.store(corners + 1, (1 - at_low_y) * d_top + (1 - at_high_y) * d_bottom)
    tl.store(corners + 2, at_low_x * d_left + at_high_x * d_right)
    tl.store(corners + 3, at_low_y * d_top + at_high_y * d_bottom)


def forward(features: Tensor, rois: Tensor, rows: int, columns: int, scale: float) -> Tensor:
    features, rois = channels_last(features), rois.contiguous()
    n, channels, height, width = features.shape
    out = torch.empty((rois.shape[0], channels, rows, columns), dtype=features.dtype, device=features.device)
    if out.numel():
        grid = (rois.shape[0] * rows * columns, triton.cdiv(channels, BLOCK_C))
        prroi_pool_fwd_kernel[grid](
            features, rois, out, n, channels, height, width,
            ROWS=rows, COLUMNS=columns, SCALE=scale, BJ=BLOCK_J, BC=BLOCK_C,
        )  # fmt: skip
    return out


def backward_features(grad: Tensor, shape: torch.Size, rois: Tensor, scale: float) -> Tensor:
    n, channels, height, width = shape
    order, first = by_image(rois, n)
    out = torch.empty(shape, dtype=grad.dtype, device=grad.device, memory_format=torch.channels_last)
    if out.numel():
        grid = (n * height, triton.cdiv(width, BLOCK_J), triton.cdiv(channels, BLOCK_C))
        prroi_pool_bwd_features_kernel[grid](
            grad.contiguous(), rois.contiguous(), order, first, out, channels, height, width,
            ROWS=grad.shape[2], COLUMNS=grad.shape[3], SCALE=scale, BJ=BLOCK_J, BC=BLOCK_C,
        )  # fmt: skip
    return out


def backward_rois(grad: Tensor, features: Tensor, rois: Tensor, out: Tensor, scale: float) -> Tensor:
    features, rois = channels_last(features), rois.contiguous()
    n, channels, height, width = features.shape
    boxes, _, rows, columns = out.shape
    blocks = triton.cdiv(channels, BLOCK_C)
    partial = torch.empty((boxes, rows * columns * blocks, 4), dtype=rois.dtype, device=rois.device)
    if partial.numel():
        prroi_pool_bwd_rois_kernel[(boxes * rows * columns, blocks)](
            grad.contiguous(), features, rois, out.contiguous(), partial, n, channels, height, width,
            ROWS=rows, COLUMNS=columns, SCALE=scale, BJ=BLOCK_J, BC=BLOCK_C,
        )  # fmt: skip
    return torch.cat([torch.zeros_like(rois[:, :1]), partial.sum(1) * scale], 1)
