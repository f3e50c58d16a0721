"""Ctrl-C, SIGTERM and SIGHUP while tracking: after the frame at work everything is written."""

import signal
from collections.abc import Iterator

from chase_fast.command import handling
from chase_fast.track.sources.base import Frame

_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Interrupt:
    """Once: `asked` is set, a wait for a frame ends at once; twice: everything ends (KeyboardInterrupt).

    A signal that is ignored (nohup, a job in the background of a script) stays ignored.
    """

    def __init__(self):
        self.number: int | None = None
        self.waiting = False

    @property
    def asked(self) -> bool:
        return self.number is not None

    @property
    def code(self) -> int:
        """Exit code: 130 after SIGINT, 143 after SIGTERM, 129 after SIGHUP."""
        return 128 + (self.number or signal.SIGINT)

    def __enter__(self):
        heard = [n for n in _SIGNALS if signal.getsignal(n) is not signal.SIG_IGN]
        self._handling = handling(self._stop, *heard)
        self._handling.__enter__()
        return self

    def __exit__(self, *error):
        return self._handling.__exit__(*error)

    def _stop(self, number, frame):
        again, self.number = self.asked, number
        if again or self.waiting:
            raise KeyboardInterrupt

    def frames(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """The frames until someone asks to stop."""
        while not self.asked:
            self.waiting = True
            try:
                frame = next(frames, None)
            except KeyboardInterrupt:
                return
            finally:
                self.waiting = False
            if frame is None:
                return
            yield frame
