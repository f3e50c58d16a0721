"""A folder of images as a source."""

from collections.abc import Iterator
from pathlib import Path

from chase_fast.data.decode import EXTENSIONS, BrokenImage, read_frame
from chase_fast.data.first_look import first_levels, oddities
from chase_fast.data.frame_files import Ambiguous, find_frames
from chase_fast.data.frames import missing_number
from chase_fast.data.pixels import Levels
from chase_fast.errors import ChaseError
from chase_fast.track.sources.base import Frame


class Folder:
    """Image files in natural order: those of the folder, or of its subfolder of frames; see
    `data.frame_files`.

    What was left out, how frames are marked, which grey levels become black and white, and a missing
    number (the frames around it count as neighbours) are notes.

    Args:
        levels: of frames of more than 8 bits; None: as the first frame of the folder has them. Afterwards the
            attribute holds those that are used, None for frames of 8 bits.

    Raises:
        ChaseError: no frames, nothing says which images are frames, or none is left after `start`.
    """

    kind, fps, live = "folder", None, False

    def __init__(self, path: Path, start: int, count: int | None, levels: Levels | None = None):
        self.path = str(path)
        try:
            found = find_frames(path)
        except OSError as e:
            raise ChaseError(f"cannot read the folder {path}: {e.strerror}") from None
        except Ambiguous as e:
            raise ChaseError(str(e)) from None
        names = found.names
        if not names:
            raise ChaseError(f"{path} holds no frames ({', '.join(sorted(EXTENSIONS))})")
        last = len(names) if count is None else min(len(names), start + count)
        if start >= last:
            raise ChaseError(f"{path} has {len(names)} frames: nothing is left after --start {start}")
        self._folder, self._names, self._range = found.folder, names, range(start, last)
        self.total = len(self._range)
        self.levels = self._choose(levels)
        self.about = {"levels": [self.levels.low, self.levels.high]} if self.levels else {}
        self.notes = self._say(levels, list(map(str, found.notes)))

    def _choose(self, levels: Levels | None) -> Levels | None:
        own = first_levels([str(self._folder / self._names[i]) for i in range(min(len(self._names), 8))])
        if own is None and levels is not None:
            raise ChaseError(f"--levels: the frames of {self.path} have 8 bits and are taken as they are")
        return levels or own

    def _say(self, given: Levels | None, notes: list[str]) -> list[str]:
        notes += map(str, oddities(str(self._folder / self._names[0])))
        if self.levels:
            why = "as given" if given else "as the first frame has them; --levels LOW,HIGH for others"
            notes.append(f"the frames have more than 8 bits: {self.levels} become black to white ({why})")
        if (gap := missing_number(self._names)) is not None:
            notes.append(f"frame number {gap} is missing in {self._folder}: tracking leaps over it")
        return notes

    def frames(self) -> Iterator[Frame]:
        for i in self._range:
            name = self._names[i]
            try:
                yield Frame(read_frame(self._folder / name, lambda: self.levels), i, name)
            except BrokenImage as e:
                raise ChaseError(f"frame {self._folder / name} cannot be read: {e}") from None

    def close(self) -> None:
        pass
