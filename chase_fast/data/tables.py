"""Many sequences in few arrays: a table makes the sequence that is asked for, and goes to and from disk.

30,000 videos or 600,000 annotated images are a handful of arrays, not as many Python objects.
"""

import json
import os
from collections.abc import Iterable
from collections.abc import Sequence as Many
from typing import Any

import numpy as np

from chase_fast.data.frames import Numbered
from chase_fast.data.on_demand import OnDemand
from chase_fast.data.sequences import FileSequence
from chase_fast.errors import ChaseError
from chase_fast.fields import load_json

_SHOWN = np.ones(1, bool)


def _text(value: Any) -> np.ndarray:
    """Data as JSON text in an array (file names of any encoding survive)."""
    return np.frombuffer(json.dumps(value).encode(), np.uint8)


def _data(array: np.ndarray, where: str) -> Any:
    return load_json(array.tobytes(), where)


def _check(good: bool, where: str) -> None:
    if not good:
        raise ChaseError(f"{where} is damaged (its parts do not fit together)")


def _texts(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(v, str) for v in values)


def _arrays(arrays: dict[str, np.ndarray], kinds: dict[str, tuple[str, int]], where: str) -> list[np.ndarray]:
    """The arrays of these names; kinds: name -> dtype kinds and number of dimensions."""
    for name, (kind, dimensions) in kinds.items():
        _check(name in arrays and arrays[name].dtype.kind in kind and arrays[name].ndim == dimensions, where)
    return [arrays[name] for name in kinds]


def compact(boxes: np.ndarray) -> np.ndarray:
    """float32 where that loses nothing (whole and half pixels), else float64."""
    small = boxes.astype(np.float32)
    return small if np.array_equal(small, boxes, equal_nan=True) else boxes


class VideoTable(OnDemand[FileSequence]):
    """The videos of a dataset. Frames of all videos lie one after the other.

    Args:
        about: per video its name, its folder and its frames: [pattern, first number] or the list of names.
        ends: [N] int64, where the frames of each video end.
        boxes: [sum T, 4] xywh; visible, outside: [sum T] bool, see `FileSequence`.
    """

    kind = "video"

    def __init__(
        self,
        about: list[tuple[str, str, list]],
        ends: np.ndarray,
        boxes: np.ndarray,
        visible: np.ndarray,
        outside: np.ndarray,
    ):
        self._about, self._ends, self.boxes = about, ends, boxes
        self.visible, self._outside = visible, outside

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
        outside = np.concatenate([s.annotated & ~s.visible for s in sequences] or [np.empty(0, bool)])
        ends = np.cumsum([len(s.visible) for s in sequences], dtype=np.int64)
        return cls(about, ends, compact(boxes), visible, outside)

    def __len__(self) -> int:
        return len(self._about)

    def item(self, place: int) -> FileSequence:
        name, folder, names = self._about[place]
        end = int(self._ends[place])
        start = int(self._ends[place - 1]) if place else 0
        files: Many[str] = names
        if len(names) == 2 and isinstance(names[1], int):
            files = Numbered(names[0], names[1], end - start)
        boxes = self.boxes[start:end].astype(np.float64, copy=False)
        return FileSequence(name, folder, files, boxes, self.visible[start:end], self._outside[start:end])

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
        return {
            "boxes": self.boxes,
            "visible": self.visible,
            "outside": self._outside,
            "ends": self._ends,
            "about": _text(self._about),
        }

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray], where: str = "the table") -> "VideoTable":
        """What `arrays` gave. where: the file, for messages. Raises ChaseError for arrays that do not fit."""
        kinds = {
            "about": ("u", 1),
            "ends": ("i", 1),
            "boxes": ("f", 2),
            "visible": ("b", 1),
            "outside": ("b", 1),
        }
        about, ends, boxes, visible, outside = _arrays(arrays, kinds, where)
        rows = _data(about, where)
        lengths = np.diff(ends, prepend=0)
        total = int(ends[-1]) if len(ends) else 0
        _check(isinstance(rows, list) and len(rows) == len(ends) and bool((lengths >= 0).all()), where)
        _check(boxes.shape == (total, 4) and visible.shape == outside.shape == (total,), where)
        for row, length in zip(rows, lengths.tolist()):
            _check(isinstance(row, list) and len(row) == 3 and _texts(row[:2]), where)
            files = row[2]
            _check(isinstance(files, list), where)
            numbered = len(files) == 2 and isinstance(files[0], str) and type(files[1]) is int
            _check(numbered or (_texts(files) and len(files) == length), where)
        return cls([tuple(row) for row in rows], ends, boxes, visible, outside)


class StillTable(OnDemand[FileSequence]):
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

    def on_images(self) -> tuple[np.ndarray, np.ndarray]:
        """Boxes [A, 4] float64, and which image [A] of `images` each is on."""
        return self._boxes.astype(np.float64), self._image

    def __len__(self) -> int:
        return len(self._ids)

    def item(self, place: int) -> FileSequence:
        file = self._files[self._image[place]]
        name = f"{file.rpartition('.')[0]}#{self._ids[place]}"
        box = self._boxes[place : place + 1].astype(np.float64, copy=False)
        return FileSequence(name, self._folder, (file,), box, _SHOWN)

    @property
    def size(self) -> str:
        """`40 annotations on 12 images`."""
        return f"{len(self)} annotations on {len(self._files)} images"

    def folders(self) -> list[str]:
        """The folder of all images, once."""
        return [self._folder]

    def stills(self) -> list[str]:
        """Every image once, without the ending of its name."""
        return [os.path.join(self._folder, f.rpartition(".")[0]) for f in self._files]

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
    def from_arrays(cls, arrays: dict[str, np.ndarray], where: str = "the table") -> "StillTable":
        """What `arrays` gave. where: the file, for messages. Raises ChaseError for arrays that do not fit."""
        kinds = {"about": ("u", 1), "sizes": ("i", 2), "image": ("i", 1), "ids": ("i", 1), "boxes": ("f", 2)}
        about, sizes, image, ids, boxes = _arrays(arrays, kinds, where)
        texts = _data(about, where)
        _check(isinstance(texts, list) and len(texts) == 2 and _texts(texts[:1]) and _texts(texts[1]), where)
        folder, files = texts
        _check(
            sizes.shape == (len(files), 2) and boxes.shape == (len(ids), 4) and len(image) == len(ids), where
        )
        _check(not len(image) or (image.min() >= 0 and image.max() < len(files)), where)
        return cls(folder, files, sizes, image, ids, boxes)


class Images(OnDemand[FileSequence]):
    """Every image of a StillTable once, as a sequence of one frame named as its file."""

    def __init__(self, folder: str, files: Many[str]):
        self._folder, self._files = folder, files

    def __len__(self) -> int:
        return len(self._files)

    def item(self, place: int) -> FileSequence:
        file = self._files[place]
        return FileSequence(file, self._folder, (file,), np.full((1, 4), np.nan), _SHOWN)


Table = VideoTable | StillTable
TABLES: dict[str, type[Table]] = {t.kind: t for t in (VideoTable, StillTable)}
