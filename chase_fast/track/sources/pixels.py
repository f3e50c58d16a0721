"""A decoded frame -> RGB uint8 [H, W, 3] as a player shows it: by its own colour matrix, turned upright."""

import av
import numpy as np
from av.sidedata.sidedata import SideData
from av.video.reformatter import VideoReformatter

from chase_fast.track.frames import Levels, to_rgb8

_DEEP_GREY = ("gray9", "gray10", "gray12", "gray14", "gray16")
_UNKNOWN = 2  # AVCOL_SPC_UNSPECIFIED: swscale takes BT.601
_BRIGHT = {16: "PQ", 18: "HLG"}  # transfer functions of HDR
_TURNED = {90: (0, -1, 1, 0), -90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), -180: (-1, 0, 0, -1)}


class Pixels:
    """Converts frames of one source; notes say what a user should know about them.

    levels: of grey video of more than 8 bits; None: as its first frame has them.
    """

    def __init__(self, levels: Levels | None = None):
        self._reformatter = VideoReformatter()
        self.levels = levels
        self.notes: list[str] = []
        self._told: set[str] = set()

    def rgb(self, frame: "av.VideoFrame") -> np.ndarray:
        """Raises av.FFmpegError: no conversion from its pixel format."""
        if frame.color_trc in _BRIGHT:
            self._note(
                "hdr", f"the video is HDR ({_BRIGHT[frame.color_trc]}): brightness stays as it is coded"
            )
        return np.ascontiguousarray(upright(self._upside(frame), self._matrix(frame)))

    def _upside(self, frame: "av.VideoFrame") -> np.ndarray:
        if frame.format.name.startswith(_DEEP_GREY):
            grey = frame.to_ndarray()
            self.levels = self.levels or Levels.of(grey)
            self._note("levels", f"the video has more than 8 bits: {self.levels} become black to white")
            return to_rgb8(grey, self.levels)
        try:
            converted = self._reformatter.reformat(frame, format="rgb24", threads=1)
        except av.FFmpegError:
            frame.colorspace, frame.color_range = _UNKNOWN, 0
            converted = self._reformatter.reformat(frame, format="rgb24", threads=1)
            self._note(
                "matrix", "the video names a colour matrix that FFmpeg cannot convert: BT.601 is taken"
            )
        return converted.to_ndarray()

    def _matrix(self, frame: "av.VideoFrame") -> tuple[int, int, int, int] | None:
        """a, b, c, d of the display matrix if it turns by right angles, else None."""
        try:
            data = frame.side_data.get("DISPLAYMATRIX")
        except ValueError:  # PyAV stumbles over kinds of side data that it does not know
            return _TURNED.get(round(frame.rotation / 90) * 90)
        if not isinstance(data, SideData) or not data:
            return None
        a, b, _, c, d = np.frombuffer(bytes(data), "<i4").tolist()[:5]
        straight, across = (a, d), (b, c)
        if (all(straight) and not any(across)) or (all(across) and not any(straight)):
            return a, b, c, d
        self._note(
            "turned", f"the video is marked as turned by {frame.rotation} degrees: it is read as it is stored"
        )
        return None

    def _note(self, what: str, text: str) -> None:
        if what not in self._told:
            self._told.add(what)
            self.notes.append(text)


def upright(image: np.ndarray, matrix: tuple[int, int, int, int] | None) -> np.ndarray:
    """Turns and mirrors [H, W, 3] as the matrix (x, y) -> (a x + c y, b x + d y) does; signs alone matter."""
    if matrix is None:
        return image
    a, b, c, d = matrix
    if b:
        image = image.transpose(1, 0, 2)
    if a + c < 0:
        image = image[:, ::-1]
    if b + d < 0:
        image = image[::-1]
    return image
