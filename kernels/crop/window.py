"""Which integer window of an image a box asks for (PrDiMP's training crop): integers only, no pixels."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MODES = ("replicate", "inside", "inside_major")


@dataclass(frozen=True)
class Window:
    """Square window in image pixels.

    `trim_x`, `trim_y`: PrDiMP never reads the last column (row) of an image whose edge the window reaches,
    its padding being one too wide; passing `frame[:H - trim_y, :W - trim_x]` to `crop` reproduces that.
    """

    x0: int
    y0: int
    side: int
    trim_x: int = 0
    trim_y: int = 0

    @property
    def xywh(self) -> tuple[int, int, int, int]:
        return self.x0, self.y0, self.side, self.side

    def to_crop(self, box: Sequence[float] | np.ndarray, size: int) -> tuple[float, float, float, float]:
        """Box xywh in image pixels -> xywh in pixels of a crop of this window resized to `size`."""
        scale = size / self.side
        return (box[0] - self.x0) * scale, (box[1] - self.y0) * scale, box[2] * scale, box[3] * scale


def _shift_inside(start: int, side: int, length: int) -> int:
    """Shift the interval into [0, length); if it is longer than that, centre the overhang."""
    start += max(0, -start) + min(0, length - (start + side))
    left, right = max(0, -start), max(0, start + side - length)
    if left > 0 or right > 0:
        start = -((left + right) // 2)
    return start


def crop_window(
    box: Sequence[float] | np.ndarray,
    image_hw: tuple[int, int],
    factor: float,
    size: int,
    mode: str = "replicate",
    max_scale_change: float | None = None,
) -> Window:
    """Window of side `factor * sqrt(w h)` about the centre of box xywh, shifted into the image where it fits.

    Args:
        mode: `replicate` keeps the side; `inside` / `inside_major` shrink it to fit both axes / one axis,
            by at most `max_scale_change`.

    Raises:
        ValueError: the box has no area, or the mode is unknown.
    """
    if mode not in MODES:
        raise ValueError(f"crop mode {mode!r} is unknown, choose from {', '.join(MODES)}")
    x, y, w, h = (float(v) for v in box)
    if not (w > 0 and h > 0):
        raise ValueError(f"box {tuple(box)} has no area")
    rows, columns = image_hw
    side = math.ceil(size * math.sqrt(w * h / size**2) * factor)
    if mode != "replicate":
        pick = max if mode == "inside" else min
        shrink = max(1.0, pick(side / columns, side / rows))
        if max_scale_change is not None:
            shrink = min(shrink, max_scale_change)
        side = max(1, math.floor(side / shrink))
    x0 = _shift_inside(round(x + 0.5 * w - 0.5 * side), side, columns)
    y0 = _shift_inside(round(y + 0.5 * h - 0.5 * side), side, rows)
    return Window(
        x0,
        y0,
        side,
        trim_x=int(x0 + side >= columns and columns > 1),
        trim_y=int(y0 + side >= rows and rows > 1),
    )
