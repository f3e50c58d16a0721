"""Which files and folders decided what a reader found: an index compares them."""

import os
from contextvars import ContextVar
from pathlib import Path
from typing import Self

Stamp = tuple[int, int]
_MISSING: Stamp = (-1, -1)


def stamp(path: str) -> Stamp:
    """Modification time in ns and size of a file or folder; (-1, -1) where there is none."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return _MISSING
    return status.st_mtime_ns, status.st_size


class Seen:
    """Collects what `looked_at` is told in `with seen:`, as it was before it was read.

    A folder's time changes when an entry is added, removed or renamed, a file's when it is written: as long
    as all stamps are the same, reading again would find the same. Several threads may enter one of them.
    """

    def __init__(self):
        self.stamps: dict[str, Stamp] = {}

    def add(self, path: Path | str) -> None:
        name = str(path)
        if name not in self.stamps:
            self.stamps[name] = stamp(name)

    def __enter__(self) -> Self:
        _current.set(self)
        return self

    def __exit__(self, *error: object) -> None:
        _current.set(None)


_current: ContextVar[Seen | None] = ContextVar("seen", default=None)


def looked_at(*paths: Path | str) -> None:
    """Says that these files or folders are about to be read; nobody may be listening."""
    if (seen := _current.get()) is not None:
        for path in paths:
            seen.add(path)
