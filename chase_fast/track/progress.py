"""What the running command shows: a bar with fps on a terminal, else a line every 100 frames."""

import sys
import time
from collections import deque
from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from chase_fast.runs.progress import RunProgress
from chase_fast.track.sources.masking import masked

_EVERY = 100  # frames per line
_WINDOW = 20  # frames that the speed shown is a mean of


class TrackProgress(RunProgress):
    """Progress on standard output. total: frames to come, None if unknown. quiet: warnings only."""

    def __init__(self, total: int | None, quiet: bool = False, console: Console | None = None):
        super().__init__(quiet, console)
        self._total, self._frames = total, 0
        self._times: deque[float] = deque(maxlen=_WINDOW + 1)
        if not quiet and self.console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=None),
                TextColumn("{task.fields[now]}"),
                TimeRemainingColumn(),
                console=self.console,
                transient=True,
            )
            self._task = self._bar.add_task("", total=total, now="")
            self._bar.start()

    @property
    def fps(self) -> float | None:
        """Frames per second of the whole command lately; None before the second frame."""
        seconds = self._times[-1] - self._times[0] if self._times else 0
        return (len(self._times) - 1) / seconds if seconds > 0 else None

    def say(self, text: str) -> None:
        super().say(masked(text))

    def warn(self, text: str) -> None:
        super().warn(masked(text))

    def note(self, text: str) -> None:
        """A line on standard error that is no warning, quiet or not."""
        print(masked(text), file=sys.stderr)

    def frame(self, states: Sequence[str]) -> None:
        """One frame is done."""
        self._frames += 1
        self._times.append(time.perf_counter())
        where = f"frame {self._frames}" + (f"/{self._total}" if self._total else "")
        speed = f"{self.fps:.1f} fps | " if self.fps else ""
        now = f"{speed}{', '.join(s.replace('_', ' ') for s in states)}"
        if self._bar is not None:
            self._bar.update(self._task, completed=self._frames, description=where, now=now)
        elif self._frames % _EVERY == 0:
            self.say(f"{where} | {now}")
