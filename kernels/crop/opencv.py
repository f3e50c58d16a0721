"""crop by OpenCV: the window is a view, padded only where it leaves the frame, resized, then normalised.

uint8 crops are normalised by a table of the 256 results per channel. A window whose border lies between
pixels goes through warpAffine, whose weights differ from resize's in the last bits: a uint8 result may be one
grey level off the reference. Everything here runs without the GIL.
"""

import functools
import math
from collections.abc import Sequence

import cv2
import numpy as np
import torch

from chase_fast.kernels.crop.reference import normalise


def can_run(device: torch.device, dtype: torch.dtype) -> str | None:
    if device.type != "cpu":
        return f"OpenCV takes CPU frames, not {device.type}"
    if dtype not in (torch.uint8, torch.float32):
        return f"no cpu kernel for {dtype}"
    return None


def window_pixels(frame: np.ndarray, window: Sequence[int]) -> np.ndarray:
    """[height, width, 3]: the window of the frame, a view where it lies inside."""
    x0, y0, width, height = window
    rows, columns = frame.shape[:2]
    part = frame[max(y0, 0) : max(y0 + height, 0), max(x0, 0) : max(x0 + width, 0)]
    if part.size == 0:  # wholly outside: only repeated edge pixels
        y = np.arange(y0, y0 + height).clip(0, rows - 1)
        x = np.arange(x0, x0 + width).clip(0, columns - 1)
        part = frame[y[:, None], x]
    elif part.shape[:2] != (height, width):
        top, left = max(0, -y0), max(0, -x0)
        bottom, right = height - top - part.shape[0], width - left - part.shape[1]
        part = cv2.copyMakeBorder(part, top, bottom, left, right, cv2.BORDER_REPLICATE)
    return part


def resize_window(frame: np.ndarray, window: Sequence[float], size: int) -> np.ndarray:
    """[size, size, 3] of the frame's dtype."""
    x0, y0, width, height = window
    left, top = math.floor(x0), math.floor(y0)
    whole = left, top, math.ceil(x0 + width) - left, math.ceil(y0 + height) - top
    pixels = window_pixels(frame, whole)
    if whole == tuple(window):
        return cv2.resize(pixels, (size, size), interpolation=cv2.INTER_LINEAR)
    u, v = width / size, height / size
    to_pixels = np.array([[u, 0, x0 - left + 0.5 * u - 0.5], [0, v, y0 - top + 0.5 * v - 0.5]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(pixels, to_pixels, (size, size), flags=flags, borderMode=cv2.BORDER_REPLICATE)


@functools.lru_cache(maxsize=16)
def _table(gain: float, mean: tuple[float, ...], std: tuple[float, ...]) -> np.ndarray:
    """[1, 256, 3] float32: the normalised value of every grey level."""
    levels = torch.arange(256, dtype=torch.uint8)[:, None].expand(256, 3)
    return normalise(levels, gain, mean, std).numpy()[None]


def crop(
    frame: torch.Tensor,
    window: Sequence[float],
    size: int,
    gain: float,
    mean: Sequence[float],
    std: Sequence[float],
) -> torch.Tensor:
    image = resize_window(frame.numpy(), window, size)
    if image.dtype == np.uint8:
        out = torch.from_numpy(cv2.LUT(image, _table(gain, tuple(mean), tuple(std))))
    else:
        out = normalise(torch.from_numpy(image), gain, mean, std)
    return out.permute(2, 0, 1)
