"""Many images in one file that FFmpeg does not read: animated WebP, TIFF of several pages. By OpenCV."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2

from chase_fast.errors import ChaseError
from chase_fast.track.frames import Levels
from chase_fast.track.sources.base import Frame
from chase_fast.track.sources.opencv import from_bgr, messages

_AT_ONCE = 16  # pages in memory


def page_count(path: Path) -> int:
    """Images in a file, 0 if OpenCV cannot tell."""
    try:
        with messages():
            return cv2.imcount(str(path))
    except cv2.error:
        return 0


class Pages:
    """See `Source`. Pages of a TIFF have no times.

    Raises (here and in `frames`):
        ChaseError: nothing is left after `start`; a page cannot be read.
    """

    live, kind, fps = False, "video", None

    def __init__(self, path: Path, start: int, count: int | None, levels: Levels | None = None):
        self.path, self._levels = str(path), levels
        self.notes: list[str] = []
        pages = page_count(path)
        if start >= pages:
            raise ChaseError(f"{path} has {pages} frames: nothing is left after --start {start}")
        self._range = range(start, pages if count is None else min(pages, start + count))
        self.total = len(self._range)
        self.about: dict[str, Any] = {"decoder": f"OpenCV {cv2.__version__}"}

    def frames(self) -> Iterator[Frame]:
        animated = self.path.lower().endswith(".webp") or _is_webp(self.path)
        read = self._animation if animated else self._tiff
        if not animated:
            self._choose_levels()
        number = self._range.start
        while number < self._range.stop:
            with messages():
                images = read(number, min(_AT_ONCE, self._range.stop - number))
            if not images:
                raise ChaseError(f"{self.path}: image {number} cannot be read")
            for image, time, duration in images:
                yield Frame(from_bgr(image, self._levels), number, time=time, duration=duration)
                number += 1

    def _choose_levels(self) -> None:
        """Those of the first page, for all; 8-bit pages need none."""
        first = self._tiff(0, 1)
        own = Levels.of(first[0][0]) if first else None
        if own is not None:
            self._levels = self._levels or own
            self.about["levels"] = [self._levels.low, self._levels.high]
            self.notes.append(f"the pages have more than 8 bits: {self._levels} become black to white")

    def _tiff(self, first: int, count: int) -> list[tuple]:
        _, images = cv2.imreadmulti(self.path, first, count, flags=cv2.IMREAD_UNCHANGED)
        return [(image, None, None) for image in images]

    def _animation(self, first: int, count: int) -> list[tuple]:
        found, animation = cv2.imreadanimation(self.path, 0, first + count)
        if not found:
            return []
        ends = [0.0]
        for milliseconds in animation.durations:
            ends.append(ends[-1] + float(milliseconds) / 1000)
        return [
            (image, ends[i], ends[i + 1] - ends[i]) for i, image in enumerate(animation.frames) if i >= first
        ]

    def close(self) -> None:
        pass


def _is_webp(path: str) -> bool:
    with open(path, "rb") as file:
        return file.read(12)[8:] == b"WEBP"
