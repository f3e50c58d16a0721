"""Frames and boxes as users have them -> RGB uint8 [H, W, 3] and four floats, or a clear refusal."""

from collections.abc import Sequence

import numpy as np

from chase_fast.data.pixels import Levels, to_rgb8
from chase_fast.errors import ChaseError

__all__ = ["Box", "Levels", "check_box", "check_frame", "to_rgb8"]

Box = tuple[float, float, float, float]  # x, y, w, h: top-left corner and size, image pixels
_MIN_SIDE = 1.0  # px


def check_frame(frame: np.ndarray) -> np.ndarray:
    """The frame itself if it is RGB uint8 [H, W, 3].

    Raises:
        ChaseError: it is not.
    """
    if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        kind = f"{frame.dtype} {list(frame.shape)}" if isinstance(frame, np.ndarray) else type(frame).__name__
        raise ChaseError(
            f"a frame must be RGB uint8 [H, W, 3], not {kind}: chase_fast.track.frames.to_rgb8 makes one"
        )
    if 0 in frame.shape:
        raise ChaseError(f"a frame of {frame.shape[1]}x{frame.shape[0]} pixels is empty")
    return frame


def check_box(box: Sequence[float], frame: np.ndarray | None = None) -> Box:
    """The box as four floats.

    Raises:
        ChaseError: not four finite numbers, smaller than one pixel, or without a pixel inside the frame.
    """
    try:
        x, y, w, h = (float(v) for v in box)
    except (TypeError, ValueError):
        raise ChaseError(f"box {box!r}: give four numbers x,y,w,h in pixels") from None
    if not np.isfinite((x, y, w, h)).all():
        raise ChaseError(f"box {x:g},{y:g},{w:g},{h:g} holds NaN or infinity: the target's box must be known")
    if w < _MIN_SIDE or h < _MIN_SIDE:
        raise ChaseError(
            f"box {x:g},{y:g},{w:g},{h:g} has no size: width and height must be at least 1 pixel"
        )
    if frame is None:
        return x, y, w, h
    rows, columns = frame.shape[:2]
    if x >= columns or y >= rows or x + w <= 0 or y + h <= 0:
        raise ChaseError(f"box {x:g},{y:g},{w:g},{h:g} lies outside the frame of {columns}x{rows} pixels")
    return x, y, w, h
