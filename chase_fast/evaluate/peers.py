"""OpenCV's trackers MIL and Nano, run as ours are, for comparison."""

from collections.abc import Sequence
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

    def __init__(self, tracker: Any):
        self._tracker = tracker

    def init(self, frame: np.ndarray, box: Sequence[float]) -> None:
        x, y, w, h = (round(float(v)) for v in box)
        self._box = (x, y, max(w, 1), max(h, 1))
        self._tracker.init(_bgr(frame), self._box)

    def update(self, frame: np.ndarray) -> PeerResult:
        found, box = self._tracker.update(_bgr(frame))
        if found:
            self._box = tuple(box)
        return PeerResult(tuple(float(v) for v in self._box))


def _bgr(frame: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(frame[:, :, ::-1])


@dataclass(frozen=True)
class OpenCV:
    """`mil`, or `nano` with its two networks."""

    kind: str
    files: tuple[str, ...] = ()

    def identity(self) -> dict[str, Any]:
        return {"opencv": self.kind, "files": [digest(f) for f in self.files], "version": cv2.__version__}

    def start(self, seed: int) -> PeerSession:
        cv2.setRNGSeed(seed % 2**31)
        if self.kind == "mil":
            return PeerSession(cv2.TrackerMIL.create())
        parameters = cv2.TrackerNano.Params()
        parameters.backbone, parameters.neckhead = self.files
        return PeerSession(cv2.TrackerNano.create(parameters))


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
