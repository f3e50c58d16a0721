"""Image file -> RGB uint8 [H, W, 3], or a part of it.

What a file holds decides, not its ending. A part of a common JPEG is decoded natively (kernels/_jpeg.py),
to the same pixels, in less time. Whole JPEGs go through simplejpeg (libturbojpeg), TIFF through `tiff`,
everything else through OpenCV, then Pillow, then FFmpeg (PyAV): what one cannot read another one may.
Grey images become three equal channels; 16-bit and floating-point ones are scaled by the sequence's
`pixels.Levels`; alpha is dropped; of several pictures in a file the first is taken; EXIF rotation and
TIFF orientation turn nothing (annotations are made on stored pixels).

A JPEG is whole if its pixels are: bytes between its segments, up to STRAY of them before a marker in its
pixel data, and whatever follows its end, or a missing end marker, do not matter.
"""

import io
import re
import struct
import threading
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image

from chase_fast import files
from chase_fast.data import pillow
from chase_fast.data.jpeg_file import mend
from chase_fast.data.pixels import Levels, Scale, to_rgb8
from chase_fast.data.tiff import BadTiff, tiff_samples
from chase_fast.kernels._jpeg import jpeg_part, jpeg_size

if TYPE_CHECKING:
    from chase_fast.kernels.crop import Window

try:
    import simplejpeg
except ImportError:
    simplejpeg = None

EXTENSIONS = frozenset(
    [
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".bmp",
        ".dib",
        ".webp",
        ".tif",
        ".tiff",
        ".ppm",
        ".pgm",
        ".pbm",
        ".pnm",
        ".pfm",
        ".gif",
        ".jp2",
        ".j2k",
        ".jpc",
        ".avif",
        ".heic",
        ".heif",
        ".jxl",
        ".exr",
        ".hdr",
        ".tga",
    ]
)
STRAY = 16  # bytes: more than alignment are pixel data that a decoder did not understand
_BROKEN_JPEG = ("Premature end", "Corrupt JPEG data")
_STRAY = re.compile(r"Corrupt JPEG data: (\d+) extraneous bytes before marker 0x(\w+)")
_TAIL = 64
_DEFLATE = 1032  # its largest factor
_PNG_END = b"\0\0\0\0IEND\xae\x42\x60\x82"
PART = 0.6  # of a frame: from there on, decoding it whole takes less time


class BrokenImage(ValueError):
    """The file is missing or cannot be decoded completely; the text says why."""


def kind_of(data: bytes) -> str | None:
    """What the first bytes say that the data are; None if they say nothing."""
    if data[4:8] == b"ftyp":
        brands = data[8 : 8 + 64]
        if b"avif" in brands or b"avis" in brands:
            return "AVIF"
        return "HEIC" if re.search(rb"hei[cxms]|hev[cxms]|mif1|msf1", brands) else None
    return next((kind for pattern, kind in _SIGNATURES if pattern.match(data)), None)


