"""Checks a dataset: annotations parsed, every image decoded once, boxes compared with frames, and everything
wrong listed."""

import os
import time
from collections.abc import Iterator, Mapping
from collections.abc import Sequence as Many
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from rich.console import Console
from rich.progress import Progress

from chase_fast.data.annotations import has_pixel, has_size
from chase_fast.data.first_look import oddities
from chase_fast.data.fit import mismatch
from chase_fast.data.layouts import layout
from chase_fast.data.notes import summed
from chase_fast.data.packed import ABOUT, INDEX, PackedSequences
from chase_fast.data.sequences import BrokenFrame, FileSequence, Problem, Sequence
from chase_fast.data.sources import MISFIT, OUTSIDE, Source, read_source, visible_count
from chase_fast.data.spec import parse_spec
from chase_fast.data.synthetic import SyntheticSequence
from chase_fast.data.tables import StillTable, VideoTable

CHUNK = 64
SYNTHETIC_SEQUENCES = 8
_NO_SIZES = np.zeros((0, 2), np.int32)


@dataclass(frozen=True)
class Report:
    """What `check` found. `ok` is False when anything is broken: opening or training would stop there.

    `size` describes the dataset, `sequences` are videos or annotated objects, `frames` the images decoded.
    """

    spec: str
    size: str
    sequences: int
    frames: int
    visible: int
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]
    seconds: float

    @property
    def ok(self) -> bool:
        return not self.problems and self.sequences > 0

    def _advice(self) -> str:
        if self.spec.startswith("packed:"):
            return f"  {len(self.problems)} problems; remove these files and pack again with the same command"
        return f"  {len(self.problems)} problems; --skip-bad leaves these out"

    def __str__(self) -> str:
        speed = self.frames / self.seconds if self.seconds > 0 else 0
        seen = "read" if self.spec.startswith("packed:") else "decoded"
        lines = [
            f"{self.spec}: {self.size}; {self.frames} images {seen} in {self.seconds:.1f} s ({speed:.0f}/s),"
            f" {self.visible} visible targets"
        ]
        lines += [f"  note: {n}" for n in self.notes]
        lines += [f"  bad: {p}" for p in self.problems]
        lines.append("  ok" if self.ok else self._advice())
        return "\n".join(lines)


Readable = FileSequence | SyntheticSequence
Sizes = list[np.ndarray]  # of every sequence [T, 2] int32: width and height of its frames, 0 where broken


def _decode(sequence: Readable, frames: range) -> tuple[list[Problem], np.ndarray]:
    """Problems and sizes [len(frames), 2] of some frames of one sequence."""
    problems, sizes = [], np.zeros((len(frames), 2), np.int32)
    for k, i in enumerate(frames):
        try:
            sizes[k] = sequence.frame(i).shape[1::-1]
        except BrokenFrame as e:
            problems.append(e.problem)
    return problems, sizes


def _jobs(sequences: Many[Sequence]) -> Iterator[tuple[int, range]]:
    for k, sequence in enumerate(sequences):
        length = len(sequence.visible)
        for start in range(0, length, CHUNK):
            yield k, range(start, min(start + CHUNK, length))


def _decode_all(
    sequences: Many[Sequence], progress: bool, threads: int | None
) -> tuple[list[Problem], Sizes, int]:
    """Problems, the frame sizes of every sequence, and how many frames there are."""
    problems, sizes = [], [np.zeros((len(s.visible), 2), np.int32) for s in sequences]
    jobs = list(_jobs(sequences))
    total = sum(len(frames) for _, frames in jobs)
    console = Console(stderr=True)
    bar = Progress(console=console, disable=not (progress and console.is_terminal))
    with bar, ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        task = bar.add_task("decoding", total=total)
        found = pool.map(lambda job: _decode(sequences[job[0]], job[1]), jobs)
        for (k, frames), (bad, seen) in zip(jobs, found):
            problems += bad
            sizes[k][frames.start : frames.stop] = seen
            bar.advance(task, len(frames))
    return problems, sizes, total


def _still_problems(table: StillTable, sizes: Sizes) -> list[Problem]:
    """Images whose size is not the one that the annotations give, and boxes that do not fit any of them."""
    problems, images = [], table.images()
    for image, seen, declared in zip(images, sizes, table.sizes.tolist()):
        if all(declared) and seen.any() and (size := seen[0].tolist()) != declared:
            what = "the image is {}x{}, its annotations are for {}x{}".format(*size, *declared)
            problems.append(Problem(image.name, what, file=image.path(0)))
    if problems or not len(table):
        return problems
    boxes, owner = table.on_images()
    own = np.concatenate(sizes)[owner]
    known = own.all(1)
    misfit = mismatch(boxes[known], own[known])
    return [Problem("of all images", misfit)] if misfit else []


