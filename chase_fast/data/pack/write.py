"""Packing a whole source: estimate, shards made by processes, index. Killed at any moment, it continues."""

import hashlib
import io
import json
import math
import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from chase_fast._version import __version__
from chase_fast.data.pack.plan import Options, Table, annotations, open_source, settings, tabulate, unpacked
from chase_fast.data.pack.shard import (
    KEPT,
    make_shard,
    pack_frame,
    read_record,
    record_file,
)
from chase_fast.data.packed import ABOUT, FORMAT, INDEX, SUMS, digest_of, read_about, shard_file
from chase_fast.data.sequences import BrokenFrame, Problem
from chase_fast.data.sources import Source
from chase_fast.data.tables import compact
from chase_fast.errors import ChaseError
from chase_fast.files import TEMPORARY, write_atomic
from chase_fast.process import tune_process

SHARD_BYTES = 512 * 2**20
SAMPLED = 24  # frames packed to estimate the size
_LOCK = ".lock"
_WORKER: tuple[Source, Table, Options, Path, list[np.ndarray]] | None = None  # of a worker process


@dataclass(frozen=True)
class Estimate:
    """`frames` to be stored at about `frame_bytes` each."""

    frames: int
    frame_bytes: float

    @property
    def total(self) -> float:
        return self.frames * self.frame_bytes


