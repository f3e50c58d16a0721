"""One annotated video: what a sequence is, and how it is read from frames with groundtruth.txt."""

import itertools
import os
import re
from collections.abc import Sequence as Many
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from chase_fast.data.decode import EXTENSIONS, BrokenImage, read_frame
from chase_fast.errors import ChaseError


class Sequence(Protocol):
    """One target in one video. Frames are numbered from 0; absent boxes are NaN."""

    name: str
    boxes: np.ndarray  # [T, 4] float64 xywh, pixels
    visible: np.ndarray  # [T] bool

    def frame(self, index: int) -> np.ndarray:
        """RGB uint8 [H, W, 3]."""
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
    """A sequence of image files. `files` [T]: names in `folder`, as bytes (compact for large sets)."""

    name: str
    folder: str
    files: np.ndarray
    boxes: np.ndarray
    visible: np.ndarray

    def path(self, index: int) -> str:
        return os.path.join(self.folder, os.fsdecode(self.files[index]))

    def frame(self, index: int) -> np.ndarray:
        """RGB uint8 [H, W, 3].

        Raises:
            BrokenFrame: the file is missing or broken.
        """
        try:
            return read_frame(self.path(index))
        except BrokenImage as e:
            what = f"cannot be decoded: {e}"
            raise BrokenFrame(Problem(self.name, what, index + 1, self.path(index))) from None


def frame_number(name: str) -> int:
    """Last number in a file name (`img00012.jpg` -> 12), -1 without one."""
    numbers = re.findall(r"\d+", Path(name).stem)
    return int(numbers[-1]) if numbers else -1


def list_frames(folder: Path) -> tuple[Path, list[str]]:
    """The folder of the frames (the sequence's own, else a subfolder) and their names in numerical order."""

    def images(path: Path) -> list[str]:
        names = [e.name for e in os.scandir(path) if os.path.splitext(e.name)[1].lower() in EXTENSIONS]
        return sorted(names, key=lambda n: (frame_number(n), n))

    if names := images(folder):
        return folder, names
    subfolders = sorted(Path(e.path) for e in os.scandir(folder) if e.is_dir())
    for subfolder in sorted(subfolders, key=lambda p: p.name != "img"):
        if names := images(subfolder):
            return subfolder, names
    return folder, []


def read_boxes(path: Path) -> np.ndarray:
    """groundtruth.txt -> [T, 4] float64; fields separated by comma, tab or space; NaN = absent.

    Raises:
        ValueError: a line is not four numbers; the text names the line.
    """
    rows = []
    for number, line in enumerate(path.read_text("utf-8-sig", errors="replace").rstrip().splitlines(), 1):
        fields = line.replace(",", " ").split()
        try:
            row = [float(f) for f in fields]
        except ValueError:
            row = []
        if len(row) != 4:
            raise ValueError(f"line {number} is {line.strip()[:60]!r}, expected four numbers x, y, w, h")
        rows.append(row)
    return np.array(rows, np.float64).reshape(-1, 4)


def read_flags(path: Path, length: int) -> np.ndarray:
    """One integer per line (absence.label, cover.label) -> [length] int64; raises ValueError."""
    values = np.array(path.read_text("utf-8-sig", errors="replace").replace(",", " ").split(), np.int64)
    if len(values) != length:
        raise ValueError(f"{len(values)} values for {length} frames")
    return values


def _missing_number(names: Many[str]) -> int | None:
    numbers = [frame_number(n) for n in names]
    return next((a + 1 for a, b in itertools.pairwise(numbers) if b > a + 1), None)


def read_sequence(folder: Path, name: str) -> tuple[FileSequence | None, list[Problem]]:
    """A folder with frames and groundtruth.txt, optionally GOT-10k's absence.label and cover.label.

    Visible frames are not absent (label or NaN box), have cover > 0 and a box of positive size. A frame
    marked visible whose box has no size is a problem and counts as not visible.

    Returns:
        the sequence, None if it is unusable; everything wrong with it. Reads no frame.
    """
    truth = folder / "groundtruth.txt"
    try:
        boxes = read_boxes(truth)
    except OSError as e:
        return None, [Problem(name, f"cannot be read: {e.strerror}", file=str(truth))]
    except ValueError as e:
        return None, [Problem(name, str(e), file=str(truth))]
    frame_folder, names = list_frames(folder)
    if not names:
        return None, [Problem(name, "no frames in the folder", file=str(folder))]
    if len(names) != len(boxes):
        what = f"{len(boxes)} boxes for {len(names)} frames"
        gap = _missing_number(names)
        if gap is not None:
            what += f"; frame number {gap} is missing"
        elif len(boxes) == 1:
            what += " (a test set, annotated on its first frame only, cannot be learned from)"
        return None, [Problem(name, what, file=str(truth))]

    visible = ~np.isnan(boxes).any(1)
    for label, shows in (("absence.label", lambda v: v == 0), ("cover.label", lambda v: v > 0)):
        path = folder / label
        if path.exists():
            try:
                visible &= shows(read_flags(path, len(boxes)))
            except (OSError, ValueError) as e:
                return None, [Problem(name, str(e), file=str(path))]
    sized = np.isfinite(boxes).all(1) & (boxes[:, 2:] > 0).all(1)
    problems = [
        Problem(
            name,
            f"box {boxes[i].tolist()} has no size; mark an absent target with NaN",
            int(i) + 1,
            str(truth),
        )
        for i in np.flatnonzero(visible & ~sized)
    ]
    files = np.array([os.fsencode(n) for n in names])
    return FileSequence(name, str(frame_folder), files, boxes, visible & sized), problems
