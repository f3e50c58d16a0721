"""Which part of a frame the sampler can ask for, and at which resolution: the two levels of a packed frame.

A jittered box has s' = s exp(scale_jitter (z1 + z2) / 2), s = sqrt(w h), and its centre moves by at most
s' centre_jitter / 2 along each axis. With |z| <= jitter_limit the largest window has the side
search_factor s exp(scale_jitter jitter_limit), and there is a smallest rectangle that holds every window (as
far as it lies in the frame: beyond it edge pixels repeat).

`near` holds, at the frame's own resolution, every window not larger than the crop: what the crop enlarges.
`far` holds every window, reduced so that the window of the unmoved box has `detail` times the crop's side; it
serves the windows that the crop reduces. Where far would take as many pixels as the reach at full
resolution, far is kept at full resolution and near is not needed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_MARGIN = 2  # the window's side and origin are rounded


@dataclass(frozen=True)
class Limits:
    """What the windows of a recipe are made of; jitters are the larger of those of train and test frames."""

    size: int = 288
    search_factor: float = 5.0
    scale_jitter: float = 0.5
    centre_jitter: float = 4.5
    jitter_limit: float = 3.0


@dataclass(frozen=True)
class Rectangle:
    """Whole frame pixels."""

    x0: int
    y0: int
    width: int
    height: int


@dataclass(frozen=True)
class Level:
    """A rectangle of the frame stored as `height` x `width` pixels."""

    rectangle: Rectangle
    height: int
    width: int


def _interval(centre: float, shift: float, side: int, length: int) -> tuple[int, int]:
    """Pixels [start, end) of an axis of `length` that windows of at most `side` read whose centre is at most
    `shift` from `centre`; a window that leaves the frame is shifted into it where it fits."""
    if side + 2 * _MARGIN >= length:
        return 0, length
    start = math.floor(centre - shift - side / 2) - _MARGIN
    end = math.ceil(centre + shift + side / 2) + _MARGIN
    if end > length:
        start = min(start, length - side - _MARGIN)
    if start < 0:
        end = max(end, side + _MARGIN)
    return max(start, 0), min(end, length)


def reach(
    box: Sequence[float] | np.ndarray, image_hw: tuple[int, int], side: int, limits: Limits
) -> Rectangle:
    """The pixels that windows of at most this side can read; box xywh in frame pixels."""
    x, y, w, h = (float(v) for v in box)
    shift = side / limits.search_factor * limits.centre_jitter / 2
    x0, x1 = _interval(x + w / 2, shift, side, image_hw[1])
    y0, y1 = _interval(y + h / 2, shift, side, image_hw[0])
    return Rectangle(x0, y0, x1 - x0, y1 - y0)


def levels(
    box: Sequence[float] | np.ndarray, image_hw: tuple[int, int], limits: Limits, detail: float
) -> tuple[Level | None, Level]:
    """near (None where it is not needed) and far of a frame; box xywh, of positive size."""
    middle = limits.search_factor * math.sqrt(float(box[2]) * float(box[3]))
    spread = math.exp(limits.scale_jitter * limits.jitter_limit)
    whole = reach(box, image_hw, math.ceil(middle * spread), limits)
    full = Level(whole, whole.height, whole.width)
    scale = detail * limits.size / middle
    if scale >= 1:
        return None, full
    far = Level(whole, math.ceil(whole.height * scale), math.ceil(whole.width * scale))
    near = None
    if middle / spread <= limits.size:
        inner = reach(box, image_hw, limits.size, limits)
        near = Level(inner, inner.height, inner.width)
    pixels = far.height * far.width + (near.height * near.width if near else 0)
    return (None, full) if pixels >= full.height * full.width else (near, far)