def _box_problems(sequences: Many[FileSequence], sizes: Sizes) -> tuple[list[Problem], list[str]]:
    """Sequences whose boxes do not fit their frames; a note on boxes of others that lie outside."""
    problems, owners, count = [], [], 0
    for sequence, seen in zip(sequences, sizes):
        annotated = sequence.annotated & has_size(sequence.boxes) & seen.all(1)
        boxes, own = sequence.boxes[annotated], seen[annotated]
        lost = int(np.count_nonzero(~has_pixel(boxes, *own.T)))
        if what := mismatch(boxes, own):
            problems.append(Problem(sequence.name, what))
        elif lost:
            owners.append(sequence.name)
            count += lost
    notes = []
    if count:
        where = f"{len(owners)} sequences (first {owners[0]})"
        notes.append(f"{count} boxes in {where} have no pixel in their frame; training leaves them out")
    return problems, notes


def _video_notes(source: Source, sequences: Many[Sequence], sizes: Sizes) -> list[str]:
    """What a user should know of videos that are not broken."""
    from chase_fast.data.sampler import MIN_LENGTH, SampleRecipe  # and torch

    notes, short, few = [], [], SampleRecipe().min_visible
    known: Mapping[str, str] = {}
    if isinstance(source.sequences, VideoTable):
        known = layout(source.kind).known_bad
    for sequence, seen in zip(sequences, sizes):
        shapes = sorted(map(tuple, np.unique(seen[seen.all(1)], axis=0).tolist()))
        if len(shapes) > 1:
            changes = ", ".join(f"{w}x{h}" for w, h in shapes)
            notes.append(f"sequence {sequence.name}: the frame size changes ({changes})")
        if sequence.name in known:
            notes.append(f"sequence {sequence.name}: known to be bad as published: {known[sequence.name]}")
        if len(sequence.visible) < MIN_LENGTH or visible_count(sequence) <= few:
            short.append(sequence.name)
    if source.video and short:
        more = "" if len(short) <= 5 else f" and {len(short) - 5} more"
        notes.append(
            f"too short for a sample of 3 + 3 frames (fewer than {MIN_LENGTH} frames or {few + 1} visible),"
            f" never drawn: {', '.join(short[:5])}{more}"
        )
    return notes


def _check_packed(source: Source, progress: bool, threads: int | None, started: float) -> Report:
    """Compares the checksums of all shards; those of index and pack.json were compared by opening."""
    table = source.sequences
    assert isinstance(table, PackedSequences)
    console = Console(stderr=True)
    bar = Progress(console=console, disable=not (progress and console.is_terminal))
    shards = range(len(table.shard_bytes))
    with bar, ThreadPoolExecutor(threads or os.cpu_count()) as pool:  # hashing releases the GIL
        found = bar.track(pool.map(table.damage, shards), total=len(shards), description="checksums")
        problems = tuple(p for p in found if p is not None)
    notes = [f"{len(shards)} shards, {table.shard_bytes.sum() / 1e6:.0f} MB, packed from {table.source}"]
    if not table.has_sums:
        notes.append(f"packed before there were checksums of {ABOUT} and {INDEX}: their damage may go unseen")
    notes += [*source.decisions, *_video_notes(source, table, [_NO_SIZES] * len(table))]
    frames, seconds = len(table.entries), time.perf_counter() - started
    visible = int(table.visible.sum())
    return Report(source.spec, table.size, len(table), frames, visible, problems, tuple(notes), seconds)


def check(spec: str, progress: bool = True, threads: int | None = None) -> Report:
    """Reads the dataset `kind:path[:split]` anew, decodes every image once and compares boxes with frames
    (synthetic: a few sequences; packed: the checksums of all shards are compared).

    Args:
        progress: show a bar on stderr (nothing is drawn where that is no terminal).
        threads: decoding threads, default one per CPU.

    Raises:
        ChaseError: the dataset is unknown, does not exist, is no such layout or has no sequence folder.
    """
    started = time.perf_counter()
    source = read_source(parse_spec(spec), anew=True)
    if isinstance(source.sequences, PackedSequences):
        return _check_packed(source, progress, threads, started)
    # what opening says of boxes is said here of every frame's own size
    decisions = [d for d in source.decisions if not d.startswith((OUTSIDE, MISFIT))]
    notes, table = [*source.notes, *decisions], source.sequences
    images: Many[Readable]
    if isinstance(table, VideoTable | StillTable):
        images, size, count = table.images(), table.size, len(table)
        visible = int(table.visible.sum())
    else:
        count = SYNTHETIC_SEQUENCES
        images, size = [table[i] for i in range(count)], f"{count} synthetic sequences"
        visible = sum(map(visible_count, images))
        notes.append(f"rendered {count} of {len(table)} sequences")
    broken, sizes, total = _decode_all(images, progress, threads)
    if isinstance(table, StillTable):
        broken = [replace(p, frame=None) for p in broken] + _still_problems(table, sizes)
    else:
        notes += _video_notes(source, images, sizes)
    if isinstance(table, VideoTable):
        wrong, outside = _box_problems(table, sizes)
        broken += wrong
        notes += outside + summed(
            (s.name, note) for s in table if len(s.files) for note in oddities(s.path(0))
        )
    known = {(p.sequence, p.frame) for p in source.problems}
    problems = (*source.problems, *(p for p in broken if (p.sequence, p.frame) not in known))
    return Report(spec, size, count, total, visible, problems, tuple(notes), time.perf_counter() - started)
