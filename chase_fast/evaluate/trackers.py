"""Trackers that an evaluation can run: picklable descriptions that worker processes bring to life."""

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from chase_fast.errors import ChaseError


class Session(Protocol):
    """A running tracker, as chase_fast.track.Tracker; one sequence each."""

    def init(self, frame: np.ndarray, box: Sequence[float]) -> None:
        """First frame, RGB uint8 [H, W, 3], and its box x, y, w, h."""

    def update(self, frame: np.ndarray) -> Any:
        """A further frame; the result has the attribute box: x, y, w, h in pixels."""


class Entrant(Protocol):
    """A tracker to be run: small, picklable, the same in every process."""

    def identity(self) -> dict[str, Any]:
        """What decides its boxes, as plain data: results of another identity are never mixed with its own."""

    def start(self, seed: int) -> Session:
        """A tracker for one sequence."""


def digest(path: str | Path) -> str:
    """SHA-256 of a file.

    Raises:
        ChaseError: it cannot be read.
    """
    try:
        with open(path, "rb") as f:
            return hashlib.file_digest(f, "sha256").hexdigest()
    except OSError as e:
        raise ChaseError(f"cannot read {path}: {e.strerror or e}") from None


@dataclass(frozen=True)
class Checkpoint:
    """A trained network with the online procedure of chase_fast.track."""

    path: str
    preset: str = "accurate"
    device: str = "auto"

    def check(self) -> None:
        """Raises ChaseError if the file is no tracker or the preset unknown."""
        _settings(self.path, self.preset)

    def identity(self) -> dict[str, Any]:
        return {"checkpoint": digest(self.path), "preset": self.preset}

    def start(self, seed: int) -> Session:
        from chase_fast.track import Tracker

        loaded, settings = _settings(self.path, self.preset)
        return Tracker(loaded.net, loaded.spec, settings, self.device, seed)


@functools.lru_cache(maxsize=1)
def _settings(path: str, preset: str):
    from chase_fast.checkpoint import load_tracker
    from chase_fast.track.settings import settings_for

    loaded = load_tracker(Path(path))
    return loaded, settings_for(loaded.spec, preset)