def estimate(source: Source, table: Table, options: Options) -> Estimate:
    """Packs a few frames in memory."""
    frames = table.frames
    sizes = []
    for flat in frames[:: max(1, -(-len(frames) // SAMPLED))].tolist():
        k, i = table.place(flat)
        with suppress(BrokenFrame):  # said when its turn comes
            _, parts = pack_frame(unpacked(source, k).frame(i), table.boxes[flat], options)
            sizes.append(sum(map(len, parts)))
    return Estimate(len(frames), float(np.mean(sizes)) if sizes else 0.0)


def cut(frames: np.ndarray, shard_frames: int) -> list[np.ndarray]:
    """Frames of every shard."""
    return [frames[i : i + shard_frames] for i in range(0, len(frames), shard_frames)]


@contextmanager
def locked(folder: Path):
    """Holds the folder against a second packing; raises ChaseError where there is one."""
    try:
        import fcntl
    except ImportError:  # Windows: two packings would do the same work twice
        yield
        return
    with open(folder / _LOCK, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ChaseError(f"{folder} is being packed by another process") from None
        yield


def compare(folder: Path, wanted: dict[str, Any]) -> Mapping[str, Any] | None:
    """What pack.json of a folder holds that is to be continued, None for a new folder.

    Raises:
        ChaseError: the folder holds something else, or is packed from another source or with other options.
    """
    if folder.exists() and not folder.is_dir():
        raise ChaseError(f"--out {folder} is a file")
    if (folder / ABOUT).exists():
        held = read_about(folder, f"--out {folder}")
        other = [k for k in wanted if held.get(k) != wanted[k]]
        if other == ["annotations"]:
            raise ChaseError(
                f"--out {folder}: {wanted['source']} has changed since it was packed there; give a new folder"
            )
        if other:
            key, was, now = other[0], held.get(other[0]), wanted[other[0]]
            if key == "limits":
                limits = was if isinstance(was, dict) else {}
                key = next(k for k in now if limits.get(k) != now[k])
                was, now = limits.get(key), now[key]
            raise ChaseError(
                f"--out {folder} is packed with {key} {was}, not {now}; give another folder, or continue"
                f" with: {held['command']}"
            )
        return held
    if folder.exists() and any(not e.name.startswith((TEMPORARY, _LOCK)) for e in folder.iterdir()):
        raise ChaseError(f"--out {folder} is not empty and no packed dataset; give a new folder")
    return None


def prepare(folder: Path, wanted: dict[str, Any], command: str, shard_frames: int) -> Mapping[str, Any]:
    """Makes the folder, or continues one of the same source and options; returns what pack.json holds.

    A folder that is continued keeps its `shard_frames`.

    Raises:
        ChaseError: as `compare`, or it cannot be made.
    """
    if held := compare(folder, wanted):
        return held
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise ChaseError(f"--out {folder}: {e.strerror or e}") from None
    versions = {"chase_fast": __version__, "opencv": cv2.__version__}
    about = {"format_version": FORMAT, **wanted, "shard_frames": shard_frames, "command": command}
    about["versions"] = versions
    write_atomic(folder / ABOUT, (json.dumps(about, indent=2) + "\n").encode(), KEPT)
    return about


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for ever."""

    def watch():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _start_worker(options: Options, table: Table, folder: Path, shard_frames: int) -> None:
    global _WORKER
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops the work
    _end_with_parent()
    tune_process()
    cv2.setNumThreads(1)
    _WORKER = open_source(options), table, options, folder, cut(table.frames, shard_frames)


def _work(number: int) -> ChaseError | None:
    """A ChaseError travels as a value: its one line survives."""
    assert _WORKER is not None, "see _start_worker"
    source, table, options, folder, shards = _WORKER
    try:
        make_shard(folder, number, shards[number], source, table, options)
    except ChaseError as e:
        return e
    return None


def make_all(
    todo: list[int],
    source: Source,
    table: Table,
    options: Options,
    folder: Path,
    shard_frames: int,
    workers: int,
    done: Callable[[int], None],
) -> None:
    """Makes these shards, one per process at a time (in this process for one worker); done(shard) after each.

    Raises:
        ChaseError: the first error of any shard; those that are finished stay.
    """
    if min(workers, len(todo)) <= 1:
        shards = cut(table.frames, shard_frames)
        for number in todo:
            make_shard(folder, number, shards[number], source, table, options)
            done(number)
        return
    context = multiprocessing.get_context("spawn" if os.name == "nt" else "forkserver")
    pool = ProcessPoolExecutor(
        min(workers, len(todo)), context, _start_worker, (options, table, folder, shard_frames)
    )
    try:
        running = {pool.submit(_work, number): number for number in todo}
        while running:
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                number = running.pop(future)
                if error := future.result():
                    raise error
                done(number)
    except BrokenProcessPool:
        raise ChaseError(
            "a worker process died (out of memory?); finished shards are kept: run the same command again,"
            " with fewer --workers"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _finished(folder: Path, number: int) -> dict[str, Any]:
    record = read_record(folder, number)
    if record is None:
        raise ChaseError(
            f"{shard_file(folder, number)} is missing or not whole: run the same command to make it anew"
        )
    return record


def write_index(folder: Path, table: Table, shards: int) -> list[Problem]:
    """SHA256SUMS and index.npz from the records of all shards; returns the frames that were left out."""
    records = [_finished(folder, k) for k in range(shards)]
    entries = np.concatenate([r["entries"] for r in records])
    visible = np.zeros(len(table.stored), bool)
    visible[entries["flat"]] = True
    folders = table.folders if len(set(table.folders)) > 1 else table.folders[:1]
    texts = {"names": table.names, "folders": folders, "shard_digests": [r["digest"] for r in records]}
    buffer = io.BytesIO()
    np.savez(
        buffer,
        texts=np.frombuffer(json.dumps(texts).encode(), np.uint8),
        ends=table.ends,
        boxes=compact(table.boxes),
        visible=visible,
        entries=entries.view(np.uint8),
        shard_bytes=np.array([r["bytes"] for r in records], np.int64),
    )
    sums = {ABOUT: digest_of(folder / ABOUT), INDEX: hashlib.sha256(buffer.getvalue()).hexdigest()}
    sums |= {shard_file(folder, k).name: record["digest"] for k, record in enumerate(records)}
    lines = "".join(f"{digest}  {name}\n" for name, digest in sums.items())
    write_atomic(folder / SUMS, lines.encode(), KEPT)
    write_atomic(folder / INDEX, buffer.getvalue(), KEPT)
    return [p for r in records for p in r["problems"]]


def pack(
    options: Options,
    out: Path,
    workers: int,
    command: str,
    shard_frames: int | None = None,
    say: Callable[[str], None] = print,
    begin: Callable[[int, int], Callable[[int], None]] = lambda done, total: lambda frames: None,
) -> None:
    """Packs a source into a folder, or continues there.

    Args:
        command: what is told to a user who has to continue.
        shard_frames: frames per shard, default about SHARD_BYTES; a folder that is continued keeps its own.
        say: takes lines for the user.
        begin: called with the frames that are done and all; returns what is told of every further `frames`.

    Raises:
        ChaseError: source or folder are unusable, a frame cannot be decoded, or the disk is too small.
    """
    compare(out, settings(options))
    source = open_source(options)
    say(source.summary())
    table = tabulate(source, options)
    guess = estimate(source, table, options)
    if shard_frames is None:
        shard_frames = int(np.clip(SHARD_BYTES / max(guess.frame_bytes, 1), 64, 8192))
    about = prepare(out, settings(options) | annotations(table), command, shard_frames)
    with locked(out):
        for leftover in out.glob(f"{TEMPORARY}*"):
            leftover.unlink(missing_ok=True)
        shards = cut(table.frames, about["shard_frames"])
        todo = [k for k in range(len(shards)) if read_record(out, k) is None]
        left = sum(len(shards[k]) for k in todo)
        say(
            f"{guess.frames} frames at about {guess.frame_bytes / 1e3:.0f} kB: {_size(guess.total)} in"
            f" {len(shards)} shards"
            + (f", {len(shards) - len(todo)} of them done" if left < guess.frames else "")
        )
        if not todo and (out / INDEX).exists():
            say(f"packed:{out} is complete")
            return
        free, needed = shutil.disk_usage(out).free, left * guess.frame_bytes * 1.05
        if needed > free:
            raise ChaseError(
                f"--out {out}: {_size(needed)} needed, {_size(free)} free; give another disk, --format jpeg,"
                " --every K or a smaller --size"
            )
        (out / INDEX).unlink(missing_ok=True)  # of an earlier state of the shards
        for number in todo:
            record_file(out, number).unlink(missing_ok=True)
        advance = begin(guess.frames - left, guess.frames)
        make_all(
            todo,
            source,
            table,
            options,
            out,
            about["shard_frames"],
            workers,
            lambda number: advance(len(shards[number])),
        )
        problems = write_index(out, table, len(shards))
    size = sum(shard_file(out, k).stat().st_size for k in range(len(shards)))
    lost = f", {len(problems)} broken frames left out (first: {problems[0]})" if problems else ""
    say(f"packed:{out}: {guess.frames - len(problems)} frames, {_size(size)}{lost}")


def _size(count: float) -> str:
    power = min(max(int(math.log10(max(count, 1)) // 3), 1), 4)
    return f"{count / 1000**power:.3g} {('kB', 'MB', 'GB', 'TB')[power - 1]}"
