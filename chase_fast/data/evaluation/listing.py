"""Which sequences of a benchmark a split names: a folder, or a list file of names.

Names and paths come from users and from files: `is_file` and `is_folder` answer for any text, thousands of
letters too.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from chase_fast.errors import ChaseError, MissingFile
from chase_fast.fields import short
from chase_fast.files import read_text, user_path
from chase_fast.remarks import Remark

is_file, is_folder = os.path.isfile, os.path.isdir


def quoted(name: str) -> str:
    """A name for a message, shortened."""
    return short(name)


def open_root(path: str, spec: str) -> Path:
    root = user_path(path)
    if not is_folder(root):
        raise MissingFile(f"{spec}: there is no folder {root}")
    return root


def lines(file: Path) -> list[str]:
    """The lines of a list file that hold something, each once; raises ChaseError if it cannot be read."""
    try:
        text = read_text(file)
    except OSError as e:
        raise ChaseError(f"the list {file} cannot be read: {e.strerror}") from None
    return list(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))


def folders_in(folder: Path) -> list[str]:
    """Names of the folders in a folder, sorted."""
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
    names = lines(listed)
    if lost := [n for n in names if not is_folder(folder / n)]:
        more = f" (and {len(lost) - 1} more)" if len(lost) > 1 else ""
        raise ChaseError(
            f"{spec}: {listed} names {quoted(lost[0])}{more}, but there is no such folder in {folder}"
        )
    return names


def stems(folder: Path, spec: str) -> list[str]:
    """Names of the annotation files NAME.txt in a folder, sorted; hidden ones do not count."""
    if not is_folder(folder):
        raise MissingFile(f"{spec}: there is no folder {folder} with the annotations")
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
        raise ChaseError(f"{spec}: split {quoted(split)} is no list file{splits}")
    names, there = lines(file), set(known)
    if unknown := [n for n in names if n not in there]:
        raise ChaseError(f"{spec}: {file} names {quoted(unknown[0])}, which is no sequence of {root}")
    return names


def unannotated(folder: Path, names: Sequence[str]) -> list[Remark]:
    """A remark on the sequence folders that have no annotation."""
    lost = sorted(set(folders_in(folder)) - set(names)) if is_folder(folder) else []
    return [Remark("sequence folders without an annotation are not scored", n, 0) for n in lost]
