"""Checks a dataset before training: annotations parsed, every image decoded once, everything wrong listed."""

import os
import time
from collections.abc import Iterator
from collections.abc import Sequence as Many
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from rich.console import Console
from rich.progress import Progress

from chase_fast.data.packed import PackedSequences
from chase_fast.data.readers import VIDEO
from chase_fast.data.sampler import MIN_LENGTH, SampleRecipe
from chase_fast.data.sequences import BrokenFrame, Problem, Sequence
from chase_fast.data.sources import Source, parse_spec, read_source, visible_count
from chase_fast.data.tables import StillTable, VideoTable

CHUNK = 64
SYNTHETIC_SEQUENCES = 8


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


def _decode(sequence: Sequence, frames: range) -> tuple[list[Problem], set[tuple[int, int]]]:
    """Problems and frame sizes (width, height) of some frames of one sequence."""
    problems, sizes = [], set()
    for i in frames:
        try:
            rows, columns = sequence.frame(i).shape[:2]
        except BrokenFrame as e:
            problems.append(e.problem)
        else:
            sizes.add((columns, rows))
    return problems, sizes


def _jobs(sequences: Many[Sequence]) -> Iterator[tuple[int, range]]:
    for k, sequence in enumerate(sequences):
        length = len(sequence.visible)
        for start in range(0, length, CHUNK):
            yield k, range(start, min(start + CHUNK, length))


def _decode_all(
    sequences: Many[Sequence], progress: bool, threads: int | None
) -> tuple[list[Problem], list[set[tuple[int, int]]], int]:
    """Problems, the frame sizes of every sequence, and how many frames there are."""
    problems, sizes = [], [set() for _ in sequences]
    jobs = list(_jobs(sequences))
    total = sum(len(frames) for _, frames in jobs)
    console = Console(stderr=True)
    bar = Progress(console=console, disable=not (progress and console.is_terminal))
    with bar, ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        task = bar.add_task("decoding", total=total)
        found = pool.map(lambda job: _decode(sequences[job[0]], job[1]), jobs)
        for (k, frames), (bad, seen) in zip(jobs, found):
            problems += bad
            sizes[k] |= seen
            bar.advance(task, len(frames))
    return problems, sizes, total


def _declared(table: StillTable, sizes: list[set[tuple[int, int]]]) -> list[Problem]:
    """Images whose size is not the one that the annotations give."""
    problems = []
    for image, seen, declared in zip(table.images(), sizes, table.sizes.tolist()):
        if seen and all(declared) and (size := seen.pop()) != tuple(declared):
            what = "the image is {}x{}, its annotations are for {}x{}".format(*size, *declared)
            problems.append(Problem(image.name, what, file=image.path(0)))
    return problems


def _video_notes(source: Source, sizes: list[set[tuple[int, int]]]) -> list[str]:
    """What a user should know of videos that are not broken."""
    notes, short, few = [], [], SampleRecipe().min_visible
    known = VIDEO[source.kind].known_bad if source.kind in VIDEO else {}
    for sequence, seen in zip(source.sequences, sizes):
        if len(seen) > 1:
            shapes = ", ".join(f"{w}x{h}" for w, h in sorted(seen))
            notes.append(f"sequence {sequence.name}: the frame size changes ({shapes})")
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
    """Compares the checksums of all shards."""
    table = source.sequences
    console = Console(stderr=True)
    bar = Progress(console=console, disable=not (progress and console.is_terminal))
    shards = range(len(table.shard_bytes))
    with bar, ThreadPoolExecutor(threads or os.cpu_count()) as pool:  # hashing releases the GIL
        found = bar.track(pool.map(table.damage, shards), total=len(shards), description="checksums")
        problems = tuple(p for p in found if p is not None)
    notes = [
        f"{len(shards)} shards, {table.shard_bytes.sum() / 1e6:.0f} MB, packed from {table.about['source']}"
    ]
    notes += _video_notes(source, [set() for _ in table])
    frames, seconds = len(table.entries), time.perf_counter() - started
    visible = int(table.visible.sum())
    return Report(source.spec, table.size, len(table), frames, visible, problems, tuple(notes), seconds)


def check(spec: str, progress: bool = True, threads: int | None = None) -> Report:
    """Reads the dataset `kind:path[:split]` anew and decodes every image once (synthetic: a few sequences;
    packed: the checksums of all shards are compared).

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
    notes, table = list(source.notes), source.sequences
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
        broken = [replace(p, frame=None) for p in broken] + _declared(table, sizes)
    else:
        notes += _video_notes(source, sizes)
    known = {(p.sequence, p.frame) for p in source.problems}
    problems = (*source.problems, *(p for p in broken if (p.sequence, p.frame) not in known))
    return Report(spec, size, count, total, visible, problems, tuple(notes), time.perf_counter() - started)
