"""Pictures -> a video file: H.264 in MP4 by PyAV; where that cannot be, what OpenCV can write."""

from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from chase_fast.files import is_full
from chase_fast.track.output import VIDEOS

_TICKS = 90000  # per second
# zerolatency: no picture waits in the encoder; superfast: what it costs is what OpenCV's encoder costs
_OPTIONS = {"preset": "superfast", "tune": "zerolatency", "crf": "20"}
# a fragmented file while it is written, a common one when it is closed
_MUXER = {"movflags": "frag_every_frame+empty_moov+default_base_moof+hybrid_fragmented"}
_BT709, _LIMITED = 1, 1


class CannotEncode(Exception):
    """Why no (further) picture can be written. full: the disk is."""

    def __init__(self, text: str, full: bool = False):
        super().__init__(text)
        self.full = full


class Encoder(Protocol):
    """name: of the file; codec: in words. Methods and constructors raise CannotEncode."""

    name: str
    codec: str

    def add(self, picture: np.ndarray, time: float) -> None:
        """A picture, BGR uint8 [H, W, 3], shown from this second on. Times grow."""

    def close(self, end: float) -> None:
        """end: the second up to which the last picture is shown."""


class H264:
    """annotated.mp4 as browsers play it, with the times given; odd sizes get one more row or column.

    Every picture is written as one whole fragment as soon as the next one is known: what a killed process
    leaves can be played.
    """

    name, codec = VIDEOS[0], "H.264"

    def __init__(self, folder: Path, width: int, height: int, fps: float):
        with _reasons():
            import av

            self._av = av
            self._held: av.Packet | None = None
            self._file = _Pieces(folder / self.name)
            self._out = av.open(self._file, "w", format="mp4", options=_MUXER)
            rate = Fraction(fps).limit_denominator(1001)
            self._stream = stream = self._out.add_stream("libx264", rate=rate, options=_OPTIONS)
            stream.width, stream.height, stream.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
            context = stream.codec_context
            stream.time_base = context.time_base = Fraction(1, _TICKS)
            context.thread_count = 4
            context.gop_size = max(1, round(2 * fps))  # a key frame every two seconds, to jump to
            context.colorspace = context.color_primaries = context.color_trc = _BT709
            context.color_range = _LIMITED
            context.open()

    def add(self, picture: np.ndarray, time: float) -> None:
        rows, columns = picture.shape[:2]
        even = np.pad(picture, ((0, rows % 2), (0, columns % 2), (0, 0)), "edge")
        with _reasons():
            frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="bgr24")
            frame = frame.reformat(format="yuv420p", dst_colorspace="itu709", dst_color_range="MPEG")
            frame.pts, frame.time_base = round(time * _TICKS), Fraction(1, _TICKS)
            for packet in self._stream.encode(frame):
                assert packet.pts is not None
                self._mux_held(packet.pts)
                self._held = packet

    def _mux_held(self, until: int) -> None:
        if self._held is not None:
            self._held.duration = max(1, until - (self._held.pts or 0))
            self._out.mux(self._held)
            self._file.flush()

    def close(self, end: float) -> None:
        try:
            with _reasons():
                self._mux_held(round(end * _TICKS))
                self._held = None
                self._out.close()
                self._file.flush()
        finally:
            self._file.close()


class OpenCVEncoder:
    """annotated.mp4 or annotated.avi of constant rate: a picture is repeated until the next one's time. Odd
    sizes get one more row or column."""

    def __init__(self, folder: Path, name: str, code: str, codec: str, width: int, height: int, fps: float):
        self.name, self.codec, self._fps, self._written = name, codec, fps, 0
        self._path = folder / name
        self._held: np.ndarray | None = None
        size = width + width % 2, height + height % 2
        self._out = cv2.VideoWriter(str(self._path), cv2.VideoWriter.fourcc(*code), fps, size)
        if not self._out.isOpened():
            self._path.unlink(missing_ok=True)
            raise CannotEncode(f"OpenCV cannot write {codec} here")

    def add(self, picture: np.ndarray, time: float) -> None:
        self._repeat_until(time)
        rows, columns = picture.shape[:2]
        self._held = np.pad(picture, ((0, rows % 2), (0, columns % 2), (0, 0)), "edge")

    def _repeat_until(self, time: float) -> None:
        while self._held is not None and self._written < max(round(time * self._fps), 1):
            self._out.write(self._held)
            self._written += 1

    def close(self, end: float) -> None:
        self._repeat_until(end)
        self._out.release()
        if self._written and not (self._path.is_file() and self._path.stat().st_size):
            raise CannotEncode("OpenCV wrote nothing")


class _Pieces:
    """A new file that is written in whole pieces: `flush` says when one is complete."""

    def __init__(self, path: Path):
        self._file = path.open("wb", buffering=0)
        self._pending = bytearray()

    def write(self, data: bytes) -> int:
        self._pending += data
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        self.flush()
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell() + len(self._pending)

    def flush(self) -> None:
        """Raises OSError."""
        piece, self._pending = memoryview(bytes(self._pending)), bytearray()
        while piece:
            piece = piece[self._file.write(piece) :]

    def close(self) -> None:
        with suppress(OSError):
            self._file.close()


@contextmanager
def _reasons():
    """Whatever goes wrong in PyAV and on the disk -> CannotEncode."""
    try:
        yield
    except ImportError:
        raise CannotEncode("PyAV (av) is not installed") from None
    except Exception as e:  # PyAV's errors have no common base but this
        text = getattr(e, "strerror", None) or str(e) or type(e).__name__
        raise CannotEncode(text, isinstance(e, OSError) and is_full(e)) from None
