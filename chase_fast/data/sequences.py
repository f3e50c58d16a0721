"""One annotated video or image: what a sequence is, one made of files, and what can be wrong with it."""

import os
from collections.abc import Sequence as Many
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from chase_fast.data.decode import BrokenImage, Picture, read_bytes, read_frame
from chase_fast.data.frames import missing_number
from chase_fast.errors import ChaseError
from chase_fast.kernels.crop import Window


class Sequence(Protocol):
    """One target in one video. Frames are numbered from 0; absent boxes are NaN."""

    name: str
    boxes: np.ndarray  # [T, 4] float64 xywh, pixels
    visible: np.ndarray  # [T] bool

    def frame(self, index: int) -> np.ndarray:
        """RGB uint8 [H, W, 3]."""
        ...

    def picture(self, index: int) -> Picture:
        """The frame, to be decoded in part; it and its `part` raise BrokenFrame."""
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


class BrokenFrame(ChaseError):
    """A frame that cannot be decoded; its one argument is the Problem."""

    @property
    def problem(self) -> Problem:
        return self.args[0]

    def __str__(self) -> str:
        return f"{self.problem}; replace the file, or leave it out with --skip-bad"


@dataclass(frozen=True)
class FileSequence:
    """A sequence of image files; `files` [T] are names in `folder`."""

    name: str
    folder: str
    files: Many[str]
    boxes: np.ndarray
    visible: np.ndarray

    def path(self, index: int) -> str:
        return os.path.join(self.folder, self.files[index])

    def showing(self, visible: np.ndarray) -> "FileSequence":
        """The same sequence with another `visible` [T] bool."""
        return replace(self, visible=visible)

    def frame(self, index: int) -> np.ndarray:
        """RGB uint8 [H, W, 3].

        Raises:
            BrokenFrame: the file is missing or broken.
        """
        try:
            return read_frame(self.path(index))
        except BrokenImage as e:
            raise self.broken(index, e) from None

    def picture(self, index: int) -> Picture:
        """The frame, to be decoded in part; it and its `part` raise BrokenFrame."""
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
        super().__init__(read_bytes(sequence.path(index)))

    def part(self, window: Window) -> tuple[np.ndarray, tuple[int, int, int, int]]:
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
