"""File names of frames: which ones lie in a folder, their order, and a compact form for long runs of them."""

import os
import re
from collections.abc import Sequence as Many
from dataclasses import dataclass
from pathlib import Path

from chase_fast.data.decode import EXTENSIONS

_SUFFIXES = tuple(EXTENSIONS)


@dataclass(frozen=True)
class Numbered(Many[str]):
    """`length` names `pattern % number`, numbered from `first` without a gap: almost every video."""

    pattern: str
    first: int
    length: int

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> str:
        if not -self.length <= index < self.length:
            raise IndexError(index)
        return self.pattern % (self.first + index % self.length)


def frame_number(name: str) -> int:
    """Last number in a file name (`img00012.jpg` -> 12), -1 without one."""
    numbers = re.findall(r"\d+", Path(name).stem)
    return int(numbers[-1]) if numbers else -1


def in_order(names: Many[str]) -> Many[str]:
    """Names in numerical order (10 after 9, padded or not), as Numbered if no number is missing."""
    # the smallest name is the first one unless unpadded numbers start above 1: then the list stays a list
    match = re.fullmatch(r"(.*?)(\d+)(\.\w+)", min(names)) if names else None
    if match:
        prefix, digits, suffix = (part.replace("%", "%%") for part in match.groups())
        width = len(digits) if digits.startswith("0") else 1
        numbered = Numbered(f"{prefix}%0{width}d{suffix}", int(digits), len(names))
        if set(numbered) == set(names):
            return numbered
    return tuple(sorted(names, key=lambda n: (frame_number(n), n)))


def images_in(folder: Path) -> Many[str]:
    """Names of the image files of a folder in numerical order; raises OSError."""
    return in_order([n for n in os.listdir(folder) if n.lower().endswith(_SUFFIXES)])


def list_frames(folder: Path) -> tuple[Path, Many[str]]:
    """The folder of the frames (the sequence's own, else a subfolder) and their names in numerical order."""
    if names := images_in(folder):
        return folder, names
    subfolders = sorted(Path(e.path) for e in os.scandir(folder) if e.is_dir())
    for subfolder in sorted(subfolders, key=lambda p: p.name != "img"):
        if names := images_in(subfolder):
            return subfolder, names
    return folder, ()


def missing_number(names: Many[str]) -> int | None:
    """The first number that is missing between the first and the last name."""
    if isinstance(names, Numbered) or not names:
        return None
    numbers = {frame_number(n) for n in names}
    return next((n for n in range(min(numbers), max(numbers)) if n not in numbers), None)
