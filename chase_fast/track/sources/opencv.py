"""OpenCV as a reader: cameras, and videos where PyAV is missing or cannot open them."""

import ctypes
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import cv2
import numpy as np

from chase_fast.errors import ChaseError
from chase_fast.track.frames import Levels, to_rgb8
from chase_fast.track.sources.base import Frame
from chase_fast.track.sources.damage import Damage

_RETRIES = 30  # reads in a row that may fail within a video
_SLACK = 2.5  # frames
_UNWRITTEN = (
    b"Cannot convert",
    b"swscaler",
    b"-> fmt:bgr24",
)  # FFmpeg's words when read() gives an unset picture


def from_bgr(image: np.ndarray, levels: Levels | None = None) -> np.ndarray:
    """A frame of OpenCV (BGR, BGRA or grey; see `to_rgb8` for types and levels) -> RGB uint8 [H, W, 3].

    Raises:
        ChaseError: not an image.
    """
    image = np.asarray(image)
    return to_rgb8(image[..., 2::-1] if image.ndim == 3 and image.shape[2] >= 3 else image, levels)


def silence() -> None:
    """OpenCV's and FFmpeg's own messages about unreadable sources: ours say it in one line."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # read when a capture is opened first
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def number_or_none(capture: cv2.VideoCapture, which: int) -> float | None:
    value = capture.get(which)
    return value if np.isfinite(value) and 0 < value < 1e9 else None


class CapturedVideo:
    """A video file read by OpenCV. See `Source`. why: what keeps PyAV from reading it.

    Raises (here and in `frames`):
        ChaseError: OpenCV cannot open it either, cannot convert its frames, or it breaks off.
    """

    live, kind = False, "video"

    def __init__(self, text: str, why: str, start: int, count: int | None):
        # its FFmpeg says only on standard error that a picture could not be converted
        os.environ["OPENCV_FFMPEG_LOGLEVEL"] = "16"
        self.path, self._start, self._count = text, start, count
        with messages():
            self._capture = cv2.VideoCapture(text)
        if not self._capture.isOpened():
            raise ChaseError(f"{text} is no video that can be read ({why})")
        self.fps = number_or_none(self._capture, cv2.CAP_PROP_FPS)
        frames = number_or_none(self._capture, cv2.CAP_PROP_FRAME_COUNT)
        self._announced = round(frames) / self.fps if frames and self.fps else None
        self.total = count if frames is None else min(count or round(frames), max(1, round(frames) - start))
        self.notes = [f"{why}: OpenCV decodes {text} instead; it cannot read interlaced video"]
        self._damage = Damage(self.fps)

    def frames(self) -> Iterator[Frame]:
        decoded = given = failed = 0
        time = -1.0
        while failed <= _RETRIES:
            with messages() as said:
                found, image = self._capture.read()
            if any(sign in said for sign in _UNWRITTEN):
                raise ChaseError(
                    f"{self.path}: OpenCV cannot convert frame {decoded} (it is interlaced): "
                    "install PyAV (pip install av), or deinterlace the video (ffmpeg -vf yadif)"
                )
            if not found:
                failed += 1
                continue
            stamp = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            interval = 1 / (self.fps or 25)
            time = stamp if stamp > time else time + interval
            number = self._number(time, failed)
            failed, decoded = 0, decoded + 1
            if decoded > self._start:
                yield Frame(from_bgr(image), number, time=max(time, 0.0), duration=interval)
                given += 1
                if given == self._count:
                    return
        end = time + 1 / (self.fps or 25)
        if decoded == 0:
            raise ChaseError(f"{self.path} holds no frame that can be decoded: it is empty or damaged")
        if self._announced is not None and end < self._announced - _SLACK / (self.fps or 25):
            raise ChaseError(
                f"{self.path} breaks off after frame {decoded - 1} at {max(time, 0):.2f} s "
                f"(it announces {self._announced:.2f} s)"
            )
        if decoded <= self._start:
            raise ChaseError(f"{self.path} has {decoded} frames: nothing is left after --start {self._start}")

    @property
    def about(self) -> dict[str, Any]:
        about = {"decoder": f"OpenCV {cv2.__version__}"}
        return about | ({"damage": self._damage.data} if self._damage.places else {})

    def _number(self, time: float, failed: int) -> int:
        if failed:
            self._damage.hit(time, packets=failed)
        number = self._damage.number(time, False, True)
        if failed:
            self.notes.append(
                f"{self.path} is damaged before frame {number} ({time:.2f} s); tracking goes on behind it"
            )
        return number

    def close(self) -> None:
        self._capture.release()


@contextmanager
def messages() -> Iterator[bytearray]:
    """What libraries write to standard output and standard error meanwhile."""
    said = bytearray()
    _flush()
    with tempfile.TemporaryFile() as file:
        before = {number: os.dup(number) for number in (1, 2)}
        for number in before:
            os.dup2(file.fileno(), number)
        try:
            yield said
        finally:
            _flush()
            for number, copy in before.items():
                os.dup2(copy, number)
                os.close(copy)
            file.seek(0)
            said += file.read()


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    with suppress(OSError, AttributeError, TypeError):  # the buffers of C, where they can be reached
        ctypes.CDLL(None).fflush(None)
