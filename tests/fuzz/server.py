"""Runs commands in forks of one warm process, so that what takes seconds to import is imported once.

The process that forks has one thread: nothing parallel of torch, OpenCV or FFmpeg runs in it. Every command
gets a session, files for its output, and folders of its own for everything that it may write.
"""

import atexit
import contextlib
import importlib
import math
import os
import pickle
import pkgutil
import resource
import signal
import sys
import tempfile
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
HANG_S = 60.0  # an input that takes longer has hung
KILL_MB = 4096.0  # of all processes of a command together: ended before the machine suffers
KILL_PROCESSES = 64
FILE_MB = 2048  # no file may grow beyond
_LOOK_S, _WEIGH_S = 0.01, 0.25
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

Main = Callable[[list[str]], int | None]


@dataclass(frozen=True)
class Ending:
    """How a command ended.

    code: exit code; None if a signal ended it. killed: why the harness ended it, empty if it did not.
    grown_mb: by how much its resident memory grew at most; NaN for a new Python. box: its folder, with `in`
    and what it wrote.
    """

    code: int | None
    signal: int
    seconds: float
    grown_mb: float
    killed: str
    interrupted: bool
    stdout: str
    stderr: str
    box: Path


@dataclass(frozen=True)
class Limits:
    """seconds: until the command is killed. polite: seconds until it gets Ctrl-C, None: never."""

    seconds: float = HANG_S
    polite: float | None = None


def threads() -> int:
    """Threads of this process."""
    return len(os.listdir("/proc/self/task"))


def _resident_mb(process: str) -> float:
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def warm() -> Main:
    """Imports everything that commands need; returns the console script's main.

    Raises:
        RuntimeError: something started a thread, so that forking is not safe.
    """
    import cv2
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    import chase_fast
    from chase_fast.__main__ import main

    for module in pkgutil.walk_packages(chase_fast.__path__, "chase_fast."):
        try:
            importlib.import_module(module.name)
        except ImportError as e:  # what this platform lacks, but nothing of the package itself
            if (e.name or "").startswith("chase_fast"):
                raise
    for extra in (
        "av",
        "torchvision",
        "safetensors.torch",
        "PIL.Image",
        "tensorboard.compat.proto.event_pb2",
    ):
        with contextlib.suppress(ImportError):
            importlib.import_module(extra)
    if (count := threads()) != 1:
        raise RuntimeError(f"{count} threads are running before the first fork")
    return main


def environment(box: Path) -> dict[str, str]:
    """Of a command in `box`: its own home, cache and temporary folder; one thread; no display."""
    kept = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY")}
    own = {"HOME": box / "home", "CHASE_FAST_CACHE": box / "cache", "TMPDIR": box / "tmp"}
    for folder in own.values():
        folder.mkdir(exist_ok=True)
    fixed = {"PYTHONPATH": str(ROOT), "COLUMNS": "200", **dict.fromkeys(ONE_THREAD, "1")}
    return kept | {k: str(v) for k, v in own.items()} | fixed


def run(main: Main | None, argv: Sequence[str], box: Path, limits: Limits = Limits()) -> Ending:
    """Runs `main(argv)` in a fork, in the folder `box`; without `main`, `python -m chase_fast.COMMAND`."""
    env = environment(box)

    def body() -> int:
        if main is None:
            command, *words = argv
            os.execve(sys.executable, [sys.executable, "-m", f"chase_fast.{command}", *words], env)
        (box / "start_mb").write_text(str(_resident_mb("self")))  # what it shares with the process that forks
        sys.argv = [f"chase-fast {argv[0]}", *argv[1:]]
        return _as_script(main, list(argv))

    pid = _fork(body, box, env)
    code, died, seconds, peak, killed, interrupted = _watch(pid, limits)
    texts = [(box / name).read_bytes().decode("utf-8", "replace") for name in ("stdout", "stderr")]
    grown = peak - float((box / "start_mb").read_text()) if main else math.nan
    return Ending(code, died, seconds, grown, killed, interrupted, *texts, box)


