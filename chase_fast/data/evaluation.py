"""A view of data.layouts to run and score trackers: `open_evaluation("kind:path:split")`."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np

from chase_fast.data.decode import BrokenImage, read_frame
from chase_fast.data.first_look import first_levels, look
from chase_fast.data.frames import missing_number
from chase_fast.data.layouts import Layout, Place, layout
from chase_fast.data.layouts.files import Unusable, open_root
from chase_fast.data.pixels import Levels
from chase_fast.data.spec import parse_spec
from chase_fast.datasets import BENCHMARKS
from chase_fast.errors import ChaseError
from chase_fast.fields import short
from chase_fast.remarks import Remark, counted

FAR = 1e7  # px: no picture is so large
THREADS = 8


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
    levels: Levels | None = None
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

    def stated_wrongly(self) -> bool:
        """Whether `declared_size` is not that of the first frame; False where that cannot be read."""
        seen = look(self.frames[0])
        return seen is not None and self.declared_size not in (None, (seen.width, seen.height))


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

    def scaled(self, levels: Levels) -> "EvaluationSet":
        """The same with these grey levels of frames of more than 8 bits; ChaseError if there are none."""
        firsts = (look(s.frames[0]) for s in self.sequences)
        if not any(seen is not None and seen.deep for seen in firsts):
            raise ChaseError(f"--levels: the frames of {self.spec} have 8 bits and are taken as they are")
        return replace(self, sequences=[replace(s, levels=levels) for s in self.sequences])

    @property
    def scored(self) -> list[EvaluationSequence]:
        return [s for s in self.sequences if s.scored]

    def summary(self) -> str:
        """One line: size, and what cannot be scored."""
        frames = sum(len(s.frames) for s in self.sequences)
        text = f"{self.spec}: {counted(len(self.sequences), 'sequence')}, {counted(frames, 'frame')}"
        hidden = len(self.sequences) - len(self.scored)
        return text + (f"; {hidden} of them annotated on the first frame only" if hidden else "")


def open_evaluation(text: str) -> EvaluationSet:
    """Opens a benchmark: annotations are read and checked against the frames on disk, no frame is decoded.

    Args:
        text: `kind:path[:split][:A-B%]`, kinds and splits as in `datasets`, shares as for training.

    Raises:
        ChaseError: unknown kind, missing folder or list, no sequences, or sequences whose files do not fit
            together (the first is named and the others counted).
    """
    spec = parse_spec(text, BENCHMARKS, weighted=False)
    how = layout(spec.kind)
    listing = how.find(open_root(spec.path, text), spec.split, text)
    places = list({place.name: place for place in listing.places}.values())
    if not places:
        raise ChaseError(f"{text}: no sequences found; the dataset or its list is empty")
    if spec.share:
        places = spec.share.of(places, text)

    def read(place: Place) -> EvaluationSequence | str:
        try:
            return _sequence(how, place)
        except Unusable as e:
            return f"sequence {short(place.name)[1:-1]}: {e}"

    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(read, [place for place in places if place.annotated]))
    sequences = [f for f in found if not isinstance(f, str)]
    if problems := [f for f in found if isinstance(f, str)]:
        more = f" (and {len(problems) - 1} more such sequences)" if len(problems) > 1 else ""
        raise ChaseError(f"{text}: {problems[0]}{more}; repair them, or name the others in a list file")
    what = "sequence folders without an annotation are not scored"
    bare = [Remark(what, place.name) for place in places if not place.annotated]
    return EvaluationSet(text, spec.kind, sequences, (*listing.remarks, *bare))


def _sequence(how: Layout, place: Place) -> EvaluationSequence:
    """A sequence whose annotation covers every frame, or the first ones, or the very first one (a server's
    test set). Frames after the annotation are left out, with a remark.

    Raises:
        Unusable: no or absurd boxes, fewer frames than boxes, a frame number that is missing, or a first box
            that is unknown or has no size.
    """
    video = how.read(place)
    if how.describe is not None:
        video = how.describe(place, video)
    name, boxes, source = place.name, video.boxes, video.truth
    frames = [str(video.frames.folder / file) for file in video.frames.names]
    if not len(boxes):
        raise Unusable(f"{source} is empty")
    if len(far := np.flatnonzero((np.abs(boxes) > FAR).any(1))):
        raise Unusable(f"line {far[0] + 1} is {boxes[far[0]].tolist()}, which lies in no picture", source)
    remarks = [*video.remarks, *(Remark(note.what, name) for note in video.frames.notes)]
    if (seen := look(frames[0])) is not None and seen.deep:
        remarks.append(Remark("frames of more than 8 bits: scaled by the grey levels of the first one", name))
    first = boxes[0]
    if not (np.isfinite(first).all() and (first[2:] > 0).all()):
        raise Unusable(f"the first box {first.tolist()} has no size: no tracker can start from it", source)
    hidden = len(boxes) == 1 < len(frames)
    surplus = 0 if hidden else len(frames) - len(boxes)
    gap = missing_number(video.frames.names) if surplus else None
    if surplus < 0 or gap is not None:
        hint = "" if gap is None else f"; frame number {gap} is missing"
        raise Unusable(f"{len(boxes)} boxes in {source} for {len(frames)} frames{hint}")
    if surplus:
        cut = Remark("the annotation ends before the video: frames after it are not scored", name, surplus)
        remarks.append(cut)
    if hidden:
        boxes = np.concatenate([boxes, np.full((len(frames) - 1, 4), np.nan)])
    return EvaluationSequence(
        name,
        frames[: len(boxes)],
        boxes,
        video.absent,
        video.cover,
        video.attributes,
        not hidden,
        video.declared_size,
        frames_in_all=len(frames) if surplus else None,
        also=video.also,
        remarks=tuple(remarks),
    )
