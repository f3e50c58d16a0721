"""Image file -> RGB uint8 [H, W, 3], or a part of it.

A part of a common JPEG is decoded natively (kernels/_jpeg.py), to the same pixels, in less time than the whole. Whole
JPEGs go through simplejpeg (libturbojpeg); everything else, and what simplejpeg refuses
(CMYK) or when it is not installed, through OpenCV. Both give the same pixels. Grey images become three equal
channels; 16-bit images keep their high byte; alpha is dropped; EXIF rotation is ignored (annotations are made
on stored pixels).
"""

from pathlib import Path

import cv2
import numpy as np

from chase_fast.kernels._jpeg import jpeg_part, jpeg_size
from chase_fast.kernels.crop import Window

try:
    import simplejpeg
except ImportError:
    simplejpeg = None

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
_JPEG, _PNG = b"\xff\xd8", b"\x89PNG"
_BROKEN_JPEG = ("Premature end", "Corrupt JPEG data")
_TAIL = 64


class BrokenImage(ValueError):
    """The file is missing or cannot be decoded completely; the text says why."""


def decode(data: bytes) -> np.ndarray:
    """Encoded image -> RGB uint8 [H, W, 3].

    Raises:
        BrokenImage: truncated, corrupt or not an image.
    """
    if simplejpeg is not None and data[:2] == _JPEG:
        try:
            return simplejpeg.decode_jpeg(data, colorspace="RGB")
        except ValueError as e:
            if str(e).startswith(_BROKEN_JPEG):
                raise BrokenImage(str(e)) from None
    if not data:
        raise BrokenImage("the file is empty")
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None:
        raise BrokenImage("not a complete image that OpenCV can read")
    return image


def read_bytes(path: str | Path) -> bytes:
    """The encoded image; raises BrokenImage."""
    try:
        return Path(path).read_bytes()
    except OSError as e:
        raise BrokenImage(e.strerror or str(e)) from None


def read_frame(path: str | Path) -> np.ndarray:
    """Image file -> RGB uint8 [H, W, 3]; raises BrokenImage."""
    return decode(read_bytes(path))


class Picture:
    """A frame whose pixels are decoded when a window of them is asked for; `shape` is that of the whole frame.

    Args:
        image: a whole frame [H, W, 3], or an encoded one.

    Raises:
        BrokenImage: here or by `part`, as `decode`.
    """

    def __init__(self, image: np.ndarray | bytes):
        self._data, self._whole = (image, None) if isinstance(image, bytes) else (None, image)
        size = None if self._data is None else jpeg_size(self._data)
        if size is None and self._whole is None:
            self._whole = decode(self._data)
        self.shape = self._whole.shape if size is None else (*size, 3)

    def part(self, window: Window) -> tuple[np.ndarray, tuple[int, int, int, int]]:
        """RGB uint8 pixels that hold all that a crop of the window shows, and the window (xywh) in them."""
        height, width = self.shape[0] - window.trim_y, self.shape[1] - window.trim_x
        x0, y0 = min(max(window.x0, 0), width - 1), min(max(window.y0, 0), height - 1)
        x1 = min(max(window.x0 + window.side, x0 + 1), width)
        y1 = min(max(window.y0 + window.side, y0 + 1), height)
        return self._pixels(x0, y0, x1, y1), (window.x0 - x0, window.y0 - y0, window.side, window.side)

    def _pixels(self, x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
        if self._whole is None:
            pixels = jpeg_part(self._data, x0, y0, x1, y1)
            if pixels is not None:
                return pixels
            self._whole = decode(self._data)  # damaged: this says how
        return self._whole[y0:y1, x0:x1]


def probe(path: str | Path) -> str | None:
    """Look at the first and last bytes only: why the file cannot be a whole image, or None."""
    try:
        with open(path, "rb") as file:
            head = file.read(8)
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _TAIL))
            tail = file.read()
    except OSError as e:
        return e.strerror or str(e)
    if not head:
        return "the file is empty"
    if head[:2] == _JPEG:
        return None if b"\xff\xd9" in tail else "the JPEG ends too early"
    if head[:4] == _PNG:
        return None if b"IEND" in tail else "the PNG ends too early"
    return None if cv2.haveImageReader(str(path)) else "not an image that OpenCV can read"
