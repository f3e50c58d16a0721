"""TIFF pictures as arrays of their own numbers, as they are stored: the orientation tag turns nothing.

Pillow reads those of 8 bits. Of deeper ones it makes 8 bits where they have colours, and OpenCV 5.0 mixes
up planes; so of those Pillow (libtiff) only undoes the compression, strip by strip or tile by tile, and
the numbers are put together here.
"""

import io
import struct
import warnings
from dataclasses import dataclass

import numpy as np
from PIL import Image

from chase_fast.data import quiet
from chase_fast.data.pillow import UNREADABLE, rgb_of_ink, samples
from chase_fast.fields import short

_SIZES = {1: "B", 3: "H", 4: "I", 16: "Q"}  # types of whole numbers in a directory
_BYTES = (
    1,
    5,
    8,
    32773,
    32946,
    34925,
    50000,
)  # compressions of bytes: none, LZW, deflate, PackBits, LZMA, zstd
_LARGEST = {1: 1, 32773: 64}  # how much larger than the file a picture can be, by compression
_KINDS = {1: "u", 2: "i", 3: "f"}
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _INK = 0, 1, 2, 5
_ORIENTATION = 274


class BadTiff(ValueError):
    """The file is no TIFF that can be read; the text says why."""


@dataclass(frozen=True)
class Directory:
    """What a TIFF file says of its first picture.

    tags: number -> its whole numbers. order: `<` or `>`. orientation_at: where that tag's value lies.
    pages: full-size pictures in the file, as far as the chain of directories can be followed.
    """

    tags: dict[int, tuple[int, ...]]
    order: str
    orientation_at: int | None
    pages: int

    def one(self, tag: int, default: int | None = None) -> int:
        if values := self.tags.get(tag):
            return values[0]
        if default is None:
            raise BadTiff(f"the TIFF has no tag {tag}")
        return default

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.one(257), self.one(256)

    @property
    def orientation(self) -> int:
        return self.one(_ORIENTATION, 1)

    @property
    def bits(self) -> int:
        return max(self.tags.get(258) or (1,))

    @property
    def deep(self) -> bool:
        return self.bits > 8 or self.one(339, 1) == 2


def read_directory(data: bytes) -> Directory:
    """Raises BadTiff."""
    try:
        order = {b"II": "<", b"MM": ">"}[data[:2]]
        big = struct.unpack_from(order + "H", data, 2)[0] == 43
        offset = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)[0]
        first, pages = None, 0
        seen: set[int] = set()
        while offset and offset not in seen and len(seen) < 10_000:
            seen.add(offset)
            try:
                tags, orientation_at, offset = _entries(data, offset, order, big)
            except struct.error:
                if first is None:
                    raise
                break
            first = first or (tags, orientation_at)
            pages += not tags.get(254, (0,))[0] & 5  # neither reduced nor a mask
    except (KeyError, OverflowError, struct.error):
        raise BadTiff("the TIFF ends too early") from None
    if first is None:
        raise BadTiff("the TIFF holds no picture")
    return Directory(first[0], order, first[1], pages)


def _entries(
    data: bytes, at: int, order: str, big: bool
) -> tuple[dict[int, tuple[int, ...]], int | None, int]:
    """Tags, where the orientation lies, and the offset of the next directory."""
    count_form, length, inline = ("Q", 20, 8) if big else ("H", 12, 4)
    (count,) = struct.unpack_from(order + count_form, data, at)
    at += struct.calcsize(count_form)
    if count > 4096:
        raise struct.error
    tags, orientation_at = {}, None
    for _ in range(count):
        tag, kind = struct.unpack_from(order + "HH", data, at)
        (many,) = struct.unpack_from(order + ("Q" if big else "I"), data, at + 4)
        place = at + 12 if big else at + 8
        if kind in _SIZES and many * struct.calcsize(_SIZES[kind]) <= len(data):
            if many * struct.calcsize(_SIZES[kind]) > inline:
                (place,) = struct.unpack_from(order + ("Q" if big else "I"), data, place)
            tags[tag] = struct.unpack_from(f"{order}{many}{_SIZES[kind]}", data, place)
            if tag == _ORIENTATION and kind == 3:
                orientation_at = place
        at += length
    (following,) = struct.unpack_from(order + ("Q" if big else "I"), data, at)
    return tags, orientation_at, following


def tiff_samples(data: bytes) -> np.ndarray:
    """The first picture of a TIFF file: [H, W] or RGB [H, W, 3] of its own type.

    Raises:
        BadTiff: it is cut off, damaged, or of a kind that cannot be read.
    """
    about = read_directory(data)
    for offsets, lengths in ((273, 279), (324, 325)):
        if any(o + n > len(data) for o, n in zip(about.tags.get(offsets, ()), about.tags.get(lengths, ()))):
            raise BadTiff("the TIFF ends too early")
    height, width = about.size
    bits = width * height * about.one(277, 1) * about.bits
    if bits > 8 * len(data) * _LARGEST.get(about.one(259, 1), 4096):
        raise BadTiff("the TIFF holds less than a picture of its size")
    if about.deep:
        return _deep(data, about)
    if about.orientation != 1 and about.orientation_at is not None:
        upright = bytearray(data)
        struct.pack_into(about.order + "H", upright, about.orientation_at, 1)
        data = bytes(upright)
    return samples(_opened(data))


