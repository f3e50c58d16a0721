"""Which sequences of a benchmark a split names: a folder, or a list file of names."""

import os
from collections.abc import Sequence
from pathlib import Path

from chase_fast.errors import ChaseError, MissingFile
from chase_fast.files import user_path


def open_root(path: str, spec: str) -> Path:
    root = user_path(path)
    if not root.is_dir():
        raise MissingFile(f"{spec}: there is no folder {root}")
    return root


def lines(file: Path) -> list[str]:
    """The lines of a list file that hold something."""
    text = file.read_text("utf-8-sig", errors="replace")
    return [line.strip() for line in text.splitlines() if line.strip()]


def subfolders(folder: Path) -> list[str]:
    """Names of the folders in a folder: in the order of its list.txt if there is one, else sorted."""
    if (folder / "list.txt").is_file():
        return lines(folder / "list.txt")
    return sorted(e.name for e in os.scandir(folder) if e.is_dir() and not e.name.startswith("."))


def stems(folder: Path, spec: str) -> list[str]:
    """Names of the annotation files NAME.txt in a folder, sorted."""
    if not folder.is_dir():
        raise ChaseError(f"{spec}: there is no folder {folder} with the annotations")
    return sorted(p.stem for p in folder.glob("*.txt"))


def list_file(root: Path, split: str) -> Path | None:
    """A list file is looked for as given, then under root."""
    return next((p for p in (user_path(split), root / split) if p.is_file()), None)


def chosen(known: Sequence[str], root: Path, split: str | None, spec: str, splits: str = "") -> list[str]:
    """All known sequence names, or those that the list file `split` names, in its order.

    Raises:
        ChaseError: there is no such list, or it names an unknown sequence.
    """
    if split is None:
        return list(known)
    file = list_file(root, split)
    if file is None:
        raise ChaseError(f"{spec}: split {split!r} is no list file{splits}")
    names, there = lines(file), set(known)
    if unknown := [n for n in names if n not in there]:
        raise ChaseError(f"{spec}: {file} names {unknown[0]!r}, which is no sequence of {root}")
    return names
