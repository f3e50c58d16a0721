"""Plain torch definition of crop, with the fixed-point bilinear that OpenCV uses on uint8."""

import math
from collections.abc import Sequence

import torch

WEIGHT_BITS = 11


def _taps(start: float, length: float, n_out: int, limit: int, dtype: torch.dtype, device: torch.device):
    """Left and right frame index [n_out] and the weight of the right one, for one axis of the window."""
    offset = math.floor(start)
    n_in = math.ceil(start + length) - offset
    position = (torch.arange(n_out, dtype=torch.float64) + 0.5) * (length / n_out) - 0.5 + (start - offset)
    position = position.to(dtype)  # OpenCV rounds positions to float32
    left = position.floor()
    right_weight = position - left
    left = left.long()
    index = [(offset + i.clamp(0, n_in - 1)).clamp(0, limit - 1).to(device) for i in (left, left + 1)]
    return *index, right_weight.to(device)


def _fixed(weight: torch.Tensor) -> torch.Tensor:
    return (weight * 2**WEIGHT_BITS).round().int()


def resize_window(frame: torch.Tensor, window: Sequence[float], size: int) -> torch.Tensor:
    """The window of the frame, resized bilinearly: [size, size, 3], the frame's dtype (uint8 is rounded)."""
    x0, y0, width, height = window
    dtype = torch.float64 if frame.dtype == torch.float64 else torch.float32
    top, bottom, v = _taps(y0, height, size, frame.shape[0], dtype, frame.device)
    left, right, u = _taps(x0, width, size, frame.shape[1], dtype, frame.device)
    u, v = u[None, :, None], v[:, None, None]
    if frame.dtype != torch.uint8:
        rows = [(r := frame[i])[:, left] * (1 - u) + r[:, right] * u for i in (top, bottom)]
        return rows[0] * (1 - v) + rows[1] * v
    rows = [(r := frame[i].int())[:, left] * _fixed(1 - u) + r[:, right] * _fixed(u) for i in (top, bottom)]
    total = ((rows[0] >> 4) * _fixed(1 - v) >> 16) + ((rows[1] >> 4) * _fixed(v) >> 16)
    return ((total + 2) >> 2).clamp(0, 255).to(torch.uint8)


def normalise(image: torch.Tensor, gain: float, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """[..., 3] image of 0..255 -> brightness, clamp to 0..1, minus mean, over std."""
    dtype = torch.float32 if image.dtype == torch.uint8 else image.dtype
    scaled = (image.to(dtype) / 255 * gain).clamp(0, 1)
    return (scaled - scaled.new_tensor(mean)) / scaled.new_tensor(std)


@torch.no_grad()
def crop(
    frame: torch.Tensor,
    window: Sequence[float],
    size: int,
    gain: float,
    mean: Sequence[float],
    std: Sequence[float],
) -> torch.Tensor:
    return normalise(resize_window(frame, window, size), gain, mean, std).permute(2, 0, 1)
