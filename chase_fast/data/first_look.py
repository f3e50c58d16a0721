"""What the first frame of a sequence, or the header of any, says before frames are decoded one by one."""

import functools
import io
import os
from collections.abc import Sequence as Many
from dataclasses import dataclass

from PIL import Image

from chase_fast.data.decode import BrokenImage, kind_of, read_bytes, samples, simplejpeg
from chase_fast.data.jpeg_file import mend
from chase_fast.data.notes import Note
from chase_fast.data.pillow import UNREADABLE
from chase_fast.data.pixels import Levels
from chase_fast.data.tiff import BadTiff, read_directory

_FIRST = 8  # frames of which one must be whole to choose grey levels
_HEAD = 2**16
_ANY_DEPTH = ("AVIF", "HEIC", "JPEG 2000", "PNM")  # Pillow calls colours of any depth RGB
_DEEP_MODES = ("I", "F", "I;16", "I;16B", "I;16L")


def first_levels(paths: Many[str]) -> Levels | None:
    """Grey levels of the sequence of these files: `Levels.of` the first one that can be decoded (of the
    first 8).

    None for 8 bits. The same whichever process asks, and for whichever frame.
    """
    first = tuple(paths[:_FIRST])
    return _first_levels(first, tuple(map(_changed, first)))


@functools.lru_cache(2**12)
def _first_levels(paths: tuple[str, ...], changed: tuple[int, ...]) -> Levels | None:
    for path in paths:
        try:
            return Levels.of(samples(read_bytes(path)))
        except BrokenImage:
            continue
    return None


def _changed(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0


@dataclass(frozen=True)
class Look:
    """Pixels of a stored frame, and whether they have more than 8 bits."""

    width: int
    height: int
    deep: bool


def look(path: str) -> Look | None:
    """From the header, where that is known; None for a file that is no image."""
    try:
        with open(path, "rb") as file:
            head = file.read(_HEAD)
            kind = kind_of(head)
            if kind == "PNG":
                return Look(
                    int.from_bytes(head[16:20], "big"),
                    int.from_bytes(head[20:24], "big"),
                    head[24:25] == b"\x10",
                )
            if kind == "JPEG" and simplejpeg is not None:
                try:
                    height, width, *_ = simplejpeg.decode_jpeg_header(head)
                    return Look(width, height, mend(head).rare)
                except ValueError:
                    pass  # a long header, or a rare kind
            data = head + file.read()
        if kind == "TIFF":
            about = read_directory(data)
            return Look(*about.size[::-1], about.deep)
        if kind not in _ANY_DEPTH:
            with Image.open(io.BytesIO(data)) as image:
                return Look(*image.size, image.mode in _DEEP_MODES)
    except BadTiff:
        return None
    except UNREADABLE:
        pass
    try:
        pixels = samples(read_bytes(path))
    except BrokenImage:
        return None
    return Look(pixels.shape[1], pixels.shape[0], pixels.dtype.itemsize > 1)


def oddities(path: str) -> list[Note]:
    """What a user may not expect of a frame: that it is marked as turned, or one of several pictures."""
    turned, pages = 1, 1
    try:
        data = read_bytes(path)
        if kind_of(data) == "TIFF":
            about = read_directory(data)
            turned, pages = about.orientation, about.pages
        else:
            with Image.open(io.BytesIO(data)) as image:
                turned = image.getexif().get(274, 1)
                pages = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    except (BrokenImage, BadTiff, *UNREADABLE):
        return []
    notes = []
    if turned in range(2, 9):
        what = "frames are marked as turned or mirrored, and read as stored: boxes are in stored pixels"
        notes.append(Note(what, f"orientation {turned}"))
    if pages > 1:
        notes.append(
            Note(
                "files hold several pictures, of which the first is the frame",
                f"{pages} in {os.path.basename(path)}",
            )
        )
    return notes