_SIGNATURES = [
    (re.compile(pattern, re.DOTALL), kind)
    for pattern, kind in (
        (rb"\xff\xd8\xff\xf7", "JPEG-LS"),
        (rb"\xff\xd8", "JPEG"),
        (rb"\x89PNG", "PNG"),
        (rb"II[*+]\0|MM\0[*+]", "TIFF"),
        (rb"RIFF....WEBP", "WebP"),
        (rb"BM", "BMP"),
        (rb"GIF8", "GIF"),
        (rb"P[1-7]\s|P[Ff]\s", "PNM"),
        (rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51", "JPEG 2000"),
        (rb"\xff\x0a|\0\0\0\x0cJXL ", "JPEG XL"),
        (rb"\x76\x2f\x31\x01", "EXR"),
        (rb"#\?(?:RADIANCE|RGBE)", "Radiance HDR"),
    )
]


def decode(data: bytes, levels: Scale = None) -> np.ndarray:
    """Encoded image -> RGB uint8 [H, W, 3].

    Args:
        levels: of the sequence, for frames of more than 8 bits, see `pixels.to_rgb8`; None: of this image
        alone.

    Raises:
        BrokenImage: truncated, corrupt or not an image.
    """
    if simplejpeg is not None and data[:2] == b"\xff\xd8":
        try:
            return simplejpeg.decode_jpeg(data, colorspace="RGB")
        except ValueError:
            pass  # samples() says whether that was damage
    pixels = samples(data)
    return to_rgb8(pixels, Levels.of(pixels) if levels is None else levels)


def samples(data: bytes) -> np.ndarray:
    """Encoded image -> its pixels as they are stored, [H, W] or RGB [H, W, 3] of any type.

    Raises:
        BrokenImage: as `decode`.
    """
    if not data:
        raise BrokenImage("the file is empty")
    kind = kind_of(data)
    readers = [_by_pillow, _by_opencv] if kind == "GIF" else [_by_opencv, _by_pillow, _by_ffmpeg]
    if kind == "JPEG" and simplejpeg is not None:
        if (pixels := _jpeg(data)) is not None:
            return pixels
        readers = [_by_ffmpeg]  # the others have the same library, and print what it objects to
    if kind == "TIFF":
        try:
            return tiff_samples(data)
        except BadTiff as e:
            raise BrokenImage(str(e)) from None
    for read in readers:
        pixels = read(data)
        if pixels is not None:
            return pixels
    raise BrokenImage(_why(data, kind))


def _why(data: bytes, kind: str | None) -> str:
    if kind in ("JPEG-LS", "JPEG XL", "HEIC"):
        way = "pip install pillow-heif, or convert it" if kind == "HEIC" else "convert it to PNG or TIFF"
        return f"a {kind} image, which no decoder here reads: {way}"
    if kind == "EXR":
        return "the EXR is damaged, ends too early, or PyAV (pip install av), which reads it, is missing"
    if kind:
        return f"the {kind} is damaged, ends too early or is of a rare kind"
    start = data[:12].decode("latin-1")
    begins = f" (it begins with {start!r})" if start.isascii() and start.isprintable() else ""
    return f"not an image{begins}"


def _jpeg(data: bytes) -> np.ndarray | None:
    """RGB of a JPEG that libjpeg-turbo has objected to; None if it is of a kind that it does not read.

    Raises:
        BrokenImage: pixels are missing or damaged.
    """
    mended = mend(data)
    if not (mended.ended or mended.whole):
        raise BrokenImage("the JPEG ends too early")
    for colours in ("RGB", "CMYK"):
        why = None
        try:
            pixels = simplejpeg.decode_jpeg(mended.data, colorspace=colours)
        except ValueError as e:
            why = str(e)
            if _harmless(why, mended.data, mended.whole):
                pixels, why = simplejpeg.decode_jpeg(mended.data, colorspace=colours, strict=False), None
        if why is None:
            # inks are stored as what they leave of the paper, as Adobe began it
            return pixels if colours == "RGB" else pillow.rgb_of_ink(255 - pixels)
        if why.startswith(_BROKEN_JPEG):
            raise BrokenImage(why if mended.ended else "the JPEG ends too early")
    return None


def _harmless(warning: str, data: bytes, whole: bool) -> bool:
    """A warning of libjpeg that is not about missing pixels."""
    if stray := _STRAY.match(warning):
        count = int(stray[1])
        padding = stray[2] == "d9" and len(set(data[-2 - count : -2])) == 1
        return whole and (count <= STRAY or padding)
    return warning.startswith("Inconsistent progression sequence")


class _Silent:
    """OpenCV without messages of its own about images that it cannot read, in all threads that decode."""

    def __init__(self):
        self._lock, self._users, self._before = threading.Lock(), 0, 0

    def __enter__(self) -> None:
        with self._lock:
            if not self._users:
                self._before = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
            self._users += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                cv2.utils.logging.setLogLevel(self._before)


_silent = _Silent()


def _by_opencv(data: bytes) -> np.ndarray | None:
    png = data[:4] == b"\x89PNG"
    if png and not _png_fits(data):
        return None
    if png and b"IEND" not in data:
        if _by_pillow(data) is None:  # libpng would print what it misses
            return None
        data += _PNG_END
    try:
        with _silent:
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None
    if image is None or image.ndim == 2:
        return image
    if image.shape[2] < 3:
        return image[..., 0]
    if image.dtype in (np.uint8, np.uint16, np.float32):
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB if image.shape[2] == 3 else cv2.COLOR_BGRA2RGB)
    return np.ascontiguousarray(image[..., 2::-1])


