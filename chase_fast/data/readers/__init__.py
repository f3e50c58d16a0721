"""Dataset layouts on disk, one file each. A video layout finds its sequence folders and reads one of them;
COCO is read as a whole."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from chase_fast.data.readers import folder, got10k, lasot, trackingnet
from chase_fast.data.readers.layout import Seen
from chase_fast.data.sequences import FileSequence, Problem


@dataclass(frozen=True)
class Layout:
    """How the videos of one kind lie on disk.

    Attributes:
        find: (path, split, spec for messages, seen) -> sequence folders; raises ChaseError.
        read: (sequence folder, seen) -> the sequence or None, and everything wrong with it.
        known_bad: sequence -> what is known to be wrong with it as published.
    """

    find: Callable[[str, str | None, str, Seen], list[Path]]
    read: Callable[[Path, Seen], tuple[FileSequence | None, list[Problem]]]
    known_bad: dict[str, str]


VIDEO = {
    "got10k": Layout(got10k.find, got10k.read, got10k.KNOWN_BAD),
    "folder": Layout(folder.find, folder.read, {}),
    "trackingnet": Layout(trackingnet.find, trackingnet.read, {}),
    "lasot": Layout(lasot.find, lasot.read, {}),
}
