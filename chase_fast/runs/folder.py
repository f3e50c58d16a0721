"""Run folders: config.json, JSON-lines tables, checkpoints. Every file is written whole to a temporary name,
synced and renamed, so a reader (or a killed run) sees the old file or the new one, never half of one."""

import io
import json
import zipfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from chase_fast.errors import ChaseError, MissingFile
from chase_fast.fields import Fields, read_object
from chase_fast.files import TEMPORARY, user_path, write_atomic

CONFIG, CHECKPOINT, HISTORY, ALPHAS, PERF = (
    "config.json",
    "last.ckpt",
    "history.jsonl",
    "alphas.jsonl",
    "perf.jsonl",
)
BEST = "best.safetensors"  # the result of a training
MANIFEST, EXPORTED = "manifest.json", "tracker.safetensors"  # of an exported folder
REPORT = "report.html"
KEPT = "the previous checkpoint is unharmed, free space and run again with --resume"
EVENTS = "events.out."
_OF_A_RUN = (CONFIG, CHECKPOINT, HISTORY, ALPHAS, PERF, REPORT)


def checkpoint_file(path: Path, flag: str = "--checkpoint") -> Path:
    """The trained network that a user means: a file, best.safetensors of a training run's folder, or
    tracker.safetensors of an exported one (`chase_fast.engines.folder`).

    Raises:
        ChaseError: there is none; begins with the flag.
    """
    path = user_path(path)
    if path.is_file():
        return path
    if not path.is_dir():
        raise MissingFile(f"{flag} {path}: no such file")
    if (path / BEST).is_file():
        return path / BEST
    if (path / MANIFEST).is_file():
        return path / EXPORTED
    seeds = sorted(p.parent.name for p in path.glob(f"seed_*/{BEST}"))
    if seeds:
        raise ChaseError(
            f"{flag} {path}: its training with several seeds has not finished; give {path / seeds[0] / BEST}"
        )
    if (path / CONFIG).is_file():
        raise ChaseError(f"{flag} {path}: this run has no {BEST} yet, no epoch of it has finished")
    raise ChaseError(
        f"{flag} {path}: is a folder without {BEST}; give the file, or the folder of a training run"
    )


class RunFolder:
    """One run on disk. Paths inside it: `folder / name`.

    Attributes:
        begun: an iteration of the run was completed, in this process or before.
    """

    def __init__(self, path: Path, begun: bool = False):
        self.path, self.begun = path, begun

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    @classmethod
    def create(cls, path: Path, description: Mapping[str, Any]) -> "RunFolder":
        """A new folder (or an existing empty one) with config.json.

        Raises:
            ChaseError: it holds something already, or cannot be made.
        """
        try:
            if path.exists() and any(not entry.name.startswith(TEMPORARY) for entry in path.iterdir()):
                raise ChaseError(
                    f"{path} exists and is not empty: choose another --out, or continue it with --resume"
                )
            path.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise ChaseError(f"cannot make the run folder {path}: {e.strerror}") from e
        folder = cls(path)
        folder.write_json(CONFIG, description)
        return folder

    @classmethod
    def open(cls, path: Path) -> tuple["RunFolder", Fields]:
        """An existing run and its config.json.

        Raises:
            ChaseError: there is no such folder, or its config.json is missing or corrupt.
        """
        if not path.is_dir():
            raise MissingFile(f"--resume: there is no run folder {path}; leave out --resume to start one")
        with suppress(OSError):  # a run on a read-only disk
            for leftover in path.glob(f"{TEMPORARY}*"):
                leftover.unlink()
        folder = cls(path, begun=True)
        if not (folder / CONFIG).is_file():
            raise ChaseError(
                f"--resume: {path} has no config.json, it is not a run folder; choose another --out"
            )
        return folder, folder.read_json(CONFIG)

    def discard_unstarted(self) -> None:
        """Removes a new folder again if no iteration of its run was completed, so that the same --out can be
        taken again; files that are not of a run keep it."""
        if self.begun:
            return
        written = [entry.name for entry in self.path.iterdir()]
        if all(name in _OF_A_RUN or name.startswith((TEMPORARY, EVENTS)) for name in written):
            for name in written:
                (self / name).unlink()
            self.path.rmdir()

    def write_bytes(self, name: str, data: bytes) -> None:
        write_atomic(self / name, data, KEPT)

    def ensure_bytes(self, name: str, data: bytes) -> None:
        """Writes the file unless it holds just this: a finished run on a read-only disk stays as it is."""
        path = self / name
        if not (path.is_file() and path.read_bytes() == data):
            self.write_bytes(name, data)

    def newer(self, name: str, other: str) -> bool:
        """Whether a file is there and was not written before another one."""
        one, two = self / name, self / other
        return one.is_file() and one.stat().st_mtime_ns >= two.stat().st_mtime_ns

    def write_json(self, name: str, value: Any) -> None:
        self.write_bytes(name, _as_json(value))

    def ensure_json(self, name: str, value: Any) -> None:
        """As `ensure_bytes`."""
        self.ensure_bytes(name, _as_json(value))

    def read_json(self, name: str) -> Fields:
        """A JSON object.

        Raises:
            ChaseError: the file is missing or corrupt.
        """
        path = self / name
        try:
            return read_object(path)
        except FileNotFoundError:
            raise MissingFile(f"{path} is missing: start again in another --out") from None
        except ChaseError as e:
            raise ChaseError(f"{e}, it is corrupt: start again in another --out") from None

    def write_rows(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """A table of flat objects, one JSON line each. Floats are written with all their digits."""
        self.write_bytes(name, _as_rows(rows))

    def ensure_rows(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """As `ensure_bytes`."""
        self.ensure_bytes(name, _as_rows(rows))

    def save_checkpoint(self, state: Mapping[str, Any]) -> None:
        """Tensors, numbers, strings, lists and dicts of those -> last.ckpt, replaced at once."""
        import torch

        buffer = io.BytesIO()
        torch.save(dict(state), buffer)
        self.write_bytes(CHECKPOINT, buffer.getvalue())

    def load_checkpoint(self) -> Fields | None:
        """last.ckpt on the CPU, or None if none was written yet. No pickled code runs.

        Raises:
            ChaseError: it is corrupt.
        """
        import torch

        path = self / CHECKPOINT
        if not path.exists():
            return None
        try:
            with zipfile.ZipFile(path) as archive:  # torch.load does not compare checksums
                if damaged := archive.testzip():
                    raise ValueError(f"{damaged} has another checksum")
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as e:  # torch.load raises many types on damaged files
            reason = str(e).splitlines()[0] if str(e) else type(e).__name__
            raise ChaseError(
                f"{path} is not a checkpoint or is corrupt ({reason[:100]}): start again in another --out"
            ) from None
        if not isinstance(state, dict):
            raise ChaseError(f"{path} is not a checkpoint of chase_fast: start again in another --out")
        return Fields.of(state, str(path))


def _as_json(value: Any) -> bytes:
    return (json.dumps(value, indent=1) + "\n").encode()


def _as_rows(rows: Iterable[Mapping[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()
