"""What a running command shows: a bar with rate, losses and time left; off a terminal only its lines."""

import sys
import time

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text


def duration(seconds: float) -> str:
    """75 -> 1:15, 3700 -> 1:01:40."""
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02d}:{s:02d}" if hours else f"{m}:{s:02d}"


class _Left(ProgressColumn):
    """Time left, from the cost of the work done and to do."""

    def render(self, task: Task) -> Text:
        left = task.fields["left"]
        return Text("--:-- left" if left is None else f"{duration(left)} left", style="progress.remaining")


class RunProgress:
    """Progress of one run on standard output.

    Args:
        quiet: print nothing but warnings.
        mute: print nothing at all (the ranks that leave it to rank 0).
    """

    def __init__(self, quiet: bool = False, console: Console | None = None, mute: bool = False):
        self.quiet, self._mute = quiet or mute, mute
        self.console = console or Console(file=sys.stdout, highlight=False, soft_wrap=True)
        self._bar: Progress | None = None
        self._work = self._done = self._done_at_start = 0.0
        self._start = 0.0
        self._iterations = 0
        self._warned: set[str] = set()

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
        self._task = self._bar.add_task("", total=work, rate="", losses="", left=None)
        self._bar.update(self._task, completed=done)
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

    def say(self, text: str) -> None:
        """A line for the user, unless quiet."""
        if not self.quiet:
            self.console.print(text, markup=False, emoji=False)

    def warn(self, text: str) -> None:
        """A line on standard error, quiet or not; the same line once."""
        if self._mute or text in self._warned:
            return
        self._warned.add(text)
        Console(stderr=True, highlight=False, soft_wrap=True).print(
            f"warning: {text}", markup=False, emoji=False
        )

    def stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
