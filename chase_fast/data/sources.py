"""Datasets that training draws from: a view of data.layouts, of packed data and of synthetic video.

Opening is cheap: annotations are parsed, frames counted and the header of each first one read, or all
that is taken from the index of an earlier reading; no frame is decoded. `doctor.check` decodes them all.
"""

import time
from collections.abc import Callable, Iterable
from collections.abc import Sequence as Many
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress

from chase_fast.data import index
from chase_fast.data.annotations import has_pixel, has_size
from chase_fast.data.decode import probe
from chase_fast.data.first_look import look
from chase_fast.data.fit import mismatch
from chase_fast.data.index import Found
from chase_fast.data.layouts import Layout, Place, coco, layout
from chase_fast.data.layouts.files import Unusable, open_root
from chase_fast.data.notes import Note, summed
from chase_fast.data.packed import PackedSequences, open_packed
from chase_fast.data.seen import Seen
from chase_fast.data.sequences import FileSequence, Problem, Sequence, length_problem
from chase_fast.data.spec import Spec, parse_spec
from chase_fast.data.synthetic import SyntheticSequences
from chase_fast.data.tables import StillTable, VideoTable
from chase_fast.errors import ChaseError
from chase_fast.remarks import by_kind, sentence

OUTSIDE = "boxes without a pixel in their frame count as not visible"
MISFIT = "boxes do not fit their frames"
THREADS = 8
# opening every file of a larger set takes minutes on a slow disk; doctor --data does it on request
PROBE_LIMIT = 20_000
_FIRST = 8  # frames of which one must have a header
_BAR_FROM = 500  # sequences: fewer are read before a bar is seen


@dataclass(frozen=True)
class Source:
    """A dataset: `sequences` (indexable; synthetic ones are made on demand) and the weight it is drawn with.

    `video` is False for a set of still images, whose one frame stands for all frames of a sample.
    `decisions` are those that a user should see at once, `notes` what only `doctor` says.
    """

    spec: str
    kind: str
    weight: float
    sequences: VideoTable | StillTable | PackedSequences | SyntheticSequences
    video: bool = True
    problems: tuple[Problem, ...] = field(default=(), repr=False)
    skip_bad: bool = False
    notes: tuple[str, ...] = field(default=(), repr=False)
    decisions: tuple[str, ...] = field(default=(), repr=False)

    def keys(self) -> list[str]:
        """What tells the sequences from those of other sources: their folders, or a synthetic set's name."""
        if isinstance(self.sequences, SyntheticSequences):
            return [self.spec.split("*")[0]]
        return self.sequences.folders()

    def summary(self) -> str:
        """One line: size, what was left out, and what was decided."""
        if isinstance(self.sequences, SyntheticSequences):
            return f"{self.spec}: {len(self.sequences)} synthetic sequences"
        text = f"{self.spec}: {self.sequences.size}"
        if self.problems and isinstance(self.sequences, StillTable):
            text += f"; left out {len(self.problems)} images or annotations"
        elif self.problems:
            sequences = sum(p.frame is None for p in self.problems)
            text += f"; left out {sequences} sequences and {len(self.problems) - sequences} frames"
        return "; ".join([text, *self.decisions])


def _parallel(function: Callable[[Any], Any], items: Many[Any], what: str) -> list[Any]:
    """function of every item, in threads; a bar on stderr where that is a terminal and there are many."""
    console = Console(stderr=True)
    show = console.is_terminal and len(items) >= _BAR_FROM
    bar = Progress(console=console, disable=not show, transient=True)
    with bar, ThreadPoolExecutor(THREADS) as pool:
        return list(bar.track(pool.map(function, items), total=len(items), description=what))


def _probe(sequence: FileSequence) -> tuple[FileSequence, list[Problem]]:
    """Frames whose file cannot be a whole image become problems and invisible."""
    problems, visible = [], sequence.visible.copy()
    for i in range(len(visible)):
        if why := probe(sequence.path(i)):
            problems.append(Problem(sequence.name, why, i + 1, sequence.path(i)))
            visible[i] = False
    return (sequence.showing(visible) if problems else sequence), problems


