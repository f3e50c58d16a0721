"""Search windows: where the tracker looks in a frame, and the pixels it sees there.

Frames are uint8 (or float32, 0..255) [H, W, 3]; patches float32.

Two coordinates occur. *Edges*: the first pixel covers 0..1; boxes are measured so, in frames, patches and the
crops of training. *Centres*: the middle of a pixel is its index, an edge less 1/2; positions of targets and
windows are measured so, (row, column): a target of height h whose first row is y is at y + (h - 1) / 2.

A window takes pixels i = x0 .. x0 + m - 1 of a frame of which every n-th pixel is read from `first` on: i is
pixel first + n i of the frame. Its m pixels become a patch of `size` by half-pixel centres, so

    scale  = n m / size                                      frame px per patch px
    middle = first + n (x0 + (m - 1) / 2)                    of the window in the frame, centres
    u      = (p - middle) / scale + size / 2                 in the patch, edges, of a frame position p
    p      = (u - size / 2) * scale + middle                 and back

The published tracker leaves `first` - (n - 1) / 2 out of the middle (it scales indices as if they were
edges: `TrackSettings.thinning_offset`) and takes u as a centre on the way back
(`TrackSettings.half_pixel_offset`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from chase_fast.kernels.crop.opencv import window_pixels

Point = tuple[float, float]  # row, column


@dataclass(frozen=True)
class Window:
    """A square window in every `every`-th pixel of a frame, from pixel `first` on.

    top_left, bottom_right: its edges in the frame; what positions are measured by.
    x0, y0, width, height: pixels taken of the thinned-out frame.
    """

    top_left: Point
    bottom_right: Point
    every: int
    first: tuple[int, int]
    x0: int
    y0: int
    width: int
    height: int

    @property
    def centre(self) -> Point:
        (top, left), (bottom, right) = self.top_left, self.bottom_right
        return (top + bottom - 1) / 2, (left + right - 1) / 2

    def scale(self, size: int) -> float:
        """Frame pixels per patch pixel when the window is resized to size x size."""
        height, width = (b - a for a, b in zip(self.top_left, self.bottom_right))
        return math.sqrt(height / size * (width / size))

    def row(self, frame_hw: tuple[int, int]) -> tuple[int, ...]:
        """This window in a frame of this size, as `kernels.crop_windows` takes it."""
        return *frame_hw, self.every, *self.first, self.x0, self.y0, self.width, self.height


def search_window(
    centre: Point,
    side: float,
    frame_hw: tuple[int, int],
    size: int,
    border: str = "replicate",
    max_scale_change: float | None = None,
    integer: bool = True,
    thinning_offset: bool = True,
) -> Window:
    """The window of about `side` frame pixels about `centre` that becomes a patch of size x size.

    Windows more than twice the patch are read from a thinned-out frame. border, integer, thinning_offset: see
    `TrackSettings.border`, `.integer_window` and `.thinning_offset`.
    """
    if border != "replicate":
        # in float32 as published: a quotient that should be whole may fall below it
        side = int(np.float32(side) / np.float32(shrinkage(side, frame_hw, border, max_scale_change)))
    centre_int = [math.trunc(c) for c in centre]
    every = max(1, int(side / size - 0.1))
    first = tuple(min(c % every, n - 1) for c, n in zip(centre_int, frame_hw))
    pixels = max(2, round(side / every))  # side of the window in pixels of the thinned-out frame
    lengths = [len(range(o, n, every)) for o, n in zip(first, frame_hw)]
    axes = []
    for c, o, length in zip(centre_int, first, lengths):
        middle = (c - o) // every
        before, behind = (pixels - 1) / 2, pixels / 2
        if integer:
            before, behind = math.floor(before), math.floor(behind)
        low, high = middle - before, middle + behind + 1
        if border != "replicate":
            low, high = _shift_inside(low, high, length)
        shift = 0 if thinning_offset else o - (every - 1) / 2
        edges = every * low + shift, every * high + shift
        axes.append((*edges, math.trunc(low), math.trunc(high)))
    (top, bottom, y0, y1), (left, right, x0, x1) = axes
    return Window((top, left), (bottom, right), every, (first[0], first[1]), x0, y0, x1 - x0, y1 - y0)


def shrinkage(side: float, frame_hw: tuple[int, int], border: str, max_scale_change: float | None) -> float:
    """Factor >= 1 by which a window shrinks: inside until both axes fit the frame, inside_major until one."""
    pick = max if border == "inside" else min
    factor = max(1.0, pick(side / n for n in frame_hw))
    return factor if max_scale_change is None else min(factor, max_scale_change)


def _shift_inside(low: float, high: float, length: int) -> tuple[float, float]:
    """The interval shifted into [0, length); if it is longer, it overhangs on both sides."""
    shift = max(0, -low) + min(0, length - high)
    low, high = low + shift, high + shift
    overhang = (max(0, -low) + max(0, high - length)) // 2
    shift = -low - overhang if overhang > 0 else 0
    return low + shift, high + shift


def take(frame: np.ndarray, window: Window, size: int) -> np.ndarray:
    """The window's pixels, resized bilinearly (half-pixel centres): float32 [size, size, 3], 0..255."""
    if window.every > 1:
        frame = frame[window.first[0] :: window.every, window.first[1] :: window.every]
    part = window_pixels(frame, (window.x0, window.y0, window.width, window.height))
    part = np.ascontiguousarray(part, dtype=np.float32)
    return cv2.resize(part, (size, size), interpolation=cv2.INTER_LINEAR)


def box_in_patch(
    centre: Point, size: Sequence[float], window_centre: Point, scale: float, patch: int
) -> list[float]:
    """Target at `centre` (row, column) of size (h, w), frame px -> x, y, w, h in patch pixels."""
    (row, column), (h, w) = centre, (s / scale for s in size)
    middle = (patch - 1) / 2
    return [
        (column - window_centre[1]) / scale + middle - (w - 1) / 2,
        (row - window_centre[0]) / scale + middle - (h - 1) / 2,
        w,
        h,
    ]
