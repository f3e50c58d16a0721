"""A camera as a connection: OpenCV's."""

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np

from chase_fast.errors import ChaseError
from chase_fast.track.sources.opencv import from_bgr, number_or_none, silence


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
