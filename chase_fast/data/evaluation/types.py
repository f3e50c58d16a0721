"""What an evaluation needs of a sequence, and the checks that every layout shares."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from chase_fast.data.annotations import read_boxes, read_flags
from chase_fast.data.decode import BrokenImage, Picture, read_bytes, read_frame
from chase_fast.data.frames import frame_number, list_frames, missing_number
from chase_fast.errors import ChaseError
from chase_fast.fields import short
from chase_fast.remarks import Notes, Remark, counted

FAR = 1e7  # px: no picture is so large


@dataclass(frozen=True)
class EvaluationSequence:
    """One target in one video, as the benchmark annotates it.

    Attributes:
        name: as in the benchmark's result files.
        frames: paths of the T image files, in order.
        boxes: [T, 4] float64 x, y, w, h in pixels; NaN where the benchmark gives none. As in the files: the
            1-based boxes of OTB, UAV123 and VisDrone are not shifted (no toolkit shifts them).
        absent: [T] bool, the target is not in the picture; None if the benchmark does not say.
        cover: [T] int 0 ... 8, visible eighths (GOT-10k); None elsewhere.
        attributes: challenges that the benchmark names -> whether this sequence has them; empty if unknown.
        scored: False for the test sets of servers, which annotate the first frame only.
        declared_size: (width, height) that the benchmark states, None if it states none.
        frames_in_all: frames of the video, where the annotation ends before it; else None. Boxes of a tracker
            that went through all of them are cut.
        also: other names that toolkits give this sequence.
        remarks: what was cut or left aside when this was read.
    """

    name: str
    frames: list[str] = field(repr=False)
    boxes: np.ndarray = field(repr=False)
    absent: np.ndarray | None = field(default=None, repr=False)
    cover: np.ndarray | None = field(default=None, repr=False)
    attributes: Mapping[str, bool] = field(default_factory=dict, repr=False)
    scored: bool = True
    declared_size: tuple[int, int] | None = None
    frames_in_all: int | None = None
    also: tuple[str, ...] = ()
    remarks: tuple[Remark, ...] = field(default=(), repr=False)

    @property
    def first_box(self) -> np.ndarray:
        """[4] x, y, w, h of the target in the first frame."""
        return self.boxes[0]

    def frame(self, index: int) -> np.ndarray:
        """RGB uint8 [H, W, 3] of frame `index` (from 0).

        Raises:
            ChaseError: the file is missing or broken; sequence, frame (from 1) and file are named.
        """
        try:
            return read_frame(self.frames[index])
        except BrokenImage as e:
            raise ChaseError(
                f"sequence {self.name}, frame {index + 1} ({self.frames[index]}): cannot be decoded: {e};"
                " replace the file and run the same command again"
            ) from None

    def size(self) -> tuple[int, int]:
        """Width and height of the frames: as declared, else of the first frame (decoded)."""
        if self.declared_size is not None:
            return self.declared_size
        height, width = self.frame(0).shape[:2]
        return width, height

    def stated_wrongly(self) -> bool:
        """Whether `declared_size` is not that of the first frame; False where that cannot be read."""
        try:
            height, width = Picture(read_bytes(self.frames[0])).shape[:2]
        except BrokenImage:
            return False
        return self.declared_size not in (None, (width, height))


@dataclass(frozen=True)
class EvaluationSet:
    """A benchmark: the name it was opened with, its kind and its sequences in the benchmark's order.

    set_remarks: what was left out of the set; `remarks` are these and those of the sequences.
    """

    spec: str
    kind: str
    sequences: list[EvaluationSequence] = field(repr=False)
    set_remarks: tuple[Remark, ...] = field(default=(), repr=False)

    @property
    def remarks(self) -> list[Remark]:
        return [*self.set_remarks, *(r for s in self.sequences for r in s.remarks)]

    @property
    def scored(self) -> list[EvaluationSequence]:
        return [s for s in self.sequences if s.scored]

    def summary(self) -> str:
        """One line: size, and what cannot be scored."""
        frames = sum(len(s.frames) for s in self.sequences)
        text = f"{self.spec}: {counted(len(self.sequences), 'sequence')}, {counted(frames, 'frame')}"
        hidden = len(self.sequences) - len(self.scored)
        return text + (f"; {hidden} of them annotated on the first frame only" if hidden else "")


@dataclass(frozen=True)
class Listing:
    """What a layout finds: name -> what reads that sequence, in the benchmark's order; remarks on the set."""

    readers: Mapping[str, Callable[[], EvaluationSequence]]
    remarks: Sequence[Remark] = ()


