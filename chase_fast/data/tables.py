"""Many sequences in few arrays: a table makes the sequence that is asked for, and goes to and from disk.

30,000 videos or 600,000 annotated images are a handful of arrays, not as many Python objects.
"""

import json
from collections.abc import Iterable
from collections.abc import Sequence as Many
from typing import Any

import numpy as np

from chase_fast.data.frames import Numbered
from chase_fast.data.sequences import FileSequence

_SHOWN = np.ones(1, bool)


def _text(value: Any) -> np.ndarray:
    """Data as JSON text in an array (file names of any encoding survive)."""
    return np.frombuffer(json.dumps(value).encode(), np.uint8)


def _data(array: np.ndarray) -> Any:
    return json.loads(array.tobytes().decode())


def compact(boxes: np.ndarray) -> np.ndarray:
    """float32 where that loses nothing (whole and half pixels), else float64."""
    small = boxes.astype(np.float32)
    return small if np.array_equal(small, boxes, equal_nan=True) else boxes


class VideoTable(Many[FileSequence]):
    """The videos of a dataset. Frames of all videos lie one after the other.

    Args:
        about: per video its name, its folder and its frames: [pattern, first number] or the list of names.
        ends: [N] int64, where the frames of each video end.
        boxes: [sum T, 4] xywh; visible: [sum T] bool.
    """

    kind = "video"

    def __init__(
        self, about: list[tuple[str, str, list]], ends: np.ndarray, boxes: np.ndarray, visible: np.ndarray
    ):
        self._about, self._ends, self.boxes, self.visible = about, ends, boxes, visible

    @classmethod
    def of(cls, sequences: Iterable[FileSequence]) -> "VideoTable":
        sequences = list(sequences)
        about = [
            (
                s.name,
                s.folder,
                [s.files.pattern, s.files.first] if isinstance(s.files, Numbered) else list(s.files),
            )
            for s in sequences
        ]
        empty = [np.empty((0, 4))]
        boxes = np.concatenate([s.boxes for s in sequences] or empty)
        visible = np.concatenate([s.visible for s in sequences] or [np.empty(0, bool)])
        return cls(
            about, np.cumsum([len(s.visible) for s in sequences], dtype=np.int64), compact(boxes), visible
        )

    def __len__(self) -> int:
        return len(self._about)

    def __getitem__(self, number: int) -> FileSequence:
        if not 0 <= number < len(self):
            raise IndexError(number)
        name, folder, files = self._about[number]
        end = int(self._ends[number])
        start = int(self._ends[number - 1]) if number else 0
        if len(files) == 2 and isinstance(files[1], int):
            files = Numbered(files[0], files[1], end - start)
        boxes = self.boxes[start:end].astype(np.float64, copy=False)
        return FileSequence(name, folder, files, boxes, self.visible[start:end])

    @property
    def size(self) -> str:
        """`12 sequences, 3400 frames`."""
        return f"{len(self)} sequences, {len(self.visible)} frames"

    @property
    def longest(self) -> int:
        """Frames of the longest sequence."""
        return int(np.diff(self._ends, prepend=0).max(initial=0))

    def owner(self, frames: np.ndarray) -> np.ndarray:
        """Which sequence each frame of the flat arrays belongs to."""
        return np.searchsorted(self._ends, frames, side="right")

    def names(self) -> list[str]:
        """The name of every sequence."""
        return [name for name, _, _ in self._about]

    def folders(self) -> list[str]:
        """The folder of every sequence."""
        return [folder for _, folder, _ in self._about]

    def images(self) -> "VideoTable":
        """What to decode to see every file once."""
        return self

    def arrays(self) -> dict[str, np.ndarray]:
        return {"about": _text(self._about), "ends": self._ends, "boxes": self.boxes, "visible": self.visible}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> "VideoTable":
        names = "ends", "boxes", "visible"
        return cls([tuple(row) for row in _data(arrays["about"])], *(arrays[n] for n in names))


class StillTable(Many[FileSequence]):
    """Annotated images: every annotation is a sequence of one frame, named IMAGE#ANNOTATION.

    Args:
        folder: of the images.
        files: [I] names of the images.
        sizes: [I, 2] int32 width and height as the annotations give them, 0 where they do not.
        image: [A] int32, which image each annotation is on; ids: [A] int64; boxes: [A, 4] xywh.
    """

    kind = "still"

    def __init__(
        self,
        folder: str,
        files: list[str],
        sizes: np.ndarray,
        image: np.ndarray,
        ids: np.ndarray,
        boxes: np.ndarray,
    ):
        self._folder, self._files, self.sizes = folder, files, sizes
        self._image, self._ids, self._boxes = image, ids, compact(boxes)
        self.visible = np.ones(len(ids), bool)

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, number: int) -> FileSequence:
        if not 0 <= number < len(self):
            raise IndexError(number)
        file = self._files[self._image[number]]
        name = f"{file.rpartition('.')[0]}#{self._ids[number]}"
        box = self._boxes[number : number + 1].astype(np.float64, copy=False)
        return FileSequence(name, self._folder, (file,), box, _SHOWN)

    @property
    def size(self) -> str:
        """`40 annotations on 12 images`."""
        return f"{len(self)} annotations on {len(self._files)} images"

    def folders(self) -> list[str]:
        """The folder of all images, once."""
        return [self._folder]

    def images(self) -> "Images":
        """What to decode to see every file once."""
        return Images(self._folder, self._files)

    def without(self, files: set[str]) -> "StillTable":
        """The table without these images and what is annotated on them."""
        keep = np.array([f not in files for f in self._files], bool)
        number = np.cumsum(keep) - 1
        kept = keep[self._image]
        image = number[self._image[kept]].astype(np.int32)
        names = [f for f in self._files if f not in files]
        return StillTable(self._folder, names, self.sizes[keep], image, self._ids[kept], self._boxes[kept])

    def arrays(self) -> dict[str, np.ndarray]:
        about = _text([self._folder, self._files])
        return {
            "about": about,
            "sizes": self.sizes,
            "image": self._image,
            "ids": self._ids,
            "boxes": self._boxes,
        }

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> "StillTable":
        return cls(*_data(arrays["about"]), *(arrays[n] for n in ("sizes", "image", "ids", "boxes")))


class Images(Many[FileSequence]):
    """Every image of a StillTable once, as a sequence of one frame named as its file."""

    def __init__(self, folder: str, files: Many[str]):
        self._folder, self._files = folder, files

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, number: int) -> FileSequence:
        file = self._files[number]
        return FileSequence(file, self._folder, (file,), np.full((1, 4), np.nan), _SHOWN)


Table = VideoTable | StillTable
TABLES: dict[str, type[Table]] = {t.kind: t for t in (VideoTable, StillTable)}