def call(function: Callable[..., Any], *arguments: Any, limits: Limits = Limits()) -> Any:
    """`function(*arguments)` in a fork: a decoder that dies of a damaged file takes nothing with it.

    Raises:
        RuntimeError: it failed, with its traceback, or did not end in time.
    """
    with tempfile.TemporaryDirectory() as name:
        box = Path(name)

        def body() -> int:
            (box / "answer").write_bytes(pickle.dumps(function(*arguments)))
            return 0

        code, died, *_, killed, _ = _watch(_fork(body, box, environment(box)), limits)
        if code == 0:
            return pickle.loads((box / "answer").read_bytes())
        why = killed or (f"signal {died}" if died else (box / "stderr").read_text(errors="replace"))
        raise RuntimeError(f"{getattr(function, '__name__', function)} failed: {why}")


def _fork(body: Callable[[], int], box: Path, env: Mapping[str, str]) -> int:
    """The id of a new process, leader of a session, that runs `body` in the folder `box` and ends."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.setsid()
        _forget_exits()
        for name, descriptor in ((os.devnull, 0), (box / "stdout", 1), (box / "stderr", 2)):
            opened = os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
            os.dup2(opened, descriptor)
            os.close(opened)
        os.chdir(box)
        os.environ.clear()
        os.environ.update(env)
        tempfile.tempdir = None
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_MB << 20, FILE_MB << 20))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # as Python does: the write fails
        sys.stdin, sys.stdout, sys.stderr = (
            open(descriptor, mode, buffering, errors="backslashreplace", closefd=False)  # noqa: SIM115
            for descriptor, mode, buffering in ((0, "r", -1), (1, "w", -1), (2, "w", 1))
        )
        code = body()
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _forget_exits() -> None:
    """What the parent wants done at its end (its temporary folders removed) is not for its children."""
    atexit._clear()
    weakref.finalize._registry.clear()
    weakref.finalize._registered_with_atexit = False


def _as_script(main: Main, argv: list[str]) -> int:
    """`sys.exit(main(argv))`, and what Python does at its end."""
    try:
        code = main(argv)
    except SystemExit as e:
        code = e.code
    if isinstance(code, str):
        print(code, file=sys.stderr)
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    return code or 0


def _watch(pid: int, limits: Limits) -> tuple[int | None, int, float, float, str, bool]:
    """Waits for a session's leader, then ends what is left of the session."""
    start = weighed = time.monotonic()
    killed, asked = "", False
    try:
        while True:
            ended, status, usage = os.wait4(pid, os.WNOHANG)
            now = time.monotonic()
            if ended:
                break
            if limits.polite is not None and not asked and now - start > limits.polite:
                os.kill(pid, signal.SIGINT)
                asked = True
            if not killed and now - start > limits.seconds:
                killed = f"hang: still running after {limits.seconds:.0f} s"
            if not killed and now - weighed > _WEIGH_S:
                killed, weighed = _too_much(pid), now
            if killed:
                os.killpg(pid, signal.SIGKILL)
            time.sleep(_LOOK_S)
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(status)
    died = 0 if code >= 0 else -code
    return (None if died else code), died, now - start, usage.ru_maxrss / 1024, killed, asked


def _too_much(session: int) -> str:
    """Why the processes of a session must be ended, or nothing."""
    megabytes, count = 0.0, 0
    for entry in os.scandir("/proc"):
        if not entry.name.isdecimal():
            continue
        try:
            fields = Path(entry.path, "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == session:
                count += 1
                megabytes += _resident_mb(entry.name)
        except OSError:  # it has just ended
            continue
    if megabytes > KILL_MB:
        return f"memory: {megabytes:.0f} MB in {count} processes"
    return f"{count} processes at once" if count > KILL_PROCESSES else ""
