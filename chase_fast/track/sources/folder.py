"""A folder of images as a source."""

from collections.abc import Iterator
from pathlib import Path

from chase_fast.data.decode import EXTENSIONS, BrokenImage, read_frame
from chase_fast.data.frames import images_in, missing_number
from chase_fast.errors import ChaseError
from chase_fast.track.sources.base import Frame


class Folder:
    """Image files in numerical order: those of the folder, or of its only subfolder with images.

    A missing number is a note: the frames around it count as neighbours.
    """

    kind, fps, live = "folder", None, False

    def __init__(self, path: Path, start: int, count: int | None):
        self.path, self.about = str(path), {}
        try:
            names = images_in(path)
            if not names:
                found = {p: n for p in sorted(path.iterdir()) if p.is_dir() and (n := images_in(p))}
                if len(found) > 1:
                    some = ", ".join(p.name for p in list(found)[:3])
                    raise ChaseError(
                        f"{path} holds {len(found)} folders of frames ({some} ...): give one of them"
                    )
                path, names = next(iter(found.items()), (path, ()))
        except OSError as e:
            raise ChaseError(f"cannot read the folder {path}: {e.strerror}") from None
        if not names:
            raise ChaseError(f"{path} holds no frames ({', '.join(sorted(EXTENSIONS))})")
        gap = missing_number(names)
        self.notes = (
            [] if gap is None else [f"frame number {gap} is missing in {path}: tracking leaps over it"]
        )
        last = len(names) if count is None else min(len(names), start + count)
        if start >= last:
            raise ChaseError(f"{path} has {len(names)} frames: nothing is left after --start {start}")
        self._folder, self._names, self._range = path, names, range(start, last)
        self.total = len(self._range)

    def frames(self) -> Iterator[Frame]:
        for i in self._range:
            name = self._names[i]
            try:
                yield Frame(read_frame(self._folder / name), i, name)
            except BrokenImage as e:
                raise ChaseError(f"frame {self._folder / name} cannot be read: {e}") from None

    def close(self) -> None:
        pass
