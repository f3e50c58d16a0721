"""Live pictures: a thread reads as fast as the device sends, the tracker takes the newest.

A connection that breaks off is opened again, a limited number of times.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np

from chase_fast.errors import ChaseError
from chase_fast.track.sources.base import Frame

_STEADY = 5.0  # s: a connection that lasted so long is worth as many attempts as the first one
_PAUSES = (0.2, 0.5, 1.0, 2.0)  # s before the attempts to connect again
_QUEUE = 4  # frames that wait where none may be dropped


class Over(ChaseError):
    """A connection ended, and another one would bring nothing new."""


class Connection(Protocol):
    """An open device or stream.

    Attributes:
        fps: frames per second, None if unknown.
        about: what result.json says of it.
        notes: what the user should know.
    """

    @property
    def fps(self) -> float | None: ...
    @property
    def about(self) -> dict[str, Any]: ...
    @property
    def notes(self) -> list[str]: ...

    def pictures(self) -> Iterator[tuple[Any, float | None]]:
        """What `rgb` takes, and its time stamp in seconds, None if it has none.

        Ends, or raises ChaseError with the reason, when no more can be had; Over if opening again is no use.
        """

    def rgb(self, picture: Any) -> np.ndarray:
        """RGB uint8 [H, W, 3]."""

    @property
    def finished(self) -> bool:
        """The sender said that this was the end."""

    def close(self) -> None:
        """Frees the device."""


class Live:
    """See `Source`.

    Args:
        first: an open connection.
        connect: opens the device or the stream again. It may block, and raises ChaseError.
        path: what it is called in messages, masked.
        start, count: frames to pass over, most frames to give.
        timeout: seconds without a picture after which a connection counts as broken.
        attempts: to connect again, in a row.
        drop: frames that come faster than they are taken are dropped; else the sender has to wait.

    Raises (in `frames`):
        ChaseError: it has broken off for good.
    """

    def __init__(
        self,
        first: Connection,
        connect: Callable[[], Connection],
        path: str,
        kind: str,
        start: int,
        count: int | None,
        timeout: float,
        attempts: int,
        drop: bool = True,
    ):
        self.path, self.kind, self.live = path, kind, drop
        self.total = count
        self._connect, self._start, self._count = connect, start, count
        self._timeout, self._attempts, self._drop = timeout, attempts, drop
        self._changed = threading.Condition()
        self._waiting: deque[tuple[Any, Connection, int, float]] = deque()
        self._received, self._arrived = 0, time.monotonic()
        self._connection = first
        self._over, self._problem = False, ""  # no more will come, and why
        self._closed = False
        self._told: list[str] = []
        self._gaps: list[dict[str, float]] = []
        self._zero = 0.0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def fps(self) -> float | None:
        return self._connection.fps

    @property
    def notes(self) -> list[str]:
        return [*self._told, *self._connection.notes]

    @property
    def about(self) -> dict[str, Any]:
        return self._connection.about | {"received": self._received, "gaps": self._gaps}

    @property
    def _name(self) -> str:
        return f"camera {self.path}" if self.kind == "camera" else self.path

    def _run(self) -> None:
        """The thread: reads, connects again, reads."""
        connection, failures, again = self._connection, 0, False
        while True:
            began = time.monotonic()
            try:
                problem = self._read(connection, again)
            except Over as e:
                self._problem = str(e)
                break
            again = True
            if self._closed or connection.finished:
                break
            failures = 0 if time.monotonic() - began >= _STEADY else failures
            opened = None
            while opened is None and failures < self._attempts and not self._closed:
                self._pause(_PAUSES[min(failures, len(_PAUSES) - 1)])
                failures += 1
                try:
                    opened = self._connect()
                except ChaseError as e:
                    problem = str(e)
            if opened is None:
                self._problem = problem
                break
            connection = opened
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def _read(self, connection: Connection, again: bool) -> str:
        """One connection until it ends; why it ended. again: another one broke off before."""
        self._connection = connection
        try:
            stamps = Stamps()
            for picture, stamp in connection.pictures():
                if again:
                    self._tell_gap(time.monotonic() - self._arrived)
                    again = False
                self._deliver(picture, connection, stamps.seconds(stamp))
                if self._closed:
                    break
        except Over:
            raise
        except ChaseError as e:
            return str(e)
        finally:
            connection.close()
        return "the sender closed the connection"

    def _tell_gap(self, seconds: float) -> None:
        self._told.append(
            f"{self._name} broke off after frame {self._received - 1} and came back {seconds:.1f} s later"
        )
        self._gaps.append({"after_frame": self._received - 1, "seconds": round(seconds, 3)})

    def _deliver(self, picture: Any, connection: Connection, moment: float) -> None:
        with self._changed:
            if self._drop:
                self._waiting.clear()
            while len(self._waiting) >= _QUEUE and not self._closed:
                self._changed.wait(0.2)
            self._waiting.append((picture, connection, self._received, moment))
            self._received += 1
            self._arrived = time.monotonic()
            self._changed.notify_all()

    def _pause(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._closed, seconds)

    def frames(self) -> Iterator[Frame]:
        given, last = 0, None
        while self._count is None or given < self._count:
            taken = self._next()
            if taken is None:
                break
            picture, connection, number, moment = taken
            if number < self._start:
                continue
            if last is None:
                self._zero = moment
            moment = max(moment - self._zero, (last or 0.0) + 1e-3 * (last is not None))
            yield Frame(connection.rgb(picture), number, time=moment)
            last = moment
            given += 1
        else:
            return
        if self._problem:
            why = f" ({self._problem})" if self._problem else ""
            raise ChaseError(f"{self._name} stopped sending after {self._received} frames{why}")
        if not given:
            raise ChaseError(
                f"{self._name} has {self._received} frames: nothing is left after --start {self._start}"
            )

    def _next(self) -> tuple[Any, Connection, int, float] | None:
        """Waits for a frame; None when no more will come, or the reading thread hangs."""
        patience = (self._timeout + _PAUSES[-1] + 1) * (self._attempts + 1)
        limit = time.monotonic() + patience
        with self._changed:
            while not self._waiting and not self._over:
                self._changed.wait(0.2)
                if time.monotonic() > limit:
                    self._problem = f"no picture within {patience:.0f} s"
                    return None
            if not self._waiting:
                return None
            taken = self._waiting.popleft()
            self._changed.notify_all()
            return taken

    def close(self) -> None:
        """Stops reading; waits for the frame that is on its way, but not for a silent device."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(2)


class Stamps:
    """Time stamps of one connection -> seconds of this machine's clock: without any the moment of arrival."""

    def __init__(self):
        self._shift: float | None = None

    def seconds(self, stamp: float | None) -> float:
        now = time.monotonic()
        if stamp is None:
            return now
        if self._shift is None or abs(stamp + self._shift - now) > 10:
            self._shift = now - stamp
        return stamp + self._shift