def _opened(data: bytes) -> Image.Image:
    try:
        with quiet.libtiff, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of tags that are damaged
            image = Image.open(io.BytesIO(data), formats=("TIFF",))
            image.load()
    except UNREADABLE as e:
        raise BadTiff(f"the TIFF is damaged, ends too early or is of a rare kind ({short(str(e))})") from None
    return image


def _deep(data: bytes, about: Directory) -> np.ndarray:
    """Of more than 8 bits, or with a sign."""
    bits, kind = about.bits, _KINDS.get(about.one(339, 1))
    count, colours, codec = about.one(277, 1), about.one(262), about.one(259, 1)
    form = f"{about.order}{kind}{bits // 8}"
    known = kind and (kind, bits) in {("u", 16), ("u", 32), ("i", 8), ("i", 16), ("i", 32)} | {
        ("f", n) for n in (16, 32, 64)
    }
    if not known or codec not in _BYTES or about.one(266, 1) != 1 or colours not in (0, 1, 2, 5):
        raise BadTiff(
            f"a TIFF of {bits} bits, compression {codec}, colours {colours}: save it in another way"
        )
    separate = about.one(284, 1) == 2
    planes = [_plane(data, about, np.dtype(form), k, 1) for k in range(count)] if separate else []
    values = np.concatenate(planes, 2) if planes else _plane(data, about, np.dtype(form), 0, count)
    if colours == _INK:
        if values.shape[2] < 4 or kind != "u" or bits > 16:
            raise BadTiff("a TIFF of inks that are not four of 16 bits: save it in another way")
        return rgb_of_ink(values[..., :4])
    if colours == _RGB and count >= 3:
        return values[..., :3]
    grey = values[..., 0]
    return np.iinfo(grey.dtype).max - grey if colours == _WHITE_IS_ZERO and kind == "u" else grey


def _plane(data: bytes, about: Directory, form: np.dtype, plane: int, count: int) -> np.ndarray:
    """Numbers [H, W, count] of one plane (of all samples if they are not separate), in native order."""
    height, width = about.size
    tiled = 322 in about.tags
    across, down = (about.one(322), about.one(323)) if tiled else (width, min(about.one(278, height), height))
    if not (across > 0 and down > 0 and height > 0 and width > 0):
        raise BadTiff("the TIFF has no size")
    columns, rows = -(-width // across), -(-height // down)
    offsets, lengths = (about.tags.get(t, ()) for t in ((324, 325) if tiled else (273, 279)))
    parts = slice(plane * columns * rows, (plane + 1) * columns * rows)
    offsets, lengths = offsets[parts], lengths[parts]
    if len(offsets) != columns * rows or len(lengths) != columns * rows:
        raise BadTiff("the TIFF lacks some of its strips")
    line = across * count * form.itemsize
    full = rows * down if tiled else height
    pieces = [data[o : o + n] for o, n in zip(offsets, lengths)]
    raw = np.asarray(
        _opened(_grey(pieces, line * columns, full, line if tiled else None, down, about.one(259, 1)))
    )
    lines = _undone(raw.reshape(full, columns, line), form, count, about.one(317, 1))
    return lines.reshape(full, columns * across, count)[:height, :width]


def _undone(lines: np.ndarray, form: np.dtype, count: int, predictor: int) -> np.ndarray:
    """Lines of bytes [..., n] -> numbers in native order, differences between neighbours summed up."""
    native = form.newbyteorder("=")
    if predictor == 3:  # of bytes, the highest ones of a line first
        sums = np.cumsum(lines.reshape(*lines.shape[:2], -1, count), axis=2, dtype=np.uint8)
        planes = sums.reshape(*lines.shape[:2], form.itemsize, -1)
        return (
            np.ascontiguousarray(np.moveaxis(planes, 2, 3))
            .view(form.newbyteorder(">"))[..., 0]
            .astype(native)
        )
    values = np.ascontiguousarray(lines).view(form).astype(native)
    if predictor == 2:
        pixels = values.reshape(*lines.shape[:2], -1, count)
        return np.cumsum(pixels, axis=2, dtype=native)
    return values


def _grey(pieces: list[bytes], width: int, height: int, tile: int | None, rows: int, codec: int) -> bytes:
    """A TIFF file of 8-bit grey: its pixels are the bytes of compressed strips, or tiles of width `tile`."""
    offset, offsets = 8, []
    for piece in pieces:
        offsets.append(offset)
        offset += len(piece)
    lengths = [len(p) for p in pieces]
    tags = {256: [width], 257: [height], 258: [8], 259: [codec], 262: [_BLACK_IS_ZERO], 277: [1]}
    tags |= (
        {322: [tile], 323: [rows], 324: offsets, 325: lengths}
        if tile
        else {273: offsets, 278: [rows], 279: lengths}
    )
    start = offset + offset % 2
    values_at, entries, values = start + 2 + 12 * len(tags) + 4, b"", b""
    for tag, numbers in sorted(tags.items()):
        packed = struct.pack(f"<{len(numbers)}I", *numbers)
        if len(numbers) > 1:
            values, packed = values + packed, struct.pack("<I", values_at + len(values))
        entries += struct.pack("<HHI", tag, 4, len(numbers)) + packed
    body = b"".join(pieces) + bytes(offset % 2)
    return (
        struct.pack("<2sHI", b"II", 42, start)
        + body
        + struct.pack("<H", len(tags))
        + entries
        + bytes(4)
        + values
    )
