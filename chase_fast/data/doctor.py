"""Checks a dataset before training: annotations parsed, every frame decoded, everything wrong listed."""

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from rich.console import Console
from rich.progress import Progress

from chase_fast.data.sampler import MIN_LENGTH, SampleRecipe
from chase_fast.data.sequences import BrokenFrame, Problem, Sequence
from chase_fast.data.sources import parse_spec, read_source, visible_count

CHUNK = 64
SYNTHETIC_SEQUENCES = 8


@dataclass(frozen=True)
class Report:
    """What `check` found. `ok` is False when anything is broken: opening or training would stop there."""

    spec: str
    sequences: int
    frames: int
    visible: int
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]
    seconds: float

    @property
    def ok(self) -> bool:
        return not self.problems and self.sequences > 0

    def __str__(self) -> str:
        speed = self.frames / self.seconds if self.seconds > 0 else 0
        lines = [
            f"{self.spec}: {self.sequences} sequences, {self.frames} frames decoded in {self.seconds:.1f} s"
            f" ({speed:.0f}/s), target visible in {self.visible}"
        ]
        lines += [f"  note: {n}" for n in self.notes]
        lines += [f"  bad: {p}" for p in self.problems]
        lines.append("  ok" if self.ok else f"  {len(self.problems)} problems; --skip-bad leaves these out")
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


def _jobs(sequences: list[Sequence]) -> Iterator[tuple[int, range]]:
    for k, sequence in enumerate(sequences):
        length = len(sequence.visible)
        for start in range(0, length, CHUNK):
            yield k, range(start, min(start + CHUNK, length))


def check(spec: str, progress: bool = True, threads: int | None = None) -> Report:
    """Opens the dataset `kind:path[:split]` and decodes every frame (of synthetic: the first few sequences).

    Args:
        progress: show a bar on stderr (nothing is drawn where that is no terminal).
        threads: decoding threads, default one per CPU.

    Raises:
        ChaseError: the dataset is unknown, does not exist or has no sequence folder.
    """
    started = time.perf_counter()
    source = read_source(parse_spec(spec))
    notes = []
    sequences = source.sequences
    if source.kind == "synthetic":
        sequences = [sequences[i] for i in range(SYNTHETIC_SEQUENCES)]
        notes.append(f"rendered {SYNTHETIC_SEQUENCES} of {len(source.sequences)} sequences")
    known = {(p.sequence, p.frame) for p in source.problems}
    problems, sizes = list(source.problems), [set() for _ in sequences]
    total = sum(len(s.visible) for s in sequences)
    console = Console(stderr=True)
    bar = Progress(console=console, disable=not (progress and console.is_terminal))
    with bar, ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        task = bar.add_task("decoding", total=total)
        jobs = list(_jobs(sequences))
        found = pool.map(lambda job: _decode(sequences[job[0]], job[1]), jobs)
        for (k, frames), (bad, seen) in zip(jobs, found):
            problems += [p for p in bad if (p.sequence, p.frame) not in known]
            sizes[k] |= seen
            bar.advance(task, len(frames))
    for sequence, seen in zip(sequences, sizes):
        if len(seen) > 1:
            shapes = ", ".join(f"{w}x{h}" for w, h in sorted(seen))
            notes.append(f"sequence {sequence.name}: the frame size changes ({shapes})")
    few = SampleRecipe().min_visible
    short = [s.name for s in sequences if len(s.visible) < MIN_LENGTH or visible_count(s) <= few]
    if source.video and short:
        more = "" if len(short) <= 5 else f" and {len(short) - 5} more"
        notes.append(
            f"too short for a sample of 3 + 3 frames (fewer than {MIN_LENGTH} frames or {few + 1} visible),"
            f" never drawn: {', '.join(short[:5])}{more}"
        )
    return Report(
        spec,
        len(sequences),
        total,
        sum(visible_count(s) for s in sequences),
        tuple(problems),
        tuple(notes),
        time.perf_counter() - started,
    )
