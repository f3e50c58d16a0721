"""The annotated video: whatever happens to it, tracking goes on."""

from pathlib import Path

import cv2
import numpy as np

from chase_fast.track.encoders import H264, CannotEncode, Encoder, OpenCVEncoder
from chase_fast.track.output import VIDEOS

_OTHERS = (  # where H.264 cannot be written
    (VIDEOS[0], "mp4v", "MPEG-4 part 2 (browsers do not play it)"),
    (VIDEOS[1], "MJPG", "motion JPEG (browsers do not play it)"),
)


class AnnotatedVideo:
    """annotated.mp4 (see encoders.py). Pictures of another size than the first are scaled into it, with black
    bars.

    Attributes:
        name, codec: of the file; None if no video can be written here.
        notes: what the user should know about it; more may come with every picture.
    """

    def __init__(self, folder: Path, width: int, height: int, fps: float):
        self._folder, self._size, self._interval = folder, (width, height), 1 / fps
        self._time = -1.0
        self._duration: float | None = None
        self.notes: list[str] = []
        self._encoder = self._first_that_works(fps)
        self.name = self._encoder.name if self._encoder else None
        self.codec = self._encoder.codec if self._encoder else None

    def _first_that_works(self, fps: float) -> Encoder | None:
        reasons = []
        try:
            return H264(self._folder, *self._size, fps)
        except CannotEncode as e:
            reasons.append(str(e))
        for name, code, codec in _OTHERS:
            try:
                encoder = OpenCVEncoder(self._folder, name, code, codec, *self._size, fps)
            except CannotEncode as e:
                reasons.append(str(e))
                continue
            self.notes.append(f"no H.264 can be written here ({reasons[0]}): {name} is {codec}")
            return encoder
        self.notes.append(f"no annotated video is made: {'; '.join(reasons)}")
        return None

    def add(self, picture: np.ndarray, time: float, duration: float | None = None) -> None:
        """A picture, BGR uint8 [H, W, 3], shown from this second on (0 for the first) until the next one's
        time; the last one for its duration, if that is known."""
        encoder = self._encoder
        if encoder is None:
            return
        time = max(time, self._time + 1e-3)
        if self._time >= 0:
            self._interval = time - self._time
        self._time, self._duration = time, duration
        try:
            encoder.add(fitted(picture, *self._size), time)
        except CannotEncode as e:
            self._stop(encoder, e)

    def _stop(self, encoder: Encoder, error: CannotEncode) -> None:
        self._encoder = None
        why = "the disk is full" if error.full else str(error)
        end = f"{encoder.name} ends at {max(self._time, 0):.2f} s"
        self.notes.append(f"{end} ({why}): tracking goes on without it")
        try:
            encoder.close(self._time)
        except CannotEncode:
            return  # said already

    def close(self) -> None:
        if self._encoder is None:
            return
        encoder, self._encoder = self._encoder, None
        try:
            encoder.close(self._time + (self._duration or self._interval))
        except CannotEncode as e:
            why = "the disk is full" if e.full else str(e)
            self.notes.append(f"{encoder.name} could not be finished: {why}")

    def remove(self) -> None:
        """Gives its space on the disk back."""
        self._encoder = None
        if self.name is not None:
            (self._folder / self.name).unlink(missing_ok=True)
            self.name = None


def fitted(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    """[H, W, 3] -> [height, width, 3], its proportions kept, black around it."""
    rows, columns = picture.shape[:2]
    if (rows, columns) == (height, width):
        return picture
    factor = min(width / columns, height / rows)
    w, h = max(1, round(columns * factor)), max(1, round(rows * factor))
    x, y = (width - w) // 2, (height - h) // 2
    canvas = np.zeros((height, width, 3), np.uint8)
    canvas[y : y + h, x : x + w] = cv2.resize(picture, (w, h), interpolation=cv2.INTER_AREA)
    return canvas
