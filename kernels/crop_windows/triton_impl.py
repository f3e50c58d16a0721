"""crop_windows in Triton: one program per block of output values (row, column, channel) of one window.

Neighbouring lanes write neighbouring values and read neighbouring bytes; the taps of a pixel lie in the L1
cache. Nothing is read on the host.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 512


@triton.jit
def taps(place, limit, every, first, start, length, SIZE: tl.constexpr):
    """Pixels of the frame on both sides of output place [B], and the weight of the second."""
    position = (place.to(tl.float64) + 0.5) * (length.to(tl.float64) / SIZE) - 0.5
    left = tl.floor(position)
    weight = (position - left).to(tl.float32)
    count = (limit - first + every - 1) // every
    near = start + tl.minimum(tl.maximum(left.to(tl.int64), 0), length - 1)
    far = start + tl.minimum(tl.maximum(left.to(tl.int64) + 1, 0), length - 1)
    near = tl.minimum(tl.maximum(near, 0), count - 1) * every + first
    far = tl.minimum(tl.maximum(far, 0), count - 1) * every + first
    return near, far, weight


@triton.jit
def crop_windows_kernel(pixels, windows, out, SIZE: tl.constexpr, BLOCK: tl.constexpr):
    k = tl.program_id(1).to(tl.int64)
    e = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = e < SIZE * SIZE * 3
    c, pixel = e % 3, e // 3  # [BLOCK]
    row = windows + 9 * k
    height, width = tl.load(row), tl.load(row + 1)
    every, first_row, first_column = tl.load(row + 2), tl.load(row + 3), tl.load(row + 4)
    x0, y0, columns, rows = tl.load(row + 5), tl.load(row + 6), tl.load(row + 7), tl.load(row + 8)
    top, bottom, v = taps(pixel // SIZE, height, every, first_row, y0, rows, SIZE)  # [BLOCK] each
    left, right, u = taps(pixel % SIZE, width, every, first_column, x0, columns, SIZE)
    top_left = tl.load(pixels + (top * width + left) * 3 + c, mask=inside, other=0).to(tl.float32)
    top_right = tl.load(pixels + (top * width + right) * 3 + c, mask=inside, other=0).to(tl.float32)
    bottom_left = tl.load(pixels + (bottom * width + left) * 3 + c, mask=inside, other=0).to(tl.float32)
    bottom_right = tl.load(pixels + (bottom * width + right) * 3 + c, mask=inside, other=0).to(tl.float32)
    upper = top_left * (1 - u) + top_right * u
    lower = bottom_left * (1 - u) + bottom_right * u
    tl.store(out + k * (SIZE * SIZE * 3) + e, upper * (1 - v) + lower * v, mask=inside)


def forward(pixels: Tensor, windows: Tensor, size: int) -> Tensor:
    windows, count = windows.contiguous(), windows.shape[0]
    out = torch.empty((count, size, size, 3), dtype=torch.float32, device=pixels.device)
    if count:
        grid = (triton.cdiv(size * size * 3, BLOCK), count)
        crop_windows_kernel[grid](pixels.contiguous(), windows, out, SIZE=size, BLOCK=BLOCK)
    return out
