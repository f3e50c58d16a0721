"""Packed datasets, `packed:DIR`: the parts of frames that crops can show, as `data.pack` wrote them.

DIR holds pack.json (source, limits, format), shard-00000.bin, ... (the pixels of the levels, one after
the other), SHA256SUMS (the checksums of all of them, for `sha256sum -c` too) and index.npz, which is
written last: a folder without it is incomplete. A level is raw RGB uint8, memory-mapped, or one JPEG.
What the levels are: `reach`.
"""

import functools
import hashlib
import math
import mmap
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from chase_fast.data.annotations import has_pixel
from chase_fast.data.decode import BrokenImage, decode
from chase_fast.data.layouts.files import lines
from chase_fast.data.on_demand import OnDemand
from chase_fast.data.reach import Limits
from chase_fast.data.sequences import BrokenFrame, Problem
from chase_fast.data.share import Share
from chase_fast.errors import ChaseError
from chase_fast.fields import Fields, load_arrays, load_object, read_object
from chase_fast.files import read_text, user_path
from chase_fast.kernels._jpeg import jpeg_part, jpeg_size

if TYPE_CHECKING:
    from chase_fast.kernels.crop import Window

FORMAT = 1
ABOUT, INDEX, SUMS = "pack.json", "index.npz", "SHA256SUMS"
FORMATS = ("raw", "jpeg")
_SHARD = "shard-%05d.bin"
_BLOCK = 2**22
_OPEN = 256  # shards mapped at a time, per process

# a level: its rectangle of the frame, the pixels it is stored as, and where (no bytes: not stored)
LEVEL = np.dtype([("rectangle", "<i4", 4), ("hw", "<i4", 2), ("start", "<i8"), ("bytes", "<i8")])
# a stored frame: its number in the concatenation of all sequences, its size, its shard
ENTRY = np.dtype([("flat", "<i8"), ("hw", "<i4", 2), ("shard", "<i4"), ("near", LEVEL), ("far", LEVEL)])


def shard_file(folder: str | Path, number: int) -> Path:
    return Path(folder) / (_SHARD % number)


@functools.lru_cache(maxsize=_OPEN)
def _mapped(file: str, size: int, changed: int) -> mmap.mmap:
    """A shard in memory, private to this process; its size and time tell it from an earlier one."""
    with open(file, "rb") as f:
        return mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_COPY)  # numpy and torch want it writable


