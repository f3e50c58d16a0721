"""OpenCV's trackers MIL and Nano, run as ours are, for comparison.

MIL draws from two generators of the whole process: OpenCV's, and `rand()` of the C library. Both are seeded
before every call from the seed of the sequence and the number of the frame, so its boxes are the same
whatever else ran in this process, before or in between.
"""

import contextlib
import ctypes
import functools
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from chase_fast.errors import ChaseError
from chase_fast.evaluate.trackers import digest
from chase_fast.files import user_path

USAGE = "mil or nano:BACKBONE.onnx:HEAD.onnx"


@dataclass(frozen=True)
class PeerResult:
    """box: x, y, w, h in pixels (whole numbers: OpenCV's interface)."""

    box: tuple[float, float, float, float]


class PeerSession:
    """A cv2.Tracker behind `init` and `update`. When it reports a loss, its last box stands."""

    def __init__(self, tracker: Any, seed: int):
        self._tracker, self._seed, self._frame = tracker, seed, 0

    def init(self, frame: np.ndarray, box: Sequence[float]) -> None:
        x, y, w, h = (round(float(v)) for v in box)
        self._box = (x, y, max(w, 1), max(h, 1))
        seed_generators(self._seed)
        self._tracker.init(_bgr(frame), self._box)

    def update(self, frame: np.ndarray) -> PeerResult:
        self._frame += 1
        seed_generators(self._seed + self._frame)
        found, box = self._tracker.update(_bgr(frame))
        if found:
            self._box = tuple(box)
        x, y, w, h = map(float, self._box)
        return PeerResult((x, y, w, h))


def seed_generators(seed: int) -> None:
    """Seeds what OpenCV's trackers draw from."""
    cv2.setRNGSeed(seed % 2**31)
    _c_library().srand(ctypes.c_uint(seed % 2**31))


@functools.cache
def _c_library() -> ctypes.CDLL:
    """The C library whose rand() OpenCV calls."""
    return ctypes.CDLL("ucrtbase" if sys.platform == "win32" else None)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without OpenCV's warnings: every load of a network says that its new engine knows no targets."""
    logging = cv2.utils.logging
    before = logging.setLogLevel(logging.LOG_LEVEL_ERROR)
    try:
        yield
    finally:
        logging.setLogLevel(before)


def _bgr(frame: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(frame[:, :, ::-1])


@dataclass(frozen=True)
class OpenCV:
    """`mil`, or `nano` with its two networks."""

    kind: str
    files: tuple[str, ...] = ()

    def identity(self) -> dict[str, Any]:
        about = {"opencv": self.kind, "files": [digest(f) for f in self.files], "version": cv2.__version__}
        # results of versions that seeded otherwise are not continued
        return about | ({"generators": "seeded before every call"} if self.kind == "mil" else {})

    def start(self, seed: int) -> PeerSession:
        if self.kind == "mil":
            return PeerSession(cv2.TrackerMIL.create(), seed)
        parameters = cv2.TrackerNano.Params()
        parameters.backbone, parameters.neckhead = self.files
        with _quiet():
            return PeerSession(cv2.TrackerNano.create(parameters), seed)


def parse_peer(text: str) -> tuple[str, OpenCV]:
    """`mil` or `nano:BACKBONE.onnx:HEAD.onnx` -> name and tracker.

    Raises:
        ChaseError: something else, or a missing file.
    """
    kind, *files = text.split(":")
    if (kind, len(files)) not in (("mil", 0), ("nano", 2)):
        raise ChaseError(f"--opencv {text}: known are {USAGE}")
    if missing := [f for f in files if not user_path(f).is_file()]:
        raise ChaseError(f"--opencv {text}: there is no file {missing[0]}")
    return f"opencv-{kind}", OpenCV(kind, tuple(str(user_path(f)) for f in files))
