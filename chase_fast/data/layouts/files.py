"""What layouts are made of: roots, list files, folders; boxes, flags and frames of a sequence.

Names and paths come from users and from files: `is_file` and `is_folder` answer for any text, thousands of
letters too. All of it is said to `data.seen`.
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from chase_fast.data.annotations import read_boxes, read_flags
from chase_fast.data.frame_files import Ambiguous, FrameFiles, find_frames
from chase_fast.data.frames import frame_numbers
from chase_fast.data.seen import looked_at
from chase_fast.data.spec import root_of
from chase_fast.errors import ChaseError, MissingFile
from chase_fast.fields import short
from chase_fast.files import read_text, user_path
from chase_fast.remarks import Notes

is_file, is_folder = os.path.isfile, os.path.isdir


class Unusable(ValueError):
    """Why a sequence cannot be used; the file that is the reason, unless the text names it."""

    def __init__(self, what: str, file: Path | None = None):
        super().__init__(what if file is None else f"{file}: {what}")
        self.what, self.file = what, None if file is None else str(file)


# which sequences there are


def open_root(path: str, spec: str) -> Path:
    """The dataset's folder; raises ChaseError where there is none."""
    root = root_of(path, spec)
    looked_at(root)
    return root


def lines(file: Path) -> list[str]:
    """Lines of a list file without blanks; raises ChaseError if it cannot be read."""
    looked_at(file)
    try:
        text = read_text(file)
    except OSError as e:
        raise ChaseError(f"the list {file} cannot be read: {e.strerror}") from None
    return [line.strip() for line in text.splitlines() if line.strip()]


def folders_in(folder: Path) -> list[str]:
    """Names of the folders in a folder, sorted, hidden ones left out."""
    looked_at(folder)
    try:
        return sorted(e.name for e in os.scandir(folder) if e.is_dir() and not e.name.startswith("."))
    except OSError as e:
        raise ChaseError(f"the folder {folder} cannot be read: {e.strerror}") from None


def subfolders(folder: Path, spec: str) -> list[str]:
    """Names of the folders in a folder: in the order of its list.txt if there is one, else sorted.

    Raises:
        ChaseError: list.txt names one that is not there.
    """
    listed = folder / "list.txt"
    if not is_file(listed):
        return folders_in(folder)
    looked_at(folder)
    names = lines(listed)
    if lost := [n for n in names if not is_folder(folder / n)]:
        more = f" (and {len(lost) - 1} more)" if len(lost) > 1 else ""
        raise ChaseError(
            f"{spec}: {listed} names {short(lost[0])}{more}, but there is no such folder in {folder}"
        )
    return names


def stems(folder: Path, spec: str) -> list[str]:
    """Names of the annotation files NAME.txt in a folder, sorted; hidden ones do not count."""
    if not is_folder(folder):
        raise MissingFile(f"{spec}: there is no folder {folder} with the annotations")
    looked_at(folder)
    return sorted(p.stem for p in folder.glob("*.txt") if not p.name.startswith("."))


def list_file(root: Path, split: str) -> Path | None:
    """A list file is looked for as given, then under root."""
    return next((p for p in (user_path(split), root / split) if is_file(p)), None)


def chosen(known: Sequence[str], root: Path, split: str | None, spec: str, splits: str = "") -> list[str]:
    """All known sequence names, or those that the list file `split` names, in its order.

    Raises:
        ChaseError: there is no such list, or it names an unknown sequence.
    """
    if split is None:
        return list(known)
    file = list_file(root, split)
    if file is None:
        raise ChaseError(f"{spec}: split {short(split)} is no list file{splits}")
    names, there = lines(file), set(known)
    if unknown := [n for n in names if n not in there]:
        raise ChaseError(f"{spec}: {file} names {short(unknown[0])}, which is no sequence of {root}")
    return names


def wrong_layout(spec: str, folder: Path, expected: Iterable[str]) -> ChaseError:
    """The error of a folder that holds something else than it should."""
    names = sorted(e.name + ("/" if e.is_dir() else "") for e in os.scandir(folder))
    content = ", ".join(names[:5]) or "nothing"
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ChaseError(f"{spec}: expected {' and '.join(expected)}; {folder} holds {content}{more}")


# what a sequence is


def frames_of(folder: Path) -> FrameFiles:
    """The frames in a folder, or in its subfolder of the frames, in order; raises Unusable."""
    looked_at(folder)
    try:
        found = find_frames(folder)
    except OSError as e:
        raise Unusable(f"the folder of the frames cannot be read: {e.strerror}", folder) from None
    except Ambiguous as e:
        raise Unusable(str(e)) from None
    looked_at(found.folder)
    if not found.names:
        raise Unusable("no frames in the folder", folder)
    return found


def boxes_of(file: Path) -> np.ndarray:
    """[T, 4] boxes of an annotation file; raises Unusable."""
    looked_at(file)
    try:
        return read_boxes(file)
    except OSError as e:
        raise Unusable(f"cannot be read: {e.strerror}", file) from None
    except ValueError as e:
        raise Unusable(str(e), file) from None


def flags_of(file: Path, length: int) -> np.ndarray | None:
    """[length] integers of a label file, None if there is no such file; raises Unusable."""
    looked_at(file)
    if not is_file(file):
        return None
    try:
        return read_flags(file, length)
    except OSError as e:
        raise Unusable(f"cannot be read: {e.strerror}", file) from None
    except (ValueError, OverflowError) as e:
        raise Unusable(short(str(e))[1:-1], file) from None


def named_flags(file: Path, names: tuple[str, ...], note: Notes) -> dict[str, bool]:
    """Attributes of a sequence: as many 0 or 1 as names; empty without such a file. One that holds something
    else is noted and left aside: attributes only make tables."""
    try:
        values = flags_of(file, len(names))
    except Unusable:
        note(f"attributes are left aside: their file does not hold {len(names)} numbers", 1, "file")
        return {}
    return {} if values is None else {n: bool(v) for n, v in zip(names, values)}


def numbered(frames: FrameFiles, first: int, last: int) -> FrameFiles:
    """The frames with the numbers first ... last in their names; raises Unusable naming a missing one."""
    numbers = frame_numbers(frames.names)
    if numbers is None:
        what = f"frames {first} to {last} are wanted, but names as {frames.names[0]} hold no frame number"
        raise Unusable(what, frames.folder)
    by_number = dict(zip(numbers, frames.names))
    if lost := [n for n in range(first, last + 1) if n not in by_number]:
        raise Unusable(f"frame number {lost[0]} is missing", frames.folder)
    names = tuple(by_number[n] for n in range(first, last + 1))
    return FrameFiles(frames.folder, names, frames.notes)
