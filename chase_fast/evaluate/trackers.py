"""Trackers that an evaluation can run: picklable descriptions that worker processes bring to life."""

import functools
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from chase_fast.data.evaluation import EvaluationSet
from chase_fast.data.trained_on import Known, seen
from chase_fast.device import resolve_device
from chase_fast.errors import ChaseError

if TYPE_CHECKING:
    from chase_fast.engines.folder import ExportedFolder


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
        """A tracker for one sequence; it may be the one of the sequence before."""


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
    """A trained network with the online procedure of chase_fast.track. changes: NAME=VALUE of settings that
    differ from those of the preset."""

    path: str
    preset: str = "accurate"
    device: str = "auto"
    graphs: bool = True
    precision: str = "fp32"
    changes: tuple[str, ...] = ()
    engine: str | None = None

    def check(self) -> None:
        """Raises ChaseError if the file is no tracker, or preset, changes, device or precision cannot be."""
        from chase_fast.track.network import check_precision

        _settings(self)
        check_precision(self.precision, resolve_device(self.device))

    def about(self, threads: int | None = None) -> str:
        """Device, threads, precision and CUDA graphs, in one line."""
        from chase_fast.track.network import describe

        name = self._engine()
        device = resolve_device("cpu" if name and self.device == "auto" else self.device)
        exported = _exported(self.path) if name else None
        stored = exported.about.text("precision") if exported else "fp32"
        return describe(device, self.precision, self.graphs, threads, name, stored)

    def _engine(self) -> str:
        """Name of the engine, empty for torch."""
        name = exported.engine_name(self.engine) if (exported := _exported(self.path)) else self.engine
        return "" if name in (None, "torch") else name

    def identity(self) -> dict[str, Any]:
        about = {"checkpoint": digest(self.path), "preset": self.preset, "precision": self.precision}
        engine = {}
        if name := self._engine():
            exported = _exported(self.path)
            engine = {"engine": name} | ({"model": exported.model_digest} if exported else {})
        return about | engine | {"settings": _settings(self)[1].to_data()}

    def trained_on(self, data: EvaluationSet) -> dict[str, list[str]] | None:
        """Role (train, val, init) -> the sequences of this set that the network has seen; None: not known."""
        known = [Known(data.kind, s.name, os.path.dirname(s.frames[0])) for s in data.sequences]
        return seen(_settings(self)[0].about.get("trained_on"), known)

    def start(self, seed: int) -> Session:
        tracker = _tracker(self)
        tracker.seed = seed
        return tracker


@functools.lru_cache(maxsize=1)
def _tracker(checkpoint: Checkpoint):
    """One tracker for one sequence after the other: on a GPU its graphs are captured once."""
    from chase_fast.track import Tracker
    from chase_fast.track.settings import TrackSettings

    c = checkpoint
    if _exported(c.path) and c.engine != "torch":
        changes = TrackSettings.parse_changes(c.changes)
        return Tracker.load(c.path, c.preset, c.device, 0, c.graphs, c.precision, c.engine, **changes)
    loaded, settings = _settings(c)
    engine = c.engine or "torch"
    return Tracker(loaded.net, loaded.spec, settings, c.device, 0, c.graphs, c.precision, engine)


@functools.lru_cache(maxsize=1)
def _exported(path: str) -> "ExportedFolder | None":
    """The exported folder around a checkpoint; its checksums are compared once in a process."""
    from chase_fast.engines.folder import ExportedFolder

    return ExportedFolder.find(path)


@functools.lru_cache(maxsize=1)
def _settings(checkpoint: Checkpoint):
    from chase_fast.checkpoint import load_tracker
    from chase_fast.track.settings import TrackSettings, settings_for

    changes = TrackSettings.parse_changes(checkpoint.changes)
    loaded = load_tracker(Path(checkpoint.path))
    return loaded, settings_for(loaded.spec, checkpoint.preset, not loaded.public, **changes)