def _png_fits(data: bytes) -> bool:
    """Whether the chunks of a PNG lie in its data, and can unpack to a picture of the size that it promises
    (OpenCV asks for the memory first), and those with pixels are as they were written (libpng prints what it
    finds)."""
    if len(data) < 26:
        return False
    width, height, bits, colours = struct.unpack_from(">IIBB", data, 16)
    if width * height * bits * {2: 3, 4: 2, 6: 4}.get(colours, 1) > 8 * _DEFLATE * len(data):
        return False
    at, name = 8, b""
    while at + 8 <= len(data) and name != b"IEND":
        name = data[at + 4 : at + 8]
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        if name[:1].isupper() and zlib.crc32(data[at + 4 : end]) != int.from_bytes(
            data[end : end + 4], "big"
        ):
            return False
        at = end + 4
    return at <= len(data)


def _by_pillow(data: bytes) -> np.ndarray | None:
    _register_heif()
    try:
        with Image.open(io.BytesIO(data)) as image:
            return pillow.samples(image)
    except pillow.UNREADABLE:
        return None


def _register_heif() -> None:
    """HEIC, where the package for it is installed."""
    try:
        import pillow_heif
    except ImportError:
        return
    pillow_heif.register_heif_opener()


def _by_ffmpeg(data: bytes) -> np.ndarray | None:
    """EXR, and JPEGs of 12 bits or without loss."""
    try:
        from chase_fast.data.ffmpeg_image import read
    except ImportError:
        return None
    return read(data) if kind_of(data) == "EXR" or (kind_of(data) == "JPEG" and _rare(data)) else None


def _rare(data: bytes) -> bool:
    mended = mend(data)
    return mended.ended and mended.rare


def read_bytes(path: str | Path) -> bytes:
    """The encoded image; raises BrokenImage."""
    try:
        return files.read_bytes(path)
    except OSError as e:
        raise BrokenImage(e.strerror or str(e)) from None


def read_frame(path: str | Path, levels: Scale = None) -> np.ndarray:
    """Image file -> RGB uint8 [H, W, 3]; see `decode`; raises BrokenImage."""
    return decode(read_bytes(path), levels)


class Picture:
    """A frame whose pixels are decoded when a window is asked for; `shape` is that of the whole frame.

    Args:
        image: a whole frame [H, W, 3], or an encoded one. levels: see `decode`.

    Raises:
        BrokenImage: here or by `part`, as `decode`.
    """

    def __init__(self, image: np.ndarray | bytes, levels: Scale = None):
        self._data = image if isinstance(image, bytes) else b""
        self._whole: np.ndarray | None = None
        self.shape: tuple[int, ...]
        if isinstance(image, bytes) and (size := jpeg_size(image)):
            self.shape = (*size, 3)
        else:
            self._whole = decode(image, levels) if isinstance(image, bytes) else image
            self.shape = self._whole.shape

    def part(self, window: "Window") -> tuple[np.ndarray, tuple[int, int, int, int]]:
        """RGB uint8 pixels that hold all that a crop of the window shows, and the window (xywh) in them."""
        height, width = self.shape[0] - window.trim_y, self.shape[1] - window.trim_x
        x0, y0 = min(max(window.x0, 0), width - 1), min(max(window.y0, 0), height - 1)
        x1 = min(max(window.x0 + window.side, x0 + 1), width)
        y1 = min(max(window.y0 + window.side, y0 + 1), height)
        return self._pixels(x0, y0, x1, y1), (window.x0 - x0, window.y0 - y0, window.side, window.side)

    def _pixels(self, x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
        if self._whole is None and (x1 - x0) * (y1 - y0) > PART * self.shape[0] * self.shape[1]:
            self._whole = decode(self._data)
        if self._whole is None:
            pixels = jpeg_part(self._data, x0, y0, x1, y1)
            if pixels is not None:
                return pixels
            self._whole = decode(self._data)  # damaged: this says how
        return self._whole[y0:y1, x0:x1]


def probe(path: str | Path) -> str | None:
    """A short look: why the file cannot be a whole image, or None. What it refuses, `decode` refuses too;
    damage
    that only decoding shows it does not see."""
    try:
        with open(path, "rb") as file:
            head = file.read(72)
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _TAIL))
            tail = file.read()
            file.seek(0)
            kind = kind_of(head)
            end = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}
            if kind and end.get(kind, b"") in tail:
                return None
            data = file.read()
    except OSError as e:
        return e.strerror or str(e)
    if kind == "JPEG" and mend(data).ended:  # with something behind it, as phones write
        return None
    try:
        samples(data)
    except BrokenImage as e:
        return str(e)
    return None