class PackedFrame:
    """A frame of which only its levels are kept; `shape` is that of the whole frame.

    Args:
        whole: decode a JPEG level as a whole and keep it: several windows will be asked for.
        place: sequence and frame, for messages.
    """

    def __init__(self, folder: str, form: str, entry: np.void, whole: bool, place: Problem):
        self.shape = (int(entry["hw"][0]), int(entry["hw"][1]), 3)
        self._folder, self._form, self._entry = folder, form, entry
        self._whole, self._place = whole, place
        self._kept: dict[str, np.ndarray] = {}

    @property
    def _file(self) -> str:
        return os.path.join(self._folder, _SHARD % self._entry["shard"])

    def _broken(self, why: str) -> BrokenFrame:
        return BrokenFrame(Problem(self._place.sequence, why, self._place.frame, self._file))

    def _bytes(self, level: np.void) -> tuple[mmap.mmap, int, int]:
        """The shard, and where a level starts and ends in it."""
        file = self._file
        start, end = int(level["start"]), int(level["start"] + level["bytes"])
        try:
            status = os.stat(file)
            data = _mapped(file, status.st_size, status.st_mtime_ns)
        except (OSError, ValueError) as e:
            raise self._broken(f"cannot be read: {getattr(e, 'strerror', None) or e}") from None
        if end > len(data):
            raise self._broken("the shard is shorter than it was packed")
        return data, start, end

    def level(self, name: str) -> np.ndarray:
        """RGB uint8 [h, w, 3] of `near` or `far`; not to be written to.

        Raises:
            BrokenFrame: the shard is missing, shorter than it should be, or no image is at this place.
        """
        height, width = self._entry[name]["hw"].tolist()
        return self._pixels(name, 0, 0, width, height)

    def _pixels(self, name: str, x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
        """These columns and rows of a level."""
        if name in self._kept:
            return self._kept[name][y0:y1, x0:x1]
        level = self._entry[name]
        data, start, end = self._bytes(level)
        shape = (*level["hw"].tolist(), 3)
        if self._form == "raw":
            return np.frombuffer(data, np.uint8, end - start, start).reshape(shape)[y0:y1, x0:x1]
        encoded = data[start:end]
        if not self._whole and jpeg_size(encoded) == shape[:2]:
            part = jpeg_part(encoded, x0, y0, x1, y1)
            if part is not None:
                return part
        try:
            pixels = decode(encoded)
        except BrokenImage as e:
            raise self._broken(f"cannot be decoded: {e}") from None
        if pixels.shape != shape:
            raise self._broken(f"a level is {pixels.shape[:2]}, expected {shape[:2]}")
        self._kept[name] = pixels
        return pixels[y0:y1, x0:x1]

    def part(self, window: "Window") -> tuple[np.ndarray, tuple[float, ...]]:
        """Pixels [h, w, 3] for `crop`, and the window in them (of floats if they are reduced ones)."""
        rows, columns, _ = self.shape
        x0, x1 = max(window.x0, 0), min(window.x0 + window.side, columns)
        y0, y1 = max(window.y0, 0), min(window.y0 + window.side, rows)
        for name in ("near", "far"):
            level = self._entry[name]
            left, top, width, height = level["rectangle"].tolist()
            inside = left <= x0 and top <= y0 and x1 <= left + width and y1 <= top + height
            if level["bytes"] and inside:
                break
        else:
            raise self._broken(f"window {window.xywh} is not in the packed part of the frame: pack it again")
        stored_height, stored_width = level["hw"].tolist()
        x, y, w, h = window.x0 - left, window.y0 - top, window.side, window.side
        if (stored_height, stored_width) == (height, width):
            stored_width -= bool(window.trim_x and width > 1)
            stored_height -= bool(window.trim_y and height > 1)
        else:
            u, v = stored_width / width, stored_height / height
            x, y, w, h = x * u, y * v, w * u, h * v
        x0, x1 = _within(x, w, stored_width)
        y0, y1 = _within(y, h, stored_height)
        return self._pixels(name, x0, y0, x1, y1), (x - x0, y - y0, w, h)


def _within(start: float, length: float, limit: int) -> tuple[int, int]:
    """Pixels [first, end) of an axis that a window touches; at least one."""
    first = min(max(math.floor(start), 0), limit - 1)
    return first, min(max(math.ceil(start + length), first + 1), limit)


@dataclass(frozen=True)
class PackedSequence:
    """A sequence as its source has it (`folder` too), but `visible` only where a frame is stored."""

    name: str
    folder: str
    boxes: np.ndarray
    visible: np.ndarray
    owner: "PackedSequences"
    first: int

    def picture(self, index: int, windows: int = 1) -> PackedFrame:
        """A stored frame (those that are visible), of which so many windows will be asked for."""
        return self.owner.picture(self.first + index, windows > 1, Problem(self.name, "", index + 1))


class PackedSequences(OnDemand[PackedSequence]):
    """All sequences of a packed dataset, those without a stored frame too.

    Args:
        folder: DIR. about: pack.json. arrays: index.npz.

    Raises:
        ChaseError: the arrays do not fit together.
    """

    def __init__(self, folder: str, about: Fields, arrays: dict[str, np.ndarray]):
        where = str(Path(folder) / INDEX)
        self.folder, self.form = folder, about.choice("format", FORMATS)
        self.source, self.video = about.text("source"), about.flag("video")
        self._about = about
        texts = load_object(arrays["texts"].tobytes(), where)
        self.names, self._folders = texts.texts("names"), texts.texts("folders")
        self._ends, self.boxes, self.visible = arrays["ends"], arrays["boxes"], arrays["visible"]
        self.shard_bytes, self.shard_digests = arrays["shard_bytes"], texts.texts("shard_digests")
        entries = arrays["entries"]
        if entries.ndim != 1 or entries.nbytes % ENTRY.itemsize:
            raise ChaseError(f"{where} is damaged (its entries)")
        self.entries = entries.view(ENTRY)
        self._flat = np.ascontiguousarray(self.entries["flat"])
        self._check_fit(where)
        self._chosen = np.arange(len(self.names))
        self.has_sums = False
        self.decisions = self._leave_out_empty_boxes()

    def _check_fit(self, where: str) -> None:
        count, total = len(self.names), int(self._ends[-1]) if self._ends.size else 0
        lengths, shards = np.diff(self._ends, prepend=0), self.entries["shard"]
        fits = (
            self._ends.shape == (count,)
            and bool((lengths >= 0).all())
            and self.boxes.shape == (total, 4)
            and self.visible.shape == (total,)
            and len(self._folders) in (min(count, 1), count)
            and self.shard_bytes.shape == (len(self.shard_digests),)
            and bool((np.diff(self._flat) > 0).all())
            and (not self._flat.size or (self._flat[0] >= 0 and self._flat[-1] < total))
            and bool(((shards >= 0) & (shards < len(self.shard_bytes))).all())
            and all(bool(self._in_shard(name).all()) for name in ("near", "far"))
        )
        if not fits:
            raise ChaseError(f"{where} is damaged (its parts do not fit together)")

    def _in_shard(self, name: str) -> np.ndarray:
        """Levels [E] that are stored lie in their shard, and hold as many bytes as their pixels."""
        level = self.entries[name]
        start, size = level["start"], level["bytes"]
        good = (start >= 0) & (size >= 0) & (start <= self.shard_bytes[self.entries["shard"]] - size)
        if self.form == "raw":
            good &= (size == 0) | (size == 3 * level["hw"].astype(np.int64).prod(1))
        return good & (level["hw"] >= 0).all(1)

    def _leave_out_empty_boxes(self) -> tuple[str, ...]:
        """Frames whose box has no pixel in them are not visible; older versions stored them."""
        height, width = self.entries["hw"].T
        empty = self._flat[~has_pixel(self.boxes[self._flat].astype(np.float64), width, height)]
        if not len(empty):
            return ()
        self.visible = self.visible.copy()
        self.visible[empty] = False
        return (f"boxes without a pixel in their frame count as not visible ({len(empty)})",)

    def choose(self, split: str | None, share: Share | None, spec: str) -> None:
        """Keeps the sequences of a list file, and a share of them (of still images: of the images)."""
        if split:
            self._chosen = _choose(self.names, split, Path(self.folder), spec)
        if share:
            owner = [self.names[k] if self.video else self.names[k].rpartition("#")[0] for k in self._chosen]
            kept = set(share.of(list(dict.fromkeys(owner)), spec, "sequences" if self.video else "images"))
            self._chosen = np.array([k for k, name in zip(self._chosen, owner) if name in kept])

    def __len__(self) -> int:
        return len(self._chosen)

    def item(self, place: int) -> PackedSequence:
        number = int(self._chosen[place])
        end = int(self._ends[number])
        start = int(self._ends[number - 1]) if number else 0
        boxes = self.boxes[start:end].astype(np.float64, copy=False)
        folder = self._folders[number if len(self._folders) > 1 else 0]
        return PackedSequence(self.names[number], folder, boxes, self.visible[start:end], self, start)

    @property
    def size(self) -> str:
        """`12 sequences, 3400 frames packed as raw`."""
        return f"{len(self)} sequences, {len(self.entries)} frames packed as {self.form}"

    def folders(self) -> list[str]:
        """What the sequences were packed from: the folder of each, once."""
        chosen = self._chosen if len(self._folders) > 1 else [0]
        return list(dict.fromkeys(self._folders[int(k)] for k in chosen))

    def stills(self) -> list[str]:
        """Of packed still images every image once, as its source names it, without the ending of its name."""
        return list(dict.fromkeys(os.path.join(s.folder, s.name.rpartition("#")[0]) for s in self))

    def picture(self, flat: int, whole: bool, place: Problem) -> PackedFrame:
        """The stored frame of this number; raises BrokenFrame where it is not stored."""
        at = int(np.searchsorted(self._flat, flat))
        if at == len(self._flat) or self._flat[at] != flat:
            raise BrokenFrame(Problem(place.sequence, "is not packed", place.frame, self.folder))
        return PackedFrame(self.folder, self.form, self.entries[at], whole, place)

    def damage(self, number: int) -> Problem | None:
        """What is wrong with a shard: it is read and its checksum compared."""
        file = shard_file(self.folder, number)
        try:
            digest = digest_of(file)
        except OSError as e:
            return Problem(file.name, f"cannot be read: {e.strerror or e}", file=str(file))
        if digest == self.shard_digests[number]:
            return None
        return Problem(file.name, "its checksum is not that of the packed data", file=str(file))

    def check(self, wanted: Limits) -> None:
        """Raises ChaseError if crops of these limits can show more than is stored."""
        fields = self._about.inner("limits")
        held = {name: fields.number(name) for name in vars(wanted)}
        for name, value in vars(wanted).items():
            if value > held[name] + 1e-9:
                limits = {k: max(v, held[k]) for k, v in vars(wanted).items()}
                flags = " ".join(f"--{k.replace('_', '-')} {v:g}" for k, v in limits.items())
                raise ChaseError(
                    f"packed:{self.folder} holds crops of {name} up to {held[name]:g}, this run asks for"
                    f" {value:g}; pack again: python -m chase_fast.data.pack {self.source}"
                    f" --out NEW_DIR {flags}"
                )


def read_about(folder: Path, spec: str) -> Fields:
    """pack.json; raises ChaseError where it is missing, damaged or of another version."""
    file = folder / ABOUT
    try:
        about = read_object(file)
        if about.get("format_version") != FORMAT:
            raise ChaseError(f"{file} is of another version of this program")
        for take, field in ((about.text, "source"), (about.text, "command"), (about.flag, "video")):
            take(field)
        about.choice("format", FORMATS)
        sums = read_sums(folder)
        if sums and digest_of(file) != sums[ABOUT]:
            raise ChaseError(f"{file} is damaged (its checksum)")
    except FileNotFoundError:
        what = "there is no folder" if not folder.is_dir() else f"no {ABOUT} in"
        raise ChaseError(f"{spec}: {what} {folder}; data.pack makes packed datasets") from None
    except ChaseError as e:
        raise ChaseError(f"{spec}: {e}; pack again into a new folder") from None
    return about


def read_sums(folder: Path) -> dict[str, str]:
    """File name -> SHA-256 of the packed files; empty for a dataset packed before there were such sums.

    Raises:
        ChaseError: the file of the sums is damaged.
    """
    file = folder / SUMS
    try:
        rows = [line.split() for line in read_text(file).splitlines()]
    except FileNotFoundError:
        return {}
    except OSError as e:
        raise ChaseError(f"{file} cannot be read: {e.strerror or e}") from None
    if any(len(row) != 2 or len(row[0]) != 64 for row in rows) or {ABOUT, INDEX} - {
        row[-1] for row in rows if row
    }:
        raise ChaseError(f"{file} is damaged (it is no list of checksums)")
    return {name: digest for digest, name in rows}


def digest_of(file: Path) -> str:
    """SHA-256; raises OSError."""
    digest = hashlib.sha256()
    with open(file, "rb") as f:
        while block := f.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _choose(names: list[str], split: str, folder: Path, spec: str) -> np.ndarray:
    """Numbers of the sequences that a list file names."""
    file = next((p for p in (user_path(split), folder / split) if p.is_file()), None)
    if file is None:
        raise ChaseError(f"{spec}: the split of packed data is a list file of sequence names, not {split!r}")
    number = {name: k for k, name in enumerate(names)}
    wanted = lines(file)
    if missing := [name for name in wanted if name not in number]:
        raise ChaseError(f"{spec}: {file} names {missing[0]!r}, which is not packed in {folder}")
    if not wanted:
        raise ChaseError(f"{spec}: {file} names no sequence")
    return np.array([number[name] for name in wanted])


def open_packed(path: str, split: str | None, spec: str, share: Share | None = None) -> PackedSequences:
    """Opens DIR; compares the sizes of its shards and the checksums of its index, reads no pixel.

    Raises:
        ChaseError: DIR is missing, incomplete, damaged or of another version.
    """
    folder = user_path(path).absolute()
    about = read_about(folder, spec)
    again = f"finish it with the same command: {about.text('command')}"
    kinds = {"texts": "u", "ends": "i", "boxes": "f", "visible": "b", "entries": "u", "shard_bytes": "i"}
    try:
        arrays = load_arrays(folder / INDEX, kinds)
        sums = read_sums(folder)
        if sums and digest_of(folder / INDEX) != sums[INDEX]:
            raise ChaseError(f"{folder / INDEX} is damaged (its checksum)")
        found = PackedSequences(str(folder), about, arrays)
        found.has_sums = bool(sums)
    except FileNotFoundError:
        raise ChaseError(f"{spec}: {folder} is incomplete, packing was stopped; {again}") from None
    except OSError as e:
        raise ChaseError(f"{spec}: {folder} cannot be read: {e.strerror or e}") from None
    except ChaseError as e:
        raise ChaseError(f"{spec}: {e}; remove {INDEX} and {again}") from None
    for number, size in enumerate(found.shard_bytes.tolist()):
        file = shard_file(folder, number)
        there = os.path.getsize(file) if file.exists() else None
        if there != size:
            what = "is missing" if there is None else f"has {there} bytes, packed were {size}"
            raise ChaseError(f"{spec}: {file} {what}; {again}")
    found.choose(split, share, spec)
    return found
