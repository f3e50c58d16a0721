"""What the readers of all layouts share: the files they have looked at, list files, what a folder holds."""

import os
from collections.abc import Iterable
from pathlib import Path

from chase_fast.errors import ChaseError, MissingFile
from chase_fast.files import read_text, user_path

Stamp = tuple[int, int]
_MISSING: Stamp = (-1, -1)


def stamp(path: str) -> Stamp:
    """Modification time in ns and size of a file or folder; (-1, -1) where there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return _MISSING
    return status.st_mtime_ns, status.st_size


class Seen:
    """Every file and folder that decided what a reader found, as it was before it was read.

    A folder's time changes when an entry is added, removed or renamed, a file's when it is written: as long
    as all stamps are the same, reading again would find the same.
    """

    def __init__(self):
        self.stamps: dict[str, Stamp] = {}

    def add(self, path: Path | str) -> None:
        name = str(path)
        if name not in self.stamps:
            self.stamps[name] = stamp(name)


def lines(file: Path) -> list[str]:
    """Lines of a list file without blanks."""
    text = read_text(file)
    return [line.strip() for line in text.splitlines() if line.strip()]


def subfolders(folder: Path) -> list[Path]:
    """Folders in a folder, sorted, hidden ones left out."""
    return sorted(Path(e.path) for e in os.scandir(folder) if e.is_dir() and not e.name.startswith("."))


def content(folder: Path) -> str:
    """What a folder holds, for a message: a few names and how many there are."""
    names = sorted(e.name + ("/" if e.is_dir() else "") for e in os.scandir(folder))
    if not names:
        return "nothing"
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def open_root(path: str, spec: str, seen: Seen) -> Path:
    """The dataset's folder; raises ChaseError where there is none."""
    root = user_path(path)
    if not root.is_dir():
        raise MissingFile(f"{spec}: there is no folder {root}")
    seen.add(root)
    return root


def list_file(root: Path, split: str, seen: Seen) -> Path | None:
    """A list file is looked for as given, then under root."""
    found = next((p for p in (user_path(split), root / split) if p.is_file()), None)
    if found:
        seen.add(found)
    return found


def wrong_layout(spec: str, folder: Path, expected: Iterable[str]) -> ChaseError:
    """The error of a folder that holds something else than it should."""
    return ChaseError(f"{spec}: expected {' and '.join(expected)}; {folder} holds {content(folder)}")