def _sequence(how: Layout, place: Place) -> tuple[FileSequence | None, list[Problem]]:
    """A sequence as training takes it, None if it is unusable; everything wrong with it. Reads no frame.

    Visible frames are not absent (flag or NaN box), have cover > 0 and a box of positive size.
    """
    try:
        video = how.read(place)
    except Unusable as e:
        return None, [Problem(place.name, e.what, file=e.file)]
    boxes, frames = video.boxes, video.frames
    if problem := length_problem(place.name, boxes, frames.names, video.truth, frames.folder):
        return None, [problem]
    if video.unflagged is not None:
        what = "cannot be read: No such file or directory"
        return None, [Problem(place.name, what, file=str(video.unflagged))]
    visible = ~np.isnan(boxes).any(1)
    if video.absent is not None:
        visible &= ~video.absent
    if video.cover is not None:
        visible &= video.cover > 0
    sized, problems = has_size(boxes), []
    if not how.sizeless_is_absent:
        problems = [
            Problem(
                place.name,
                f"box {boxes[i].tolist()} has no size; mark an absent target with NaN",
                int(i) + 1,
                str(video.truth),
            )
            for i in np.flatnonzero(visible & ~sized)
        ]
    folder, notes = str(frames.folder), frames.notes
    return FileSequence(place.name, folder, frames.names, boxes, visible & sized, notes=notes), problems


def _compared(sequence: FileSequence, seen: Seen) -> FileSequence:
    """Boxes without a pixel in their frame become invisible; notes say how many, whether the boxes fit the
    frames at all, and which grey levels frames of many bits have.

    The frame's size is that of the first frame, and for boxes outside of it that of their own.
    """
    seen.add(sequence.path(0))
    size = next(filter(None, (look(sequence.path(i)) for i in range(min(len(sequence.files), _FIRST)))), None)
    if size is None:  # said when they are decoded
        return sequence
    notes = list(sequence.notes)
    if size.deep:
        notes.append(Note("frames of more than 8 bits: grey levels of the first one", f"{sequence.levels()}"))
    outside = sequence.visible & ~has_pixel(sequence.boxes, size.width, size.height)
    for i in np.flatnonzero(outside).tolist():
        own = look(sequence.path(i))
        outside[i] = own is None or not has_pixel(sequence.boxes[i : i + 1], own.width, own.height)[0]
    if outside.any():
        notes.append(Note(f"{OUTSIDE}, see doctor --data", f"{np.count_nonzero(outside)} of {len(outside)}"))
    boxes = sequence.boxes[sequence.visible & has_size(sequence.boxes)]
    if what := mismatch(boxes, np.broadcast_to((size.width, size.height), (len(boxes), 2))):
        notes.append(Note(f"{MISFIT}, see doctor --data", what))
    return replace(sequence, visible=sequence.visible & ~outside, outside=outside, notes=tuple(notes))


def _sizeless(table: VideoTable) -> list[str]:
    """A note on boxes that are numbers but have no size."""
    flat = np.flatnonzero(~has_size(table.boxes) & ~np.isnan(table.boxes).any(1))
    if not len(flat):
        return []
    owners = np.unique(table.owner(flat))
    first = table[int(owners[0])].name
    where = f"{len(owners)} sequences (first {first})"
    return [f"{len(flat)} boxes in {where} have no size and count as not visible"]