class Unusable(ValueError):
    """Why a sequence cannot be used; the text names the file."""


def image_files(folder: Path) -> list[str]:
    """Paths of the frames in a folder (or its subfolder img), in numerical order; raises Unusable."""
    if not folder.is_dir():
        raise Unusable(f"there is no folder {folder}")
    home, names = list_frames(folder)
    if not names:
        raise Unusable(f"no frames in {folder}")
    return [str(home / name) for name in names]


def annotation(path: Path) -> np.ndarray:
    """[T, 4] boxes of an annotation file; raises Unusable."""
    try:
        boxes = read_boxes(path)
    except OSError as e:
        raise Unusable(f"{path} cannot be read: {e.strerror}") from None
    except ValueError as e:
        raise Unusable(f"{path}: {e}") from None
    return in_pictures(boxes, path)


def in_pictures(boxes: np.ndarray, path: Path) -> np.ndarray:
    """The annotated boxes [T, 4]; raises Unusable where one lies far from any picture, or if T is 0."""
    if not len(boxes):
        raise Unusable(f"{path} is empty")
    if len(far := np.flatnonzero((np.abs(boxes) > FAR).any(1))):
        raise Unusable(f"{path}: line {far[0] + 1} is {boxes[far[0]].tolist()}, which lies in no picture")
    return boxes


def flags(path: Path, length: int) -> np.ndarray | None:
    """[T] integers of a label file, None if there is no such file; raises Unusable."""
    if not os.path.isfile(path):
        return None
    try:
        return read_flags(path, length)
    except (OSError, ValueError, OverflowError) as e:
        raise Unusable(f"{path}: {short(str(e))[1:-1]}") from None


def named_flags(path: Path, names: tuple[str, ...], note: Notes) -> dict[str, bool]:
    """Attributes of a sequence: as many 0 or 1 as names; empty without such a file. One that holds something
    else is noted and left aside: attributes only make tables."""
    try:
        values = flags(path, len(names))
    except Unusable:
        note(f"attributes are left aside: their file does not hold {len(names)} numbers", 1, "file")
        return {}
    return {} if values is None else {n: bool(v) for n, v in zip(names, values)}


def make(
    name: str, frames: list[str], boxes: np.ndarray, source: Path, remarks: Sequence[Remark] = (), **more
) -> EvaluationSequence:
    """A sequence whose annotation covers every frame, or the first ones, or the very first one (a server's
    test set). Frames after the annotation are left out, with a remark.

    Raises:
        Unusable: fewer frames than boxes, a frame number that is missing, or a first box that is unknown or
            has no size.
    """
    first = boxes[0]
    if not (np.isfinite(first).all() and (first[2:] > 0).all()):
        raise Unusable(f"{source}: the first box {first.tolist()} has no size: no tracker can start from it")
    if len(boxes) == 1 < len(frames):
        boxes = np.concatenate([boxes, np.full((len(frames) - 1, 4), np.nan)])
        return EvaluationSequence(name, frames, boxes, scored=False, remarks=tuple(remarks), **more)
    surplus = len(frames) - len(boxes)
    gap = missing_number([Path(f).name for f in frames]) if surplus else None
    if surplus < 0 or gap is not None:
        hint = "" if gap is None else f"; frame number {gap} is missing"
        raise Unusable(f"{len(boxes)} boxes in {source} for {len(frames)} frames{hint}")
    if surplus:
        cut = Remark("the annotation ends before the video: frames after it are not scored", name, surplus)
        remarks, more = (*remarks, cut), more | {"frames_in_all": len(frames)}
    return EvaluationSequence(name, frames[: len(boxes)], boxes, remarks=tuple(remarks), **more)


def numbered(frames: list[str], first: int, last: int) -> list[str]:
    """The frames with the numbers first ... last in their names; raises Unusable naming a missing one."""
    by_number = {frame_number(Path(f).name): f for f in frames}
    if lost := [n for n in range(first, last + 1) if n not in by_number]:
        raise Unusable(f"frame number {lost[0]} is missing in {Path(frames[0]).parent}")
    return [by_number[n] for n in range(first, last + 1)]
