"""What a running search shows: a bar with rate, losses and time left; off a terminal a line per epoch."""

import sys
import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text


def duration(seconds: float) -> str:
    """75 -> 1:15, 3700 -> 1:01:40."""
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02d}:{s:02d}" if hours else f"{m}:{s:02d}"


def epoch_line(row: dict[str, Any], epochs: int, seconds: float, left: float) -> str:
    """One epoch in one line of plain text."""
    parts = [f"epoch {row['epoch']}/{epochs}"]
    for key, name in (("train_loss", "train"), ("val_loss", "val"), ("holdout_loss", "hold-out")):
        if row[key] is not None:
            parts.append(f"{name} {row[key]:.4f}")
    if row["alpha_active"]:
        parts.append(f"{row['skip_count']} skip, {row['weight_free_count']} weight-free")
    else:
        parts.append("untrained" if row["epoch"] == 0 else "warm-up")
    if row["epoch"]:
        parts.append(f"{duration(seconds)} ({duration(left)} left at most)")
    return " | ".join(parts)


class _Left(ProgressColumn):
    """Time left, from the cost of the work done and to do."""

    def render(self, task: Task) -> Text:
        left = task.fields["left"]
        return Text("--:-- left" if left is None else f"{duration(left)} left", style="progress.remaining")


class SearchProgress:
    """Progress of one search on standard output.

    Args:
        quiet: print nothing but warnings.
    """

    def __init__(self, quiet: bool = False, console: Console | None = None):
        self.quiet = quiet
        self.console = console or Console(file=sys.stdout, highlight=False, soft_wrap=True)
        self._bar: Progress | None = None
        self._work = self._done = self._done_at_start = 0.0
        self._start = 0.0
        self._iterations = 0

    def start(self, work: float, done: float) -> None:
        """Starts the clock. work: cost of all iterations; done: what a resumed run did before."""
        self._work, self._done, self._done_at_start, self._start = work, done, done, time.perf_counter()
        if self.quiet or not self.console.is_terminal:
            return
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[rate]}"),
            _Left(),
            TextColumn("{task.fields[losses]}"),
            console=self.console,
            transient=True,
        )
        self._task = self._bar.add_task("", total=work, completed=done, rate="", losses="", left=None)
        self._bar.start()

    @property
    def left(self) -> float | None:
        """Seconds to the last epoch at the present speed; None before the first iteration."""
        done = self._done - self._done_at_start
        return (time.perf_counter() - self._start) / done * (self._work - self._done) if done else None

    def iteration(self, epoch: int, epochs: int, cost: float, losses: str) -> None:
        """One iteration of this cost is done."""
        self._done += cost
        self._iterations += 1
        if self._bar is None:
            return
        rate = self._iterations / (time.perf_counter() - self._start)
        speed = f"{rate:.2f} it/s" if rate >= 1 else f"{1 / rate:.2f} s/it"
        self._bar.update(
            self._task,
            completed=self._done,
            description=f"epoch {epoch}/{epochs}",
            rate=speed,
            losses=losses,
            left=self.left,
        )

    def epoch(self, row: dict[str, Any], epochs: int, seconds: float) -> None:
        """A finished epoch (or row 0)."""
        self.say(epoch_line(row, epochs, seconds, self.left or 0.0))

    def say(self, text: str) -> None:
        """A line for the user, unless quiet."""
        if not self.quiet:
            self.console.print(text, markup=False, emoji=False)

    def warn(self, text: str) -> None:
        """A line on standard error, quiet or not."""
        Console(stderr=True, highlight=False, soft_wrap=True).print(
            f"warning: {text}", markup=False, emoji=False
        )

    def stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
