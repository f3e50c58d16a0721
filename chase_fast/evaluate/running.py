"""Runs of an evaluation on disk: OUT/results/TRACKER/, which sequences are finished, who tracks the rest."""

import json
import os
import sys
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from chase_fast.data.evaluation import EvaluationSequence, EvaluationSet
from chase_fast.distributed import launched
from chase_fast.errors import ChaseError
from chase_fast.evaluate.about import ABOUT, read_about
from chase_fast.evaluate.results import is_complete, write_sequence
from chase_fast.evaluate.runner import track_beside, track_here
from chase_fast.evaluate.trackers import Checkpoint, Entrant
from chase_fast.fields import Fields
from chase_fast.files import user_path, write_atomic
from chase_fast.runs import versions

MOST_WORKERS = 8  # by default: each holds its own network


@dataclass(frozen=True)
class Effort:
    """How a run is spread. It decides speed, not boxes.

    workers: processes side by side; 0: in this process. threads: of each. rank, world: this process of a
    torchrun, which takes every world-th sequence.
    """

    workers: int
    threads: int
    rank: int = 0
    world: int = 1


def spread(workers: int | None, threads: int | None, gpu: bool, sequences: int) -> Effort:
    """Defaults: on a CPU as many workers as cores (8 at most), which share the cores; one on a GPU."""
    ranks = launched()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cores = max(1, cores // ranks.beside)
    if workers is None:
        workers = 1 if gpu else max(1, min(cores, MOST_WORKERS, sequences))
    return Effort(workers, threads or max(1, cores // max(workers, 1)), ranks.rank, ranks.world)


def layout_of(kind: str) -> str:
    """Layout of our result files: that of the benchmark's own toolkit or server."""
    return "got10k" if kind == "got10k" else "flat"


class RunOnDisk:
    """Results of one tracker on one benchmark in OUT/results/NAME, continued where they end.

    Raises:
        ChaseError: the folder holds results of another tracker, benchmark or seed.
    """

    def __init__(self, out: Path, name: str, data: EvaluationSet, entrant: Entrant, seed: int, main: bool):
        self.folder, self.layout = out / "results" / name, layout_of(data.kind)
        self.name, self.entrant, self.seed = name, entrant, seed
        root = str(user_path(data.spec.split(":")[1]).resolve())
        about = {"dataset": f"{data.kind}:{root}", "seed": seed, **entrant.identity()}
        if levels := data.sequences[0].levels:
            about["levels"] = [levels.low, levels.high]
        self.about: dict[str, Any] = about
        self._trained_on = entrant.trained_on(data) if isinstance(entrant, Checkpoint) else None
        self._efforts: list[str] = []
        if (before := self._read()) is not None:
            if changed := [k for k in {**self.about, "levels": 0} if before.get(k) != self.about.get(k)]:
                raise ChaseError(
                    f"{self.folder} holds results with another {changed[0]}: choose another --out, or "
                    "another name (NAME=FILE)"
                )
            self._efforts = before.texts("measured_with", [])
            if main and before.get("trained_on") != self._trained_on:  # other sequences of the same set
                self._write()
        elif main:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as e:
                raise ChaseError(f"cannot make the folder {self.folder}: {e.strerror}") from e
            self._write()

    def _write(self) -> None:
        content = self.about | {"measured_with": self._efforts, "versions": versions()}
        if self._trained_on is not None:
            content["trained_on"] = self._trained_on
        write_atomic(self.folder / ABOUT, (json.dumps(content, indent=1) + "\n").encode())

    def _read(self) -> Fields | None:
        """tracker.json of an earlier run, if there is one; of versions without a choice of precision too."""
        try:
            about = read_about(self.folder)
        except ChaseError as e:
            raise ChaseError(f"{e}: choose another --out") from None
        return about and Fields({"precision": "fp32", **about}, about.where)

    def finished(self, sequence: EvaluationSequence) -> bool:
        return is_complete(self.folder, self.layout, sequence.name, len(sequence.frames))

    def track(
        self, sequences: list[EvaluationSequence], effort: Effort, console: Console, quiet: bool
    ) -> list[str]:
        """Tracks what is not finished; returns the reasons of the failures."""
        mine = sequences[effort.rank :: effort.world]
        rest = [s for s in mine if not self.finished(s)]
        if rest and effort.rank == 0 and describe(effort) not in self._efforts:
            self._efforts.append(describe(effort))
            self._write()
        if rest and not quiet:
            kept = f", {len(mine) - len(rest)} finished before" if len(rest) < len(mine) else ""
            rank = f", rank {effort.rank}" if effort.world > 1 else ""
            count = f"{len(rest)} sequence{'s' if len(rest) > 1 else ''}"
            console.print(f"{self.name}: {count} to track{kept}; {describe(effort)}{rank}", markup=False)
        with _progress(self.name, mine, rest, console, quiet) as (frames, finished):

            def save(sequence: EvaluationSequence, boxes, times) -> None:
                write_sequence(self.folder, self.layout, sequence.name, boxes, times)
                finished(sequence, len(times) / times.sum())

            if effort.workers == 0:
                failed = track_here(self.entrant, rest, self.seed, save, frames)
            else:
                processes = (effort.workers, effort.threads)
                failed = track_beside(self.entrant, rest, self.seed, *processes, save, frames, _warn)
        return [f"{self.name}: {failed[s.name]}" for s in rest if s.name in failed]


def _warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr, flush=True)


def describe(effort: Effort) -> str:
    """What the speed depends on."""
    count = max(effort.workers, 1) * effort.world
    if count == 1 and effort.workers == 0:
        return "1 process"
    threads = f" of {effort.threads} thread{'s' if effort.threads > 1 else ''}" if effort.workers else ""
    return f"{count} process{'es' if count > 1 else ''}{threads}"


@contextmanager
def _progress(name: str, mine, rest, console: Console, quiet: bool):
    """A bar of frames with the rate of all processes together; off a terminal a line per sequence."""
    total, count = sum(len(s.frames) for s in rest), len(mine) - len(rest)
    bar = Progress(
        TextColumn(name, markup=False),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]} frames/s"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[last]}", markup=False),
        console=console,
        transient=True,
        disable=quiet or not console.is_terminal or not rest,
    )
    task = bar.add_task("", total=total, rate="–", last="")

    def frames(done: int) -> None:
        bar.advance(task, done)
        speed = bar.tasks[0].speed
        bar.update(task, rate=f"{speed:.1f}" if speed else "–")

    def finished(sequence: EvaluationSequence, fps: float) -> None:
        nonlocal count
        count += 1
        text = f"{count}/{len(mine)} {sequence.name}: {len(sequence.frames)} frames, {fps:.1f} fps"
        if bar.disable:
            if not quiet:
                console.print(f"  {text}", markup=False)
        else:
            bar.update(task, last=f"{count}/{len(mine)} sequences")

    done: tuple[Callable[[int], None], Callable[[EvaluationSequence, float], None]] = (frames, finished)
    with bar:
        yield done
