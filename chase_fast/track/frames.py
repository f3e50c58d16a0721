"""Frames and boxes as users have them -> RGB uint8 [H, W, 3] and four floats, or a clear refusal."""

from collections.abc import Sequence

import numpy as np

from chase_fast.errors import ChaseError

Box = tuple[float, float, float, float]  # x, y, w, h: top-left corner and size, image pixels
_MIN_SIDE = 1.0  # px


def to_rgb8(frame: np.ndarray) -> np.ndarray:
    """A frame of another kind as RGB uint8 [H, W, 3].

    Grey ([H, W] or one channel) becomes three equal channels; alpha (a second or fourth channel) is dropped;
    uint16 keeps its high byte; floating-point frames are taken as 0..1 if nothing exceeds 1, else as 0..255
    (NaN is 0); bool is 0 or 255. Channels keep their order: OpenCV's BGR frames need `[..., ::-1]` first.

    Raises:
        ChaseError: not an image of 1, 2 (grey and alpha), 3 or 4 channels, empty, or of another type.
    """
    frame = np.asarray(frame)
    if frame.ndim == 2:
        frame = frame[..., None]
    if frame.ndim != 3 or frame.size == 0 or frame.shape[2] not in (1, 2, 3, 4):
        raise ChaseError(
            f"a frame of shape {list(frame.shape)} is no image: give [H, W], [H, W, 3] or [H, W, 4]"
        )
    frame = frame[..., : 1 if frame.shape[2] < 3 else 3]
    if frame.dtype == np.uint16:
        frame = frame >> 8
    elif frame.dtype == np.bool_:
        frame = frame * 255
    elif frame.dtype.kind == "f":
        frame = np.nan_to_num(frame, nan=0.0)
        frame = np.clip(np.rint(frame * (255 if frame.max() <= 1 else 1)), 0, 255)
    elif frame.dtype != np.uint8:
        raise ChaseError(f"a frame of {frame.dtype} has no known range: give uint8, uint16 or float")
    return np.ascontiguousarray(np.broadcast_to(frame.astype(np.uint8), (*frame.shape[:2], 3)))


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


def check_box(box: Sequence[float], frame: np.ndarray) -> Box:
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
    rows, columns = frame.shape[:2]
    if x >= columns or y >= rows or x + w <= 0 or y + h <= 0:
        raise ChaseError(f"box {x:g},{y:g},{w:g},{h:g} lies outside the frame of {columns}x{rows} pixels")
    return x, y, w, h
