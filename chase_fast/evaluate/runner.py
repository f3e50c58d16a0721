"""Runs one tracker over the sequences of a benchmark: one by one, or side by side in worker processes."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

import numpy as np

from chase_fast.data.evaluation import EvaluationSequence
from chase_fast.errors import ChaseError
from chase_fast.evaluate.trackers import Entrant
from chase_fast.process import tune_process
from chase_fast.runs import stream

REPORT_SECONDS = 0.5  # between two reports of a worker on its frames
ATTEMPTS = 2  # of a sequence whose process died

Save = Callable[[EvaluationSequence, np.ndarray, np.ndarray], None]
Frames = Callable[[int], None]


def track_sequence(
    entrant: Entrant, sequence: EvaluationSequence, seed: int, frames: Frames = lambda count: None
) -> tuple[np.ndarray, np.ndarray]:
    """One pass over a sequence; the tracker sees the first box only.

    The tracker's own seed comes from (seed, name of the sequence): its boxes do not depend on what ran before
    or beside it. Frames may change size within a sequence; the tracker decides what to do about it. Timed are
    `init` and `update`, not the reading of frames.

    Args:
        frames: called with the number of frames done since its last call.

    Returns:
        boxes [T, 4] x, y, w, h in pixels, the first one as given; seconds [T].

    Raises:
        ChaseError: a frame is missing or broken, the tracker refuses it, or its box is not four finite
            numbers; sequence and frame are named.
    """
    length = len(sequence.frames)
    boxes, times = np.empty((length, 4)), np.empty(length)
    session = entrant.start(stream(seed, "evaluate", sequence.name))
    told, last = 0, time.perf_counter()
    for i in range(length):
        frame = sequence.frame(i)
        start = time.perf_counter()
        try:
            if i == 0:
                session.init(frame, tuple(sequence.first_box.tolist()))
                box = sequence.first_box
            else:
                box = session.update(frame).box
        except ChaseError as e:
            raise ChaseError(f"sequence {sequence.name}, frame {i + 1}: {e}") from e
        now = time.perf_counter()
        times[i] = now - start
        boxes[i] = box
        if not np.isfinite(boxes[i]).all():
            raise ChaseError(f"sequence {sequence.name}, frame {i + 1}: the tracker returned box {list(box)}")
        if now - last > REPORT_SECONDS or i + 1 == length:
            frames(i + 1 - told)
            told, last = i + 1, now
    return boxes, times


def limit_threads(threads: int) -> None:
    """CPU threads of torch and OpenCV in this process."""
    import cv2
    import torch

    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)


def _reason(sequence: EvaluationSequence, error: Exception) -> str:
    if isinstance(error, ChaseError):
        return str(error)
    return f"sequence {sequence.name}: the tracker raised {type(error).__name__}: {error}"


def _serve(pipe: Connection, entrant: Entrant, seed: int, threads: int) -> None:
    """A worker process: sequences come in, (word, value, ...) goes out, until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process ends it
    tune_process()
    limit_threads(threads)
    with suppress(EOFError, BrokenPipeError):
        while True:
            sequence = pipe.recv()
            try:
                boxes, times = track_sequence(entrant, sequence, seed, lambda n: pipe.send(("frames", n)))
            except BrokenPipeError:
                raise
            except Exception as e:  # whatever a tracker raises ends its sequence, not the run
                pipe.send(("failed", _reason(sequence, e)))
            else:
                pipe.send(("done", boxes, times))


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    sequence: EvaluationSequence | None = None
    frames: int = 0  # reported of the present sequence

    def stop(self) -> None:
        self.pipe.close()
        if self.process.is_alive():
            self.process.terminate()
        self.process.join()


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    """Environment variables for child processes only."""
    before = {k: os.environ.get(k) for k in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                del os.environ[key]
            else:
                os.environ[key] = value


def track_here(
    entrant: Entrant, sequences: list[EvaluationSequence], seed: int, save: Save, frames: Frames
) -> dict[str, str]:
    """Tracks the sequences one by one in this process; returns name -> reason of those that failed."""
    failed = {}
    for sequence in sequences:
        try:
            boxes, times = track_sequence(entrant, sequence, seed, frames)
        except Exception as e:
            failed[sequence.name] = _reason(sequence, e)
        else:
            save(sequence, boxes, times)
    return failed


def track_beside(
    entrant: Entrant,
    sequences: list[EvaluationSequence],
    seed: int,
    workers: int,
    threads: int,
    save: Save,
    frames: Frames,
    say: Callable[[str], None],
) -> dict[str, str]:
    """Tracks the sequences in worker processes, longest first; results are saved as they come.

    A sequence whose process dies is tried once more in a new one. Other failures are not repeated: the same
    input would fail again.

    Args:
        threads: of each process.
        frames: called with numbers of finished frames (negative when a sequence is tried again).
        say: called with a line about a process that died.

    Returns:
        Sequence -> reason of those that failed.
    """
    context = multiprocessing.get_context("spawn")
    queue = sorted(sequences, key=lambda s: len(s.frames))
    deaths: dict[str, int] = {}
    failed: dict[str, str] = {}
    pool: list[_Worker] = []

    def hire() -> _Worker:
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, entrant, seed, threads), daemon=True)
        with _environment(OMP_NUM_THREADS=str(threads)):
            process.start()
        theirs.close()
        return _Worker(process, ours)

    def give(worker: _Worker) -> None:
        """The next sequence to a worker that is free."""
        worker.sequence, worker.frames = (queue.pop() if queue else None), 0
        if worker.sequence is not None:
            with suppress(BrokenPipeError):  # it died: noticed when its answer is read
                worker.pipe.send(worker.sequence)

    def lost(worker: _Worker, sequence: EvaluationSequence) -> None:
        name = sequence.name
        worker.process.join()
        deaths[name] = deaths.get(name, 0) + 1
        frames(-worker.frames)
        why = f"the tracker's process died on sequence {name} ({_death(worker.process.exitcode)})"
        if deaths[name] < ATTEMPTS:
            say(f"{why}; trying it once more")
            queue.append(sequence)
        else:
            failed[name] = f"{why}, {ATTEMPTS} times"

    try:
        for _ in range(min(workers, len(queue))):
            pool.append(hire())
            give(pool[-1])
        while busy := [(w, w.sequence) for w in pool if w.sequence is not None]:
            answered = wait([worker.pipe for worker, _ in busy])
            for worker, sequence in busy:
                if worker.pipe not in answered:
                    continue
                try:
                    word, *values = worker.pipe.recv()
                except (EOFError, ConnectionResetError):
                    lost(worker, sequence)
                    worker.stop()
                    pool.remove(worker)
                    if queue:
                        pool.append(hire())
                        give(pool[-1])
                    continue
                if word == "frames":
                    worker.frames += values[0]
                    frames(values[0])
                    continue
                if word == "done":
                    save(sequence, *values)
                else:
                    failed[sequence.name] = values[0]
                give(worker)
    finally:
        for worker in pool:
            worker.stop()
    return failed


def _death(code: int | None) -> str:
    if code is not None and code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        return f"{name}, often a lack of memory" if name == "SIGKILL" else name
    return f"exit code {code}"
