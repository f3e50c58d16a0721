"""Pixels of any kind -> RGB uint8: the one rule for files, datasets, cameras and adapters.

8-bit pixels stay as they are. Others are scaled by `Levels`, which are chosen once per sequence, from its
first frame, so that equal values look equal in all frames, whatever is read in whichever order by whom.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from chase_fast.errors import ChaseError

_FULL = (1, 255, 1023, 4095, 16383, 65535)  # white of floats, and of 8, 10, 12, 14 and 16 bits
_USED = 4  # a frame that uses less than one part of so many of a range is stretched
_KINDS = ("b1", "u1", "i1", "i2", "i4", "u2", "u4", "f2", "f4", "f8")


@dataclass(frozen=True)
class Levels:
    """Which values of a sequence become black (`low` and below) and white (`high` and above).

    Between them lie 256 equal steps. NaN is black.
    """

    low: float
    high: float

    def __post_init__(self):
        if not (np.isfinite(self.low) and np.isfinite(self.high) and self.low < self.high):
            raise ChaseError(f"grey levels {self}: give two numbers, black below white")

    @classmethod
    def of(cls, frame: np.ndarray) -> "Levels | None":
        """The levels of a sequence with this first frame; None for 8 bits and for bool, which need none.

        From 0 to the white of its kind (1 for floats; 8, 10, 12, 14 or 16 bits: the smallest that holds the
        values), if the frame uses a quarter of that. Else, or with negative values, from the smallest to the
        largest value of the frame, but no further beyond its percentiles 0.1 and 99.9 (floats: 1 and 99, for
        highlights) than a quarter of their distance: dead pixels do not count.
        """
        frame = _colours(frame)
        if frame.dtype in (np.uint8, np.bool_):
            return None
        values = frame[np.isfinite(frame)] if frame.dtype.kind == "f" else frame.ravel()
        if not values.size:
            return cls(0.0, 1.0)
        few = values.size // (100 if values.dtype.kind == "f" else 1000)
        values = np.partition(values, sorted({0, few, values.size - 1 - few, values.size - 1}))
        smallest, dark, bright, largest = (float(values[k]) for k in (0, few, -1 - few, -1))
        margin = (bright - dark) / 4 if bright > dark else np.inf
        low, high = max(smallest, dark - margin), min(largest, bright + margin)
        white = next((full for full in _FULL if high <= full), None)
        if low >= 0 and white and (high == low or _USED * (high - low) >= white):
            return cls(0.0, float(white))
        return cls(low, high if high > low else low + 1)

    @classmethod
    def parse(cls, text: str) -> "Levels":
        """`LOW,HIGH` -> Levels; raises ChaseError."""
        try:
            low, high = map(float, text.split(","))
        except ValueError:
            raise ChaseError(f"grey levels {text}: give two numbers LOW,HIGH") from None
        return cls(low, high)

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}"

    def apply(self, frame: np.ndarray) -> np.ndarray:
        """Values of any type -> uint8."""
        return _table(self)[frame] if frame.dtype == np.uint16 else self.scaled(frame)

    def scaled(self, values: np.ndarray) -> np.ndarray:
        """`apply` by arithmetic."""
        steps = (values.astype(np.float64) - self.low) * (256 / (self.high - self.low))
        return np.clip(np.nan_to_num(steps, nan=0.0), 0, 255).astype(np.uint8)


@lru_cache(32)
def _table(levels: Levels) -> np.ndarray:
    """What every value of 16 bits becomes: looking it up is faster."""
    return levels.scaled(np.arange(2**16))


# the levels of a sequence, or how to find them: asked only for frames that need them
Scale = Levels | Callable[[], Levels | None] | None


def to_rgb8(frame: np.ndarray, levels: Scale = None) -> np.ndarray:
    """A frame of any kind as RGB uint8 [H, W, 3].

    Grey ([H, W] or one channel) becomes three equal channels; alpha (a second or fourth channel) is dropped,
    and transparent pixels keep their colour; bool is 0 or 255; uint8 stays. Integers of up to 32 bits and
    floats are scaled by `levels`. Channels keep their order: OpenCV's BGR frames need `[..., ::-1]` first.

    Args:
        levels: of the sequence, `Levels.of` its first frame. None: the range of the type, which is that of
            every frame of a video, but leaves little of frames that use a part of it: for uint16 the high
            byte; for floats 0..1 if 99 of 100 values lie there, else 0..255; for other integers what
            `Levels.of` this very frame says.

    Raises:
        ChaseError: not an image of 1, 2 (grey and alpha), 3 or 4 channels, empty, or of another type.
    """
    frame = _colours(frame)
    if frame.dtype == np.bool_:
        frame = frame.astype(np.uint8) * 255
    elif frame.dtype != np.uint8:
        found = levels() if callable(levels) else levels
        frame = (found or _of_type(frame)).apply(frame)
    return np.ascontiguousarray(np.broadcast_to(frame, (*frame.shape[:2], 3)))


def _colours(frame: np.ndarray) -> np.ndarray:
    """[H, W, 1 or 3] without alpha, in native byte order; raises ChaseError, see `to_rgb8`."""
    frame = np.asarray(frame)
    if frame.ndim == 2:
        frame = frame[..., None]
    if frame.ndim != 3 or frame.size == 0 or frame.shape[2] not in (1, 2, 3, 4):
        raise ChaseError(
            f"a frame of shape {list(frame.shape)} is no image: give [H, W], [H, W, 3] or [H, W, 4]"
        )
    if frame.dtype.str[1:] not in _KINDS:
        raise ChaseError(f"a frame of {frame.dtype} has no known range: give uint8, uint16 or float")
    frame = frame[..., : 1 if frame.shape[2] < 3 else 3]
    return frame.astype(frame.dtype.newbyteorder("="), copy=False)


def _of_type(frame: np.ndarray) -> Levels:
    if frame.dtype == np.uint16:
        return Levels(0.0, 65535.0)
    if frame.dtype.kind == "f":
        finite = frame[np.isfinite(frame)]
        return Levels(0.0, 255.0 if finite.size and np.quantile(finite, 0.99) > 1 else 1.0)
    levels = Levels.of(frame)
    assert levels is not None, "bool and uint8 need none"
    return levels
