"""Live pictures: a thread reads as fast as the device sends, the tracker takes the newest."""

import threading
from collections.abc import Iterator

import cv2
import numpy as np


class Newest:
    """Iterates over (number from 0, BGR image) of a capture, leaving out what came while nobody asked.

    Ends when the capture does. Without the thread the frames would queue up: a tracker that is slower than
    the camera would fall behind more and more.
    """

    def __init__(self, capture: cv2.VideoCapture):
        self._capture = capture
        self._changed = threading.Condition()
        self._image: np.ndarray | None = None
        self._count, self._over = 0, False  # read so far; no more will come
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while not self._over:
            found, image = self._capture.read()
            with self._changed:
                if found:
                    self._image = image
                    self._count += 1
                else:
                    self._over = True
                self._changed.notify()

    def __iter__(self) -> Iterator[tuple[int, np.ndarray]]:
        while True:
            with self._changed:
                while self._image is None and not self._over:
                    self._changed.wait(0.5)
                if self._image is None:
                    return
                number, image, self._image = self._count - 1, self._image, None
            yield number, image

    def close(self) -> None:
        """Stops reading; waits for the frame that is on its way, but not for a silent device."""
        self._over = True
        self._thread.join(2)
