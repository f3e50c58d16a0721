"""Definition of `crop_windows` in plain torch."""

import torch
from torch import Tensor


def crop_windows(pixels: Tensor, windows: Tensor, size: int) -> Tensor:
    """Shapes and meaning: `chase_fast.kernels.crop_windows`."""
    dtype = torch.float32 if pixels.dtype == torch.uint8 else pixels.dtype
    height, width, every, first_row, first_column, x0, y0, columns, rows = windows.unbind(1)
    *y, v = _taps(height, every, first_row, y0, rows, size, dtype)
    *x, u = _taps(width, every, first_column, x0, columns, size, dtype)
    channel = torch.arange(3, device=pixels.device)

    def read(row: Tensor, column: Tensor) -> Tensor:
        at = (row[:, :, None] * width[:, None, None] + column[:, None, :]) * 3  # [K, size, size]
        return pixels[at[..., None] + channel].to(dtype)

    u, v = u[:, None, :, None], v[:, :, None, None]
    top, bottom = (read(row, x[0]) * (1 - u) + read(row, x[1]) * u for row in y)
    return top * (1 - v) + bottom * v


def _taps(limit: Tensor, every: Tensor, first: Tensor, start: Tensor, length: Tensor, size: int, dtype):
    """Pixels of the frame on both sides of each position, two [K, size], and the weight of the second."""
    place = torch.arange(size, dtype=torch.float64, device=limit.device) + 0.5
    position = place * (length.double() / size)[:, None] - 0.5  # in the window
    left = position.floor()
    count = (limit - first + every - 1) // every  # pixels of the thinned-out frame
    inside = []
    for tap in (left.long(), left.long() + 1):
        tap = start[:, None] + torch.minimum(tap.clamp(min=0), length[:, None] - 1)
        tap = torch.minimum(tap.clamp(min=0), count[:, None] - 1)
        inside.append(tap * every[:, None] + first[:, None])
    return *inside, (position - left).to(dtype)
