"""One annotated video or image: what a sequence is, one made of files, and what can be wrong with it."""

import os
from collections.abc import Sequence as Many
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from chase_fast.data.decode import BrokenImage, Picture, read_bytes, read_frame
from chase_fast.data.first_look import first_levels
from chase_fast.data.frames import missing_number
from chase_fast.data.notes import Note
from chase_fast.data.pixels import Levels
from chase_fast.errors import ChaseError
from chase_fast.fields import Fields

if TYPE_CHECKING:
    from chase_fast.kernels.crop import Window


class View(Protocol):
    """A frame of which parts can be had."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def part(self, window: "Window") -> tuple[np.ndarray, tuple[float, ...]]:
        """See `Picture.part`."""
        ...


class Sequence(Protocol):
    """One target in one video. Frames are numbered from 0; absent boxes are NaN."""

    @property
    def name(self) -> str: ...

    @property
    def boxes(self) -> np.ndarray:
        """[T, 4] float64 xywh, pixels."""
        ...

    @property
    def visible(self) -> np.ndarray:
        """[T] bool."""
        ...

    def picture(self, index: int, windows: int = 1) -> View:
        """The frame, of which so many windows will be asked for: for one it is decoded in part, for several
        once, as a whole. It and its `part` raise BrokenFrame."""
        ...


@dataclass(frozen=True)
class Problem:
    """Something wrong with a sequence; `frame` counts from 1, as annotation lines do."""

    sequence: str
    what: str
    frame: int | None = None
    file: str | None = None

    def __str__(self) -> str:
        frame = "" if self.frame is None else f", frame {self.frame}"
        file = "" if self.file is None else f" ({self.file})"
        return f"sequence {self.sequence}{frame}{file}: {self.what}"


def problem_of(fields: Fields) -> Problem:
    """A Problem that was kept as JSON; raises ChaseError."""
    frame = None if fields.get("frame") is None else fields.integer("frame")
    file = None if fields.get("file") is None else fields.text("file")
    return Problem(fields.text("sequence"), fields.text("what"), frame, file)


class BrokenFrame(ChaseError):
    """A frame that cannot be decoded; its one argument is the Problem."""

    @property
    def problem(self) -> Problem:
        return self.args[0]

    def __str__(self) -> str:
        return f"{self.problem}; replace the file, or leave it out with --skip-bad"


@dataclass(frozen=True)
class FileSequence:
    """A sequence of image files; `files` [T] are names in `folder`.

    outside: [T] bool, boxes that are annotated and have no pixel in their frame, None if there are none;
    such frames are not visible. notes: how the files were chosen.
    """

    name: str
    folder: str
    files: Many[str]
    boxes: np.ndarray
    visible: np.ndarray
    outside: np.ndarray | None = None
    notes: tuple[Note, ...] = ()

    @property
    def annotated(self) -> np.ndarray:
        """[T] bool: what the annotation calls visible, whether or not it is in the frame."""
        return self.visible if self.outside is None else self.visible | self.outside

    def path(self, index: int) -> str:
        return os.path.join(self.folder, self.files[index])

    def levels(self) -> Levels | None:
        """Grey levels of its frames; see `first_levels`."""
        return first_levels([self.path(i) for i in range(min(len(self.files), 8))])

    def showing(self, visible: np.ndarray) -> "FileSequence":
        """The same sequence with another `visible` [T] bool."""
        return replace(self, visible=visible)

    def frame(self, index: int) -> np.ndarray:
        """RGB uint8 [H, W, 3].

        Raises:
            BrokenFrame: the file is missing or broken.
        """
        try:
            return read_frame(self.path(index), self.levels)
        except BrokenImage as e:
            raise self.broken(index, e) from None

    def picture(self, index: int, windows: int = 1) -> Picture:
        """The frame, of which so many windows will be asked for; it and its `part` raise BrokenFrame."""
        if windows > 1:
            return Picture(self.frame(index))
        try:
            return FilePicture(self, index)
        except BrokenImage as e:
            raise self.broken(index, e) from None

    def broken(self, index: int, why: BrokenImage) -> BrokenFrame:
        return BrokenFrame(Problem(self.name, f"cannot be decoded: {why}", index + 1, self.path(index)))


class FilePicture(Picture):
    """A frame of a sequence of files."""

    def __init__(self, sequence: FileSequence, index: int):
        self._sequence, self._index = sequence, index
        super().__init__(read_bytes(sequence.path(index)), sequence.levels)

    def part(self, window: "Window") -> tuple[np.ndarray, tuple[int, int, int, int]]:
        try:
            return super().part(window)
        except BrokenImage as e:
            raise self._sequence.broken(self._index, e) from None


def length_problem(
    name: str, boxes: np.ndarray, files: Many[str], truth: Path, folder: Path
) -> Problem | None:
    """What is wrong with the number of boxes [T, 4] for these frames of `folder`, or None."""
    if not files:
        return Problem(name, "no frames in the folder", file=str(folder))
    if len(files) == len(boxes):
        return None
    what = f"{len(boxes)} boxes for {len(files)} frames"
    gap = missing_number(files)
    if gap is not None:
        what += f"; frame number {gap} is missing"
    elif len(boxes) == 1:
        what += " (a test set, annotated on its first frame only, cannot be learned from)"
    return Problem(name, what, file=str(truth))
