"""What an evaluation needs of a sequence, and the checks that every layout shares."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from chase_fast.data.annotations import read_boxes, read_flags
from chase_fast.data.decode import BrokenImage, read_frame
from chase_fast.data.first_look import first_levels
from chase_fast.data.frame_files import Ambiguous, FrameFiles, find_frames
from chase_fast.data.frames import frame_numbers, in_order, missing_number
from chase_fast.data.notes import Note, summed
from chase_fast.data.pixels import Levels
from chase_fast.errors import ChaseError


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
        levels: grey levels of frames of more than 8 bits; None: as its first frame has them.
        notes: how its frames were chosen, where that is a choice.
    """

    name: str
    frames: list[str] = field(repr=False)
    boxes: np.ndarray = field(repr=False)
    absent: np.ndarray | None = field(default=None, repr=False)
    cover: np.ndarray | None = field(default=None, repr=False)
    attributes: Mapping[str, bool] = field(default_factory=dict, repr=False)
    scored: bool = True
    declared_size: tuple[int, int] | None = None
    levels: Levels | None = None
    notes: tuple[Note, ...] = field(default=(), repr=False)

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
            return read_frame(self.frames[index], self.levels or (lambda: first_levels(self.frames)))
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


@dataclass(frozen=True)
class EvaluationSet:
    """A benchmark: the name it was opened with, its kind and its sequences in the benchmark's order."""

    spec: str
    kind: str
    sequences: list[EvaluationSequence] = field(repr=False)

    @property
    def scored(self) -> list[EvaluationSequence]:
        return [s for s in self.sequences if s.scored]

    def summary(self) -> str:
        """One line: size, and what cannot be scored."""
        frames = sum(len(s.frames) for s in self.sequences)
        text = f"{self.spec}: {len(self.sequences)} sequences, {frames} frames"
        hidden = len(self.sequences) - len(self.scored)
        text += f"; {hidden} of them annotated on the first frame only" if hidden else ""
        return "; ".join([text, *summed((s.name, note) for s in self.sequences for note in s.notes)])


class Unusable(ValueError):
    """Why a sequence cannot be used; the text names the file."""


class Frames(list[str]):
    """Paths of the frames of a sequence, in order; notes: how they were chosen."""

    notes: tuple[Note, ...] = ()

    @classmethod
    def of(cls, found: FrameFiles) -> "Frames":
        frames = cls(str(found.folder / name) for name in found.names)
        frames.notes = found.notes
        return frames


def image_files(folder: Path) -> Frames:
    """The frames in a folder, or in its subfolder of the frames, in order; raises Unusable."""
    if not folder.is_dir():
        raise Unusable(f"there is no folder {folder}")
    try:
        found = find_frames(folder)
    except OSError as e:
        raise Unusable(f"{folder} cannot be read: {e.strerror}") from None
    except Ambiguous as e:
        raise Unusable(str(e)) from None
    if not found.names:
        raise Unusable(f"no frames in {folder}")
    return Frames.of(found)


def annotation(path: Path) -> np.ndarray:
    """[T, 4] boxes of an annotation file; raises Unusable."""
    try:
        boxes = read_boxes(path)
    except OSError as e:
        raise Unusable(f"{path} cannot be read: {e.strerror}") from None
    except ValueError as e:
        raise Unusable(f"{path}: {e}") from None
    if not len(boxes):
        raise Unusable(f"{path} is empty")
    return boxes


def flags(path: Path, length: int) -> np.ndarray | None:
    """[T] integers of a label file, None if there is no such file; raises Unusable."""
    if not path.is_file():
        return None
    try:
        return read_flags(path, length)
    except (OSError, ValueError) as e:
        raise Unusable(f"{path}: {e}") from None


def named_flags(path: Path, names: tuple[str, ...]) -> dict[str, bool]:
    """Attributes of a sequence: as many 0 or 1 as names; empty if there is no such file; raises Unusable."""
    values = flags(path, len(names)) if path.is_file() else None
    return {} if values is None else {n: bool(v) for n, v in zip(names, values)}


def make(name: str, frames: list[str], boxes: np.ndarray, source: Path, **more) -> EvaluationSequence:
    """A sequence whose annotation covers every frame, or only the first one (a server's test set).

    Raises:
        Unusable: other counts, or a first box that is unknown or has no size.
    """
    more.setdefault("notes", getattr(frames, "notes", ()))
    first = boxes[0]
    if not (np.isfinite(first).all() and (first[2:] > 0).all()):
        raise Unusable(f"{source}: the first box {first.tolist()} has no size: no tracker can start from it")
    if len(boxes) == 1 < len(frames):
        boxes = np.concatenate([boxes, np.full((len(frames) - 1, 4), np.nan)])
        return EvaluationSequence(name, frames, boxes, scored=False, **more)
    if len(boxes) != len(frames):
        gap = missing_number(in_order([Path(f).name for f in frames]))
        hint = "" if gap is None else f"; frame number {gap} is missing"
        raise Unusable(f"{len(boxes)} boxes in {source} for {len(frames)} frames{hint}")
    return EvaluationSequence(name, frames, boxes, **more)


def numbered(frames: list[str], first: int, last: int) -> Frames:
    """The frames with the numbers first ... last in their names; raises Unusable naming a missing one."""
    home, names = Path(frames[0]).parent, [Path(f).name for f in frames]
    numbers = frame_numbers(names)
    if numbers is None:
        raise Unusable(
            f"frames {first} to {last} are wanted, but names as {names[0]} in {home} hold no frame number"
        )
    by_number = dict(zip(numbers, frames))
    if lost := [n for n in range(first, last + 1) if n not in by_number]:
        raise Unusable(f"frame number {lost[0]} is missing in {home}")
    chosen = Frames(by_number[n] for n in range(first, last + 1))
    chosen.notes = getattr(frames, "notes", ())
    return chosen
