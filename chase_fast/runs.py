"""Run folders: config.json, JSON-lines tables, checkpoints. Every file is written whole to a temporary name,
synced and renamed, so a reader (or a killed run) sees the old file or the new one, never half of one."""

import hashlib
import importlib.metadata
import io
import json
import os
import platform
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from chase_fast._version import __version__
from chase_fast.errors import ChaseError, MissingFile
from chase_fast.fields import Fields, read_object
from chase_fast.files import TEMPORARY, cannot_write, user_path, write_atomic

CONFIG, CHECKPOINT, HISTORY, ALPHAS, PERF = (
    "config.json",
    "last.ckpt",
    "history.jsonl",
    "alphas.jsonl",
    "perf.jsonl",
)
BEST = "best.safetensors"  # the result of a training
REPORT = "report.html"
_KEPT = "the previous checkpoint is unharmed, free space and run again with --resume"
_EVENTS = "events.out."
_OF_A_RUN = (CONFIG, CHECKPOINT, HISTORY, ALPHAS, PERF, REPORT)
_PACKAGES = (
    "torch",
    "torchvision",
    "triton",
    "numpy",
    "opencv-python",
    "av",
    "simplejpeg",
    "safetensors",
)


def stream(seed: int, *parts: object) -> int:
    """A seed of its own for every purpose, epoch and iteration: nothing random depends on what ran before."""
    text = ":".join(map(str, (seed, *parts))).encode(errors="surrogateescape")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest()) >> 1


def versions() -> dict[str, str]:
    """Versions that decide the digits of a result: Python, platform, this package and those it uses."""
    found = {"chase_fast": __version__, "python": platform.python_version(), "platform": platform.platform()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def git_commit() -> str | None:
    """Commit of the checkout this package runs from (`-dirty` if changed); None if it is none."""

    def git(*arguments: str) -> str:
        command = ("git", "-C", str(Path(__file__).parent), *arguments)
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)
        return git("rev-parse", "HEAD") + ("-dirty" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def checkpoint_file(path: Path, flag: str = "--checkpoint") -> Path:
    """The trained network that a user means: a file, or best.safetensors of a training run's folder.

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
        if all(name in _OF_A_RUN or name.startswith((TEMPORARY, _EVENTS)) for name in written):
            for name in written:
                (self / name).unlink()
            self.path.rmdir()

    def write_bytes(self, name: str, data: bytes) -> None:
        write_atomic(self / name, data, _KEPT)

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


class EventFile:
    """TensorBoard scalars of a run, appended row by row; opening replaces an earlier event file."""

    def __init__(self, folder: RunFolder):
        from tensorboard.compat.proto.event_pb2 import Event

        self.path = folder / f"{_EVENTS}tfevents.{int(time.time())}.{platform.node()}.{os.getpid()}"
        try:
            for old in folder.path.glob(f"{_EVENTS}tfevents.*"):
                old.unlink()
        except OSError as e:
            raise cannot_write(old, e, _KEPT) from e
        self._append(Event(wall_time=time.time(), file_version="brain.Event:2"))

    def _append(self, event) -> None:
        from tensorboard.summary.writer.record_writer import RecordWriter

        try:
            with open(self.path, "ab") as f:
                RecordWriter(f).write(event.SerializeToString())
        except OSError as e:
            raise cannot_write(self.path, e, _KEPT) from e

    def add(self, step: int, row: Mapping[str, Any]) -> None:
        """Every number of a row as a scalar at this step; other values are left out."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [
            Summary.Value(tag=tag, simple_value=float(value))
            for tag, value in row.items()
            if isinstance(value, int | float)
        ]
        self._append(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))


def peak_memory_mb(device: str = "cpu") -> float:
    """Peak memory in MiB: of the device for CUDA, else the resident memory of this process."""
    import torch

    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        import resource
    except ImportError:
        return float("nan")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
