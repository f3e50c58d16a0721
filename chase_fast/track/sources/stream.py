"""A stream without end as a connection: FFmpeg's, by PyAV."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import av
import numpy as np

from chase_fast.errors import ChaseError
from chase_fast.track.sources.container import Container, reason
from chase_fast.track.sources.live import Over
from chase_fast.track.sources.pixels import Pixels
from chase_fast.track.sources.reading import Reader

SEGMENTED = ("hls", "dash")  # come in bursts: shown at the pace of their stamps
_UNSTAMPED = ("mpjpeg", "mjpeg", "jpeg_pipe", "image2")  # FFmpeg counts their stamps, not the sender


class Stream:
    """A container that announces no end. See `Connection`.

    ended: called where it ends: it was the end, not a failure.
    """

    def __init__(self, container: Container, ended: Callable[[], bool] = lambda: False):
        self._container = container
        self._reader, self._pixels = Reader(container, threads=1), Pixels()
        self.fps = None if container.format in _UNSTAMPED else container.rate
        self.finished, self._ended = False, ended

    @property
    def notes(self) -> list[str]:
        return [*self._reader.notes, *self._pixels.notes]

    @property
    def about(self) -> dict[str, Any]:
        return {
            "decoder": f"PyAV {av.__version__}",
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
        except av.FFmpegError as e:
            raise ChaseError(reason(e)) from None
        self.finished = self._ended()
        if self._container.format in SEGMENTED and not self.finished:
            raise Over("its playlist brings nothing new")  # and begins with what was shown already

    def rgb(self, picture: Any) -> np.ndarray:
        return self._pixels.rgb(picture)

    def close(self) -> None:
        self._container.close()
