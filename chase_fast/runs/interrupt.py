"""Ctrl-C and its like while something long is at work: it ends where everything is written."""

import signal
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TypeVar

from chase_fast.command import Terminated, handling

T = TypeVar("T")


class Interrupted(KeyboardInterrupt):
    """The user asked to stop, and what was done so far is kept."""


class Interrupt:
    """Within `with`, a signal asks the work to stop; a second one ends everything (KeyboardInterrupt).

    Args:
        signals: their numbers.
        tell: called when asked.
        twice: whether a second signal ends everything. torchrun passes signals on, and may repeat them.

    Attributes:
        number: of the last signal, None before the first.

    Raises:
        Terminated: instead of a KeyboardInterrupt that leaves the block after SIGTERM.
    """

    def __init__(self, *signals: int, tell: Callable[[], None] = lambda: None, twice: bool = True):
        self._signals, self._tell, self._twice = signals, tell, twice
        self.number: int | None = None
        self._waiting = False

    @property
    def asked(self) -> bool:
        return self.number is not None

    @property
    def code(self) -> int:
        """Exit code: 130 after SIGINT, 143 after SIGTERM, 129 after SIGHUP."""
        return 128 + (self.number or signal.SIGINT)

    def __enter__(self):
        self._handling = handling(self._stop, *self._signals)
        self._handling.__enter__()
        return self

    def __exit__(self, kind, error, trace):
        self._handling.__exit__(kind, error, trace)
        if isinstance(error, KeyboardInterrupt) and self.number == signal.SIGTERM:
            raise Terminated from None

    def _stop(self, number: int, frame: FrameType | None) -> None:
        again, self.number = self.asked, number
        if (again and self._twice) or self._waiting:
            raise KeyboardInterrupt
        self._tell()

    def until(self, items: Iterator[T]) -> Iterator[T]:
        """The items until someone asks to stop; waiting for one ends at once."""
        while not self.asked:
            self._waiting = True
            try:
                item = next(items, None)
            except KeyboardInterrupt:
                return
            finally:
                self._waiting = False
            if item is None:
                return
            yield item
