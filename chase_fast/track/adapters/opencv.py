"""The tracker with the habits of OpenCV's `cv2.Tracker`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from chase_fast.track.frames import Box, Levels
from chase_fast.track.result import Result
from chase_fast.track.sources.opencv import from_bgr
from chase_fast.track.tracker import Tracker


class TrackerChase:
    """Takes the place of a tracker of OpenCV's main module:

        tracker = TrackerChase.create("best.safetensors")      # cv2.TrackerNano_create(...)
        tracker.init(image, (x, y, w, h))
        ok, (x, y, w, h) = tracker.update(image)

    Images are as cv2.imread and VideoCapture give them: BGR, also BGRA, grey, of 16 bits and of floats.
    As there, update returns whole pixels; `box` holds the last result in floats, which are more accurate.

    levels: which values of images of more than 8 bits are black and white; None: as the image given to
    `init` has them (`Levels.of`).
    """

    def __init__(self, tracker: Tracker, levels: Levels | None = None):
        self._tracker, self._chosen, self._levels = tracker, levels, levels
        self._result: Result | None = None
        self._given: Box | None = None

    @classmethod
    def create(
        cls,
        checkpoint: str | Path,
        preset: str = "accurate",
        levels: Levels | None = None,
        **options: Any,
    ) -> "TrackerChase":
        """options: device, seed and settings, as `Tracker.load`, which also says what it raises."""
        return cls(Tracker.load(checkpoint, preset, **options), levels)

    def init(self, image: np.ndarray, boundingBox: Sequence[float]) -> None:
        """Learns the target, x, y, w, h in pixels (floats are welcome); forgets any other.

        Raises:
            ChaseError: not an image, or a box that is no target.
        """
        self._levels = self._chosen or Levels.of(image)
        self._tracker.init(from_bgr(image, self._levels), boundingBox)
        x, y, w, h = (float(v) for v in boundingBox)
        self._result, self._given = None, (x, y, w, h)

    def update(self, image: np.ndarray) -> tuple[bool, tuple[int, int, int, int]]:
        """Finds the target: (found, (x, y, w, h)). While it is lost (False) the box is the last one found.

        Raises:
            ChaseError: not an image, or no `init` before.
        """
        self._result = self._tracker.update(from_bgr(image, self._levels))
        x, y, w, h = self._result.box
        return self._result.state != "lost", (round(x), round(y), max(1, round(w)), max(1, round(h)))

    def getTrackingScore(self) -> float:
        """Score of the last update, as `Result.score`; 0 before the first."""
        return self._result.score if self._result else 0.0

    @property
    def box(self) -> Box | None:
        """The last box in floats: of the last update, else of `init`."""
        return self._result.box if self._result else self._given

    @property
    def state(self) -> str | None:
        """State of the last update, as `Result.state`."""
        return self._result.state if self._result else None