def _read_videos(spec: Spec, seen: Seen) -> Found:
    how = layout(spec.kind)
    split = spec.split or how.train_split
    if how.check_train is not None:
        how.check_train(split, spec.text)
    with seen:
        listing = how.find(open_root(spec.path, spec.text), split, spec.text)
    places = listing.places
    if not places:
        raise ChaseError(f"{spec.text}: no sequences found; the dataset or its list is empty")
    if spec.share:
        places = spec.share.of(places, spec.text)

    def read(place: Place) -> tuple[FileSequence | None, list[Problem]]:
        with seen:
            return _sequence(how, place)

    found = _parallel(read, places, "reading")
    problems = [p for _, wrong in found for p in wrong]
    sequences = [s for s, _ in found if s is not None]
    if sum(len(s.visible) for s in sequences) <= PROBE_LIMIT:
        probed = _parallel(_probe, sequences, "looking at files")
        sequences = [s for s, _ in probed]
        problems += [p for _, wrong in probed for p in wrong]
    sequences = _parallel(lambda s: _compared(s, seen), sequences, "looking at first frames")
    table = VideoTable.of(sequences)
    decisions = [sentence(what, remarks) for what, remarks in by_kind(listing.remarks).items()]
    decisions += summed((s.name, note) for s in sequences for note in s.notes)
    return Found(table, tuple(problems), tuple(_sizeless(table)), tuple(decisions))


def _read_stills(spec: Spec, seen: Seen) -> Found:
    with seen:
        table, problems, notes, decisions = coco.read(spec.path, spec.split, spec.text, spec.share)
    images = table.images()
    if len(images) <= PROBE_LIMIT:
        probed = _parallel(_probe, images, "looking at files")
        broken = [replace(p, frame=None) for _, found in probed for p in found]
        table = table.without({p.sequence for p in broken})
        problems += broken
    return Found(table, tuple(problems), tuple(notes), tuple(decisions))


def read_source(spec: Spec, skip_bad: bool = False, anew: bool = False) -> Source:
    """Opens a dataset and collects everything that is wrong with it in `problems`.

    Args:
        anew: read it even if the index of an earlier reading is there.

    Raises:
        ChaseError: the dataset or its split does not exist, or holds no sequence at all.
    """
    if spec.kind == "synthetic":
        return Source(spec.text, spec.kind, spec.weight, SyntheticSequences(spec.split or "train"))
    if spec.kind == "packed":
        table = open_packed(spec.path, spec.split, spec.text, spec.share)
        return Source(
            spec.text, spec.kind, spec.weight, table, table.video, (), skip_bad, decisions=table.decisions
        )
    file = index.index_file(spec.kind, spec.path, spec.split, spec.share)
    found = None if anew else index.load(file)
    if found is None:
        started, seen = time.time(), Seen()
        found = _read_stills(spec, seen) if spec.kind == "coco" else _read_videos(spec, seen)
        index.save(file, found, seen, started)
    video = isinstance(found.table, VideoTable) and found.table.longest > 1
    return Source(
        spec.text,
        spec.kind,
        spec.weight,
        found.table,
        video,
        found.problems,
        skip_bad,
        found.notes,
        found.decisions,
    )


def open_sources(specs: str | Iterable[str], skip_bad: bool = False) -> list[Source]:
    """Opens the datasets that training draws from.

    Args:
        specs: one or several `kind:path[:split][:A-B%][*weight]`.
        skip_bad: leave out unusable sequences and frames (Source.summary() counts them) instead of raising.

    Raises:
        ChaseError: a dataset is unknown, missing or empty; without skip_bad also its first broken sequence,
            frame or file.
    """
    sources = []
    for text in [specs] if isinstance(specs, str) else specs:
        source = read_source(parse_spec(text), skip_bad)
        if source.problems and not skip_bad:
            more = len(source.problems) - 1
            others = f" (and {more} more)" if more else ""
            raise ChaseError(
                f"{text}: {source.problems[0]}{others};"
                f" `doctor --data {text}` lists all, --skip-bad leaves them out"
            )
        if len(source.sequences) == 0:
            raise ChaseError(
                f"{text}: no usable sequence is left, {len(source.problems)} problems; run doctor --data"
            )
        sources.append(source)
    if not sources:
        raise ChaseError("no dataset given; name one as kind:path[:split], or synthetic")
    return sources


def visible_count(sequence: Sequence) -> int:
    return int(np.count_nonzero(sequence.visible))
