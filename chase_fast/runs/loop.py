"""The loop of a run: iterations, an evaluation at the end of each epoch, checkpoints, files.

Every sample, mask and initial value comes from (seed, purpose, epoch, index), so a run continues from a
checkpoint exactly: the state is what `Loop.state` gives, and the tables written so far. All ranks hold the
same state; rank 0 writes it.
"""

import dataclasses
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import torch

from chase_fast.data import SampleRecipe, synthetic
from chase_fast.device import device_name, peak_memory_mb
from chase_fast.distributed import Ranks
from chase_fast.errors import ChaseError
from chase_fast.fields import Fields
from chase_fast.report import write_report
from chase_fast.runs.data import RunData
from chase_fast.runs.events import EventFile
from chase_fast.runs.folder import CHECKPOINT, HISTORY, PERF, REPORT
from chase_fast.runs.interrupt import Interrupted
from chase_fast.runs.job import Job
from chase_fast.runs.progress import RunProgress, duration
from chase_fast.runs.rows import Rows, perf_rows
from chase_fast.runs.stored import check_checkpoint

Row = dict[str, Any]


class Loop(ABC):
    """One run in one run folder. `run()` starts it or continues it from its checkpoint.

    What a search or a training adds: its data, a step, a row, what counts as best, the result.

    Args:
        job: its folder is made.
        ranks: this process among all, which must use the same folder.
        device: of this process.

    Attributes:
        interrupted: set from outside: the run ends after the present iteration.
        history, perf: rows of history.jsonl and perf.jsonl, one per epoch.
        data: samples by their roles.
        format: of the checkpoint. losses: names of what `step` returns.
        speed: columns of perf.jsonl. iteration: one of those whose time `timed` holds, in words.
        samples: configuration -> how samples are made.
        best_row: rows -> that of the best epoch so far, or None.
        line: (row, epochs, its seconds, seconds left) -> an epoch in one line of plain text.
        describe: (result, row 0) -> what the result file holds, in lines of plain text.

    Raises:
        ChaseError: unusable data, weights, device or checkpoint.
    """

    format: int
    losses: tuple[str, ...]
    speed: tuple[str, ...]
    iteration = "iteration"
    samples: Callable[[Any], SampleRecipe]
    best_row: Callable[[Rows], Row | None]
    line: Callable[[Row, int, float, float], str]
    describe: Callable[[Fields, Row], list[str]]

    def __init__(self, job: Job, progress: RunProgress, ranks: Ranks, device: torch.device):
        self.job, self.folder, self.config = job, job.folder, job.config.on(ranks.world)
        self.progress, self.ranks, self.device = progress, ranks, device
        self.interrupted = False
        self.history: Rows = []
        self.perf: Rows = []
        recipe = self.samples(self.config)
        self.data = RunData(self.config, job.command.roles, recipe, progress, ranks.part, device)
        state = self.folder.load_checkpoint()
        how = self.prepare(fresh=state is None)
        progress.say(f"{device_name(device)}, {self.config.precision}, {how}")
        self._epoch, self._drawn = 1, synthetic.VERSION
        self._begin_epoch()
        self._last_checkpoint = time.monotonic()
        if state is not None:
            self._restore(state)
        self.ranks.agree(self._epoch + self._iteration / self.config.iterations, "the checkpoint in --out")
        self.ready()

    @abstractmethod
    def prepare(self, fresh: bool) -> str:
        """Network and step; how an iteration runs, in words. fresh: there is no checkpoint."""

    @abstractmethod
    def ready(self) -> None:
        """Called once when the weights are those of the start or of the checkpoint."""

    # the run

    def run(self) -> None:
        """Runs until the last epoch, or an earlier end.

        Raises:
            Interrupted: `interrupted` was set; the state is in the checkpoint.
            ChaseError: a loss is not finite, the disk is full, ...
        """
        if self.history and self.finished:
            return self._finish()
        self._check_video()
        self._events = EventFile(self.folder) if self.ranks.main else None
        for row in self.history:
            self._add_event(row["epoch"], row)
        self._write_tables()
        work = [self.cost(e) for e in range(1, self.config.epochs + 1)]
        done = sum(work[: self._epoch - 1]) * self.config.iterations
        done += self.cost(self._epoch) * self._iteration
        try:
            if not self.history:
                self._untrained_row()
            self.progress.start(sum(work) * self.config.iterations, done)
            while not self.finished:
                self._run_epoch()
        finally:
            self.progress.stop()

    def _check_video(self) -> None:
        """Whether synthetic video is still what the run began with."""
        specs = [spec for name in self.job.command.roles for spec in getattr(self.config, name)]
        if self._drawn != synthetic.VERSION and any(spec.startswith("synthetic") for spec in specs):
            raise ChaseError(
                f"{self.folder / CHECKPOINT} was written by a version that draws other synthetic video: "
                "the run would go on with other images; start again in another --out"
            )

    def _finish(self) -> None:
        """Of a run resumed after its last checkpoint: writes what a kill may have prevented. A whole run
        is left alone, and may lie on a read-only disk.

        Raises:
            ChaseError: its result is gone; the last checkpoint need not hold it.
        """
        result = self.folder / self.job.command.made[1]
        if not result.is_file():
            raise self.ranks.error(f"{result} is missing: start again in another --out")
        if not self.ranks.main:
            return
        for name, rows in self.tables.items():
            self.folder.ensure_rows(name, rows)
        if not self.folder.newer(REPORT, CHECKPOINT):
            self._report()

    @property
    def finished(self) -> bool:
        return self._epoch > self.config.epochs

    def cost(self, epoch: int) -> float:
        """Of an iteration in this epoch, among those of others."""
        return 1.0

    def _begin_epoch(self) -> None:
        """Sums over the iterations of an epoch, at its start."""
        self._iteration, self._sums = 0, dict.fromkeys(self.losses, 0.0)
        self._timing = {"seconds": 0.0, "wait": 0.0, "steps": 0}

    def _untrained_row(self) -> None:
        """Row 0: the untrained network, its new BatchNorms calibrated on training batches."""
        self.calibrate()
        self._add_row(0, {})
        self._write_tables()
        self._save()

    @abstractmethod
    def calibrate(self) -> None:
        """BatchNorm statistics of the untrained network."""

    def _run_epoch(self) -> None:
        config, epoch = self.config, self._epoch
        batches = self.batches(epoch)
        while self._iteration < config.iterations:
            self._run_iteration(epoch, batches)
            if self.ranks.sum(float(self.interrupted)):
                self._save()
                self.ranks.barrier()  # torchrun ends all ranks with the first
                raise Interrupted
            if self._iteration < config.iterations and self._checkpoint_due():
                self._save()
        self._add_row(epoch, {name: value / config.iterations for name, value in self._sums.items()})
        self._epoch += 1
        self._begin_epoch()
        if self.ranks.main and self.best_row(self.history) is self.history[-1]:
            self.write_best(self.history[-1])
        self._save()
        self._write_tables()
        self._report()

    @abstractmethod
    def batches(self, epoch: int) -> Iterator[Any]:
        """What `step` takes, from the present iteration on."""

    def _run_iteration(self, epoch: int, batches: Iterator[Any]) -> None:
        start = time.perf_counter()
        batch = next(batches)
        loaded = time.perf_counter()
        losses = self.step(epoch, batch)
        self.folder.begun = True
        self.check(losses, batch)
        self._iteration += 1
        for name, value in losses.items():
            self._sums[name] += value
        self._timing["seconds"] += time.perf_counter() - start
        self._timing["wait"] += loaded - start
        self._timing["steps"] += 1
        shown = " ".join(f"{name} {value:.3f}" for name, value in losses.items() if math.isfinite(value))
        self.progress.iteration(epoch, self.config.epochs, self.cost(epoch), shown)

    @abstractmethod
    def step(self, epoch: int, batch: Any) -> dict[str, float]:
        """One iteration; its losses, means over all ranks."""

    @abstractmethod
    def check(self, losses: dict[str, float], batch: Any) -> None:
        """Raises ChaseError if a loss is not finite."""

    def _checkpoint_due(self) -> bool:
        config = self.config
        minutes = (time.monotonic() - self._last_checkpoint) / 60
        return bool(
            (config.checkpoint_minutes and minutes >= config.checkpoint_minutes)
            or (config.checkpoint_iterations and self._iteration % config.checkpoint_iterations == 0)
        )

    # end of an epoch

    def _add_row(self, epoch: int, means: dict[str, float]) -> None:
        """Evaluates the state after an epoch and appends a row to each table."""
        start, timing = time.perf_counter(), self._timing
        row = {"epoch": epoch} | self.row(epoch, means)
        self.history.append(row)
        self._add_event(epoch, row)
        seconds = timing["seconds"] + time.perf_counter() - start
        if epoch:
            milliseconds = 1000 * timing["seconds"] / timing["steps"]
            found = {
                "seconds": seconds,
                "iteration_ms": milliseconds,
                "step_ms": milliseconds,
                "data_wait_share": timing["wait"] / timing["seconds"],
                "samples_per_second": self.config.batch * timing["steps"] / timing["seconds"],
                "peak_memory_mb": peak_memory_mb(str(self.device)),
            }
            self.perf.append({"epoch": epoch} | {name: found[name] for name in self.speed})
            self._add_event(epoch, {f"perf/{name}": found[name] for name in self.speed})
        self.progress.say(self.line(row, self.config.epochs, seconds, self.progress.left or 0.0))

    @abstractmethod
    def row(self, epoch: int, means: dict[str, float]) -> Row:
        """The row of history.jsonl after an epoch, for which it evaluates the network.

        Args:
            means: of the losses of the epoch; empty for row 0.

        Raises:
            ChaseError: the loss is not finite, or the ranks do not agree.
        """

    # files, of rank 0

    @property
    def tables(self) -> dict[str, Rows]:
        return {HISTORY: self.history, PERF: self.perf}

    @abstractmethod
    def write_best(self, row: Row) -> None:
        """Writes the result, that of the epoch just finished."""

    def origin(self, *names: str) -> dict[str, Any]:
        """What the result comes from: fields of the configuration, `versions`, `commit`, `threads`."""
        found = vars(self.config) | self.job.about | {"threads": torch.get_num_threads()}
        return {name: found[name] for name in names}

    def summary(self) -> str:
        """Result, time and memory of a finished run."""
        timed, (made, file) = self.timed, self.job.command.made
        milliseconds = sum(p[self.speed[1]] for p in timed) / len(timed)
        wait = sum(p["data_wait_share"] for p in timed) / len(timed)
        peak = max(p["peak_memory_mb"] for p in self.perf)
        lines = [
            *self.describe(self.folder.read_json(self.job.command.result), self.history[0]),
            f"{duration(sum(p['seconds'] for p in self.perf))} in all; {milliseconds:.0f} ms per "
            f"{self.iteration}, {wait:.0%} of it waiting for data; peak memory {peak / 1024:.2f} GiB",
            f"{made}: {self.folder / file}, report: {self.folder / REPORT}",
        ]
        return "\n".join(lines)

    @property
    def timed(self) -> Rows:
        """The rows of `perf` that the time of an iteration is a mean of."""
        return self.perf

    def _add_event(self, epoch: int, row: Row) -> None:
        if self._events is not None:
            self._events.add(epoch, row)

    def _write_tables(self) -> None:
        if self.ranks.main:
            for name, rows in self.tables.items():
                self.folder.write_rows(name, rows)

    def _report(self) -> None:
        """report.html; a run worth days does not end because its page cannot be drawn."""
        if not self.ranks.main:
            return
        try:
            write_report(self.folder.path)
        except ChaseError:
            raise
        except Exception as e:
            self.progress.warn(f"report.html was not written ({type(e).__name__}: {e})")

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """What a checkpoint holds besides epoch, iteration, tables and timing: tensors, numbers, texts."""

    @abstractmethod
    def load(self, state: Fields) -> None:
        """Inverse of `state`, whatever stands there, and the rows of the own tables.

        Raises:
            ChaseError, ValueError, ...: it is not what this run would have written.
        """

    def _save(self) -> None:
        if not self.ranks.main:
            return
        state = {
            "format": self.format,
            "config": dataclasses.asdict(self.config),
            "synthetic": self._drawn,
            "epoch": self._epoch,
            "iteration": self._iteration,
            **self.state(),
            "history": self.history,
            "perf": self.perf,
            "timing": self._timing,
        }
        self.folder.save_checkpoint(state)
        self._last_checkpoint = time.monotonic()

    def _restore(self, state: Fields) -> None:
        try:
            if (wrote := state.integer("format")) != self.format:
                raise ValueError(f"format {wrote}, this version reads {self.format}")
            check_checkpoint(state, self.config, self.job.command.free_on_resume)
            self.load(state)
            self._drawn = state.integer("synthetic") if "synthetic" in state else 1
            self._epoch = state.integer("epoch", 1, self.config.epochs + 1)
            self._iteration = state.integer("iteration", 0, self.config.iterations)
            timing = state.inner("timing")
            self._timing = {name: timing.number(name, 0) for name in self._timing}
            self.perf = perf_rows(state, self.speed)
            if {len(rows) + (name == PERF) for name, rows in self.tables.items()} != {self._epoch}:
                raise ValueError("its tables do not end at its epoch")
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as e:
            reason = " ".join(str(e).split())[:120] or type(e).__name__
            raise ChaseError(
                f"{self.folder / CHECKPOINT} does not fit this run ({reason}): start again in another --out"
            ) from None
