"""Decoders that print what they object to, beside the one line that says it here."""

import os
import sys
import threading


class Unheard:
    """Context without what C libraries write on standard error; for some threads at once, for milliseconds:
    whatever anybody else writes there meanwhile is lost too."""

    def __init__(self) -> None:
        self._lock, self._users, self._before = threading.Lock(), 0, -1

    def __enter__(self) -> None:
        with self._lock:
            if not self._users:
                if sys.stderr is not None:
                    sys.stderr.flush()
                self._before = os.dup(2)
                nothing = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nothing, 2)
                os.close(nothing)
            self._users += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                os.dup2(self._before, 2)
                os.close(self._before)


libtiff = Unheard()
