"""Packed datasets, `packed:DIR`: the parts of frames that crops can show, as `data.pack` wrote them.

DIR holds pack.json (source, limits, format), shard-00000.bin, ... (the pixels of the levels, one after the
other) and index.npz, which is written last: a folder without it is incomplete. A level is raw RGB uint8,
memory-mapped, or one JPEG. What the levels are: `reach`.
"""

import functools
import hashlib
import json
import math
import mmap
import os
import zipfile
from collections.abc import Sequence as Many
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from chase_fast.data.decode import BrokenImage, decode
from chase_fast.data.reach import Limits
from chase_fast.data.readers.layout import lines
from chase_fast.data.sequences import BrokenFrame, Problem
from chase_fast.errors import ChaseError
from chase_fast.files import user_path
from chase_fast.kernels._jpeg import jpeg_part, jpeg_size
from chase_fast.kernels.crop import Window

FORMAT = 1
ABOUT, INDEX = "pack.json", "index.npz"
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
            pixels = np.frombuffer(data, np.uint8, end - start, start).reshape(shape)
            return pixels[y0:y1, x0:x1]
        encoded = data[start:end]
        if not self._whole and jpeg_size(encoded) == shape[:2]:
            pixels = jpeg_part(encoded, x0, y0, x1, y1)
            if pixels is not None:
                return pixels
        try:
            pixels = decode(encoded)
        except BrokenImage as e:
            raise self._broken(f"cannot be decoded: {e}") from None
        if pixels.shape != shape:
            raise self._broken(f"a level is {pixels.shape[:2]}, expected {shape[:2]}")
        self._kept[name] = pixels
        return pixels[y0:y1, x0:x1]

    def part(self, window: Window) -> tuple[np.ndarray, tuple[float, ...]]:
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


class PackedSequences(Many[PackedSequence]):
    """All sequences of a packed dataset, those without a stored frame too.

    Args:
        folder: DIR. about: pack.json. arrays: index.npz. chosen: numbers of the sequences, default all.
    """

    def __init__(
        self, folder: str, about: dict[str, Any], arrays: dict[str, np.ndarray], chosen: np.ndarray | None
    ):
        self.folder, self.about, self.source = folder, about, about["source"]
        texts = json.loads(arrays["texts"].tobytes())
        self.names, self._folders = texts["names"], texts["folders"]
        self._ends, self.boxes, self.visible = arrays["ends"], arrays["boxes"], arrays["visible"]
        self.entries = arrays["entries"].view(ENTRY).reshape(-1)
        self._flat = np.ascontiguousarray(self.entries["flat"])
        self.shard_bytes, self.shard_digests = arrays["shard_bytes"], texts["shard_digests"]
        self._chosen = np.arange(len(self.names)) if chosen is None else chosen

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, position: int) -> PackedSequence:
        if not 0 <= position < len(self):
            raise IndexError(position)
        number = int(self._chosen[position])
        end = int(self._ends[number])
        start = int(self._ends[number - 1]) if number else 0
        boxes = self.boxes[start:end].astype(np.float64, copy=False)
        folder = self._folders[number if len(self._folders) > 1 else 0]
        return PackedSequence(self.names[number], folder, boxes, self.visible[start:end], self, start)

    @property
    def size(self) -> str:
        """`12 sequences, 3400 frames packed as raw`."""
        return f"{len(self)} sequences, {len(self.entries)} frames packed as {self.about['format']}"

    @property
    def video(self) -> bool:
        return self.about["video"]

    def folders(self) -> list[str]:
        """What the sequences were packed from: the folder of each, once."""
        chosen = self._chosen if len(self._folders) > 1 else [0]
        return list(dict.fromkeys(self._folders[int(k)] for k in chosen))

    def picture(self, flat: int, whole: bool, place: Problem) -> PackedFrame:
        """The stored frame of this number; raises BrokenFrame where it is not stored."""
        at = int(np.searchsorted(self._flat, flat))
        if at == len(self._flat) or self._flat[at] != flat:
            raise BrokenFrame(Problem(place.sequence, "is not packed", place.frame, self.folder))
        return PackedFrame(self.folder, self.about["format"], self.entries[at], whole, place)

    def damage(self, number: int) -> Problem | None:
        """What is wrong with a shard: it is read and its checksum compared."""
        file, digest = shard_file(self.folder, number), hashlib.sha256()
        try:
            with open(file, "rb") as f:
                while block := f.read(_BLOCK):
                    digest.update(block)
        except OSError as e:
            return Problem(file.name, f"cannot be read: {e.strerror or e}", file=str(file))
        if digest.hexdigest() == self.shard_digests[number]:
            return None
        return Problem(file.name, "its checksum is not that of the packed data", file=str(file))

    def check(self, wanted: Limits) -> None:
        """Raises ChaseError if crops of these limits can show more than is stored."""
        held = self.about["limits"]
        for name, value in vars(wanted).items():
            if value > held[name] + 1e-9:
                limits = {k: max(v, held[k]) for k, v in vars(wanted).items()}
                flags = " ".join(f"--{k.replace('_', '-')} {v:g}" for k, v in limits.items())
                raise ChaseError(
                    f"packed:{self.folder} holds crops of {name} up to {held[name]:g}, this run asks for"
                    f" {value:g}; pack again: python -m chase_fast.data.pack {self.about['source']}"
                    f" --out NEW_DIR {flags}"
                )


def read_about(folder: Path, spec: str) -> dict[str, Any]:
    """pack.json; raises ChaseError where it is missing or of another version."""
    file = folder / ABOUT
    try:
        about = json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        what = "there is no folder" if not folder.is_dir() else f"no {ABOUT} in"
        raise ChaseError(f"{spec}: {what} {folder}; data.pack makes packed datasets") from None
    except (OSError, ValueError) as e:
        raise ChaseError(f"{spec}: {file} cannot be read: {e}") from None
    if not isinstance(about, dict) or about.get("format_version") != FORMAT:
        raise ChaseError(f"{spec}: {file} is of another version of this program: pack it again")
    return about


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


def open_packed(path: str, split: str | None, spec: str) -> PackedSequences:
    """Opens DIR; compares the sizes of its shards, reads no pixel.

    Raises:
        ChaseError: DIR is missing, incomplete, damaged or of another version.
    """
    folder = user_path(path).absolute()
    about = read_about(folder, spec)
    again = f"finish it with the same command: {about['command']}"
    try:
        with np.load(folder / INDEX, allow_pickle=False) as archive:
            found = PackedSequences(str(folder), about, dict(archive), None)
    except FileNotFoundError:
        raise ChaseError(f"{spec}: {folder} is incomplete, packing was stopped; {again}") from None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as e:
        raise ChaseError(
            f"{spec}: {folder / INDEX} is damaged ({type(e).__name__}); remove it and {again}"
        ) from None
    for number, size in enumerate(found.shard_bytes.tolist()):
        file = shard_file(folder, number)
        there = os.path.getsize(file) if file.exists() else None
        if there != size:
            what = "is missing" if there is None else f"has {there} bytes, packed were {size}"
            raise ChaseError(f"{spec}: {file} {what}; {again}")
    if split:
        found._chosen = _choose(found.names, split, folder, spec)
    return found
