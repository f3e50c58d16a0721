"""Where frames come from: a folder, a video file, a camera or a stream -> RGB uint8 [H, W, 3], one by one."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from chase_fast.data.decode import EXTENSIONS, BrokenImage, read_frame
from chase_fast.data.frames import images_in, missing_number
from chase_fast.errors import ChaseError, MissingFile
from chase_fast.track.frames import to_rgb8
from chase_fast.track.source_live import Newest

_SLACK = 0.01  # containers without an index announce a number of frames that may be off by so much, and by 2


@dataclass(frozen=True)
class Frame:
    """image: RGB uint8 [H, W, 3]; number: in the source, from 0; name: of its file in a folder."""

    image: np.ndarray
    number: int
    name: str | None = None


class Source(Protocol):
    """An open source.

    Attributes:
        kind: folder, video, camera or stream.
        path: what is read.
        total: frames that will come, None if nobody knows; a container may announce a wrong number.
        fps: frames per second, None if unknown.
        notes: what the user should know before tracking.
    """

    kind: str
    path: str
    total: int | None
    fps: float | None
    notes: list[str]

    def frames(self) -> Iterator[Frame]:
        """The frames, once.

        Raises:
            ChaseError: the source ends before its end; the frames before are good.
        """

    def close(self) -> None:
        """Frees device and file."""


def from_bgr(image: np.ndarray) -> np.ndarray:
    """A frame of OpenCV (BGR, BGRA or grey; see `to_rgb8` for types) -> RGB uint8 [H, W, 3].

    Raises:
        ChaseError: not an image.
    """
    image = np.asarray(image)
    return to_rgb8(image[..., 2::-1] if image.ndim == 3 and image.shape[2] >= 3 else image)


def open_source(text: str, start: int = 0, count: int | None = None) -> Source:
    """Opens a folder of frames, a video file, a stream URL (has ://) or a camera (a number that is no file).

    start: frames to pass over. count: most frames to give.

    Raises:
        ChaseError: there is no such thing, it cannot be read, or it has no frame after `start`.
    """
    if start < 0 or (count is not None and count < 1):
        raise ChaseError("--start must be 0 or more and --frames 1 or more")
    _silence()
    path = Path(text)
    if path.is_dir():
        return Folder(path, start, count)
    if path.is_file():
        if path.suffix.lower() in EXTENSIONS:
            raise ChaseError(f"{text} is a single image: give the folder of the frames, or a video")
        return Video(text, "video", start, count)
    if "://" in text or text.isdecimal():
        return Video(text, "stream" if "://" in text else "camera", start, count)
    raise MissingFile(
        f"{text}: no such file or folder; give a video, a folder of frames, a camera's number or a URL"
    )


def _silence() -> None:
    """OpenCV's and FFmpeg's own messages about unreadable sources: ours say it in one line."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # read when a capture is opened first
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


class Folder:
    """Image files in numerical order: those of the folder, or of its only subfolder with images.

    A missing number is a note: the frames around it count as neighbours.
    """

    kind, fps = "folder", None

    def __init__(self, path: Path, start: int, count: int | None):
        self.path = str(path)
        try:
            names = images_in(path)
            if not names:
                found = {p: n for p in sorted(path.iterdir()) if p.is_dir() and (n := images_in(p))}
                if len(found) > 1:
                    some = ", ".join(p.name for p in list(found)[:3])
                    raise ChaseError(
                        f"{path} holds {len(found)} folders of frames ({some} ...): give one of them"
                    )
                path, names = next(iter(found.items()), (path, ()))
        except OSError as e:
            raise ChaseError(f"cannot read the folder {path}: {e.strerror}") from None
        if not names:
            raise ChaseError(f"{path} holds no frames ({', '.join(sorted(EXTENSIONS))})")
        gap = missing_number(names)
        self.notes = (
            [] if gap is None else [f"frame number {gap} is missing in {path}: tracking leaps over it"]
        )
        last = len(names) if count is None else min(len(names), start + count)
        if start >= last:
            raise ChaseError(f"{path} has {len(names)} frames: nothing is left after --start {start}")
        self._folder, self._names, self._range = path, names, range(start, last)
        self.total = len(self._range)

    def frames(self) -> Iterator[Frame]:
        for i in self._range:
            name = self._names[i]
            try:
                yield Frame(read_frame(self._folder / name), i, name)
            except BrokenImage as e:
                raise ChaseError(f"frame {self._folder / name} cannot be read: {e}") from None

    def close(self) -> None:
        pass


class Video:
    """What OpenCV can capture. Without a number of frames (cameras, live streams) frames that come faster
    than they are tracked are dropped, so that the newest one is tracked: then it never ends by itself."""

    def __init__(self, text: str, kind: str, start: int, count: int | None):
        self.path, self.kind, self.notes = text, kind, []
        self._capture = cv2.VideoCapture(int(text) if kind == "camera" else text)
        if not self._capture.isOpened():
            why = {
                "video": "is no video that OpenCV can read, or is cut off",
                "camera": "cannot be opened: no such device, or another program uses it",
                "stream": "cannot be opened: check address, network and server",
            }
            raise ChaseError(f"{'camera ' if kind == 'camera' else ''}{text} {why[kind]}")
        self.fps = self._property(cv2.CAP_PROP_FPS)
        announced = self._property(cv2.CAP_PROP_FRAME_COUNT) if kind != "camera" else None
        self._announced = None if announced is None else round(announced)
        self._start, self._count = start, count
        self.total = count
        if self._announced is not None:
            left = max(1, self._announced - start)
            self.total = left if count is None else min(count, left)
        live = kind != "video" and self._announced is None
        self._newest = Newest(self._capture) if live else None

    def _property(self, which: int) -> float | None:
        value = self._capture.get(which)
        return value if np.isfinite(value) and 0 < value < 1e9 else None

    def frames(self) -> Iterator[Frame]:
        return islice(self._all(), self._count)

    def _all(self) -> Iterator[Frame]:
        number = 0
        if self._newest:
            for number, image in self._newest:
                if number >= self._start:
                    yield Frame(from_bgr(image), number)
            raise ChaseError(f"{self.kind} {self.path} stopped sending after {number + 1} frames")
        while number < self._start and self._capture.grab():
            number += 1
        while number >= self._start:
            found, image = self._capture.read()
            if not found:
                break
            yield Frame(from_bgr(image), number)
            number += 1
        announced = self._announced or 0
        if number < announced - max(2, _SLACK * announced):
            raise ChaseError(
                f"{self.path} announces {announced} frames but only {number} can be decoded: "
                "it is cut off or damaged"
            )
        if number == 0:
            raise ChaseError(f"{self.path} holds no frame that can be decoded: it is empty or damaged")
        if number <= self._start:
            raise ChaseError(f"{self.path} has {number} frames: nothing is left after --start {self._start}")

    def close(self) -> None:
        if self._newest:
            self._newest.close()
        self._capture.release()
