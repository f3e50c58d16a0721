"""Connections to live sources: a stream of FFmpeg (by PyAV), a camera of OpenCV."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np

from chase_fast.errors import ChaseError
from chase_fast.track.sources.container import Container, reason
from chase_fast.track.sources.live import Over
from chase_fast.track.sources.opencv import from_bgr, number_or_none, silence
from chase_fast.track.sources.pixels import Pixels

SEGMENTED = ("hls", "dash")  # come in bursts: shown at the pace of their stamps
_UNSTAMPED = (
    "mpjpeg",
    "mjpeg",
    "jpeg_pipe",
    "image2",
)  # their stamps are counted by FFmpeg, not the sender's


class Stream:
    """A container that announces no end. See `Connection`.

    ended: called where it ends: it was the end, not a failure.
    """

    def __init__(self, container: Container, ended: Callable[[], bool] = lambda: False):
        import av

        from chase_fast.track.sources.reading import Reader

        self._av, self._container = av, container
        self._reader, self._pixels = Reader(container, threads=1), Pixels()
        self.fps = None if container.format in _UNSTAMPED else container.rate
        self.finished, self._ended = False, ended

    @property
    def notes(self) -> list[str]:
        return [*self._reader.notes, *self._pixels.notes]

    @property
    def about(self) -> dict[str, Any]:
        return {
            "decoder": f"PyAV {self._av.__version__}",
            "codec": self._container.codec,
            "format": self._container.format,
            "damaged_places": len(self._reader.damage.places),
        }

    def pictures(self) -> Iterator[tuple[Any, float | None]]:
        stamped = self._container.format not in _UNSTAMPED
        began = time.monotonic()
        try:
            for picture in self._reader.pictures():
                if self._container.format in SEGMENTED:
                    time.sleep(min(1.0, max(0.0, picture.time - (time.monotonic() - began))))
                yield picture.frame, picture.time if stamped else None
        except self._av.FFmpegError as e:
            raise ChaseError(reason(e)) from None
        self.finished = self._ended()
        if self._container.format in SEGMENTED and not self.finished:
            raise Over("its playlist brings nothing new")  # and begins with what was shown already

    def rgb(self, picture: Any) -> np.ndarray:
        return self._pixels.rgb(picture)

    def close(self) -> None:
        self._container.close()


class Camera:
    """A capture device, or a stream where PyAV is missing, by OpenCV. See `Connection`.

    Raises:
        ChaseError: it cannot be opened.
    """

    finished = False

    def __init__(self, device: int | str, notes: list[str] | None = None):
        silence()
        self._capture = cv2.VideoCapture(device)
        if not self._capture.isOpened():
            raise ChaseError("OpenCV cannot open it")
        self.fps = number_or_none(self._capture, cv2.CAP_PROP_FPS)
        self.notes = notes or []
        self.about: dict[str, Any] = {
            "decoder": f"OpenCV {cv2.__version__} ({self._capture.getBackendName()})"
        }

    def pictures(self) -> Iterator[tuple[Any, float | None]]:
        while True:
            found, image = self._capture.read()
            if not found:
                raise ChaseError("a frame could not be read")
            yield image, None

    def rgb(self, picture: Any) -> np.ndarray:
        return from_bgr(picture)

    def close(self) -> None:
        self._capture.release()
