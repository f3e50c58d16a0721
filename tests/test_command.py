"""What commands do to their process and surroundings: settings, signals, homes, libraries, exit codes."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from chase_fast import command, process
from chase_fast.command import run_command, why_not_imported
from chase_fast.errors import ChaseError, MissingFile
from chase_fast.kernels import _choice
from chase_fast.nn.backbone import build_backbone
from chase_fast.nn.operations import _registered, register_operation
from chase_fast.report.__main__ import main as report
from chase_fast.search import __main__ as search_cli
from chase_fast.search import loop as search_loop
from chase_fast.train import __main__ as train_cli
from chase_fast.train import loop as train_loop
from tests.flags import changed
from tests.test_search import TINY
from tests.test_train import TINY as TRAIN

ROOT = Path(__file__).parents[1]
SHORT = ("--epochs", "2", "--iterations", "1")


def python(*arguments: str, **changes: str | None) -> subprocess.CompletedProcess:
    """This Python in a process of its own; changes: of its environment, None takes a variable out."""
    environment = {k: v for k, v in (os.environ | changes).items() if v is not None}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env=environment, timeout=300
    )


def one_line(text: str) -> str:
    assert text.startswith("error: ") and text.count("\n") == 1, text
    return text


# the process


def test_imports_change_nothing_and_tuning_says_what_it_could_do():
    program = """
import os
before = dict(os.environ)
import chase_fast
if TORCH:
    import torch, chase_fast_C, chase_fast.kernels.prroi_pool
assert os.environ == before
assert chase_fast.tune_process() is (not TORCH)
assert os.environ["GOMP_SPINCOUNT"] == "2000"
"""
    for torch_first in ("True", "False"):
        code = program.replace("TORCH", torch_first)
        done = python("-c", code, GOMP_SPINCOUNT=None, OMP_WAIT_POLICY=None)
        assert done.returncode == 0, done.stderr


def test_what_the_user_has_set_stays(monkeypatch):
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    assert process.tune_process() and "GOMP_SPINCOUNT" not in os.environ
    monkeypatch.delenv("OMP_WAIT_POLICY")
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    assert process.tune_process() and os.environ["GOMP_SPINCOUNT"] == "7"


def test_freed_memory_stays_with_a_tuned_process():
    """glibc gives most of 120 MiB of freed maps back to the kernel, unless it is told to keep them."""
    program = """
import resource, numpy
if TUNE:
    import chase_fast
    chase_fast.tune_process()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5): [numpy.ones(20 << 17) for _ in range(6)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""
    names = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES")
    kept = dict.fromkeys(names)
    counts = [int(python("-c", program.replace("TUNE", t), **kept).stdout) for t in ("False", "True")]
    assert counts[0] > 10 * max(counts[1], 1)


class Noisy(torch.nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.norm = torch.nn.BatchNorm2d(channels)

    def forward(self, x):
        return self.norm(torch.nn.functional.dropout(x, 0.3, self.training))


def test_a_run_leaves_the_process_as_it_was(tmp_path):
    """Random numbers (also with an operation that draws some), threads of torch and OpenCV, signals."""
    register_operation("noisy", Noisy)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), signal.getsignal(signal.SIGTERM)
    threads = torch.get_num_threads(), cv2.getNumThreads()
    try:
        torch.set_num_threads(2)
        cv2.setNumThreads(2)
        flags = ("--ops", "skip_connect", "noisy", "--threads", "1", "--workers", "1", *SHORT)
        assert search_cli.main(["demo", *changed(TINY, *flags, "--out", str(tmp_path / "s"), "--quiet")]) == 0
        assert (torch.get_num_threads(), cv2.getNumThreads()) == (2, 2)
        build_backbone("resnet18", "random", 3)
    finally:
        torch.set_num_threads(threads[0])
        cv2.setNumThreads(threads[1])
        del _registered["noisy"]
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])
    assert signal.getsignal(signal.SIGTERM) == before[2]


# signals


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize(
    "cli, owner, flags",
    [(search_cli, search_loop.Search, TINY), (train_cli, train_loop.Training, TRAIN)],
    ids=["search", "train"],
)
def test_a_signal_ends_a_run_with_its_code_and_a_checkpoint(
    cli, owner, flags, number, code, tmp_path, monkeypatch, capsys
):
    original = owner._run_iteration

    def step(self, *arguments):
        os.kill(os.getpid(), number)
        return original(self, *arguments)

    monkeypatch.setattr(owner, "_run_iteration", step)
    assert cli.main(["demo", *flags, "--out", str(tmp_path / "run"), "--quiet"]) == code
    assert "--resume" in capsys.readouterr().err and (tmp_path / "run" / "last.ckpt").is_file()


def test_a_signal_anywhere_else_and_exit_codes(capsys):
    def ended(number):
        def work():
            os.kill(os.getpid(), number)
            while True:  # another thread may be handed the signal: this one is not woken then
                time.sleep(0.01)

        return run_command(work, "stopped early")

    assert (ended(signal.SIGTERM), ended(signal.SIGINT)) == (143, 130)
    assert capsys.readouterr().err == "stopped early\n" * 2


# errors


def raising(error: BaseException):
    def work():
        raise error

    return work


@pytest.mark.parametrize(
    "error, says",
    [
        (ChaseError("wrong"), "wrong"),
        (MissingFile("not there"), "not there"),
        (_choice.BackendError("sep_conv: no"), "sep_conv: no"),
        (MemoryError(), "out of memory"),
        (np._core._exceptions._ArrayMemoryError((1 << 40,), np.dtype("f8")), "out of memory"),
        (RuntimeError("[enforce] DefaultCPUAllocator: can't allocate memory: 8 bytes"), "out of memory"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "out of memory"),
        (PermissionError(errno.EACCES, "Permission denied", "/root/x"), "/root/x: Permission denied"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "x" * 300), "File name too long"),
        (ModuleNotFoundError("No module named 'PIL'", name="PIL"), "pip install pillow"),
        (ImportError("libGL.so.1: cannot open shared object file", name="cv2"), "libgl1 libglib2.0-0"),
        (ImportError("libgthread-2.0.so.0: cannot open shared object file: No such file"), "libglib2.0-0"),
        (ImportError("libcudart.so.13: cannot open shared object file", name="torch"), "torch"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_users_can_mend_is_one_line(error, says, capsys):
    assert run_command(raising(error)) == 2
    assert says in one_line(capsys.readouterr().err)


@pytest.mark.parametrize(
    "error", [RuntimeError("shapes"), KeyError("x"), ImportError("no", name="chase_fast.x")]
)
def test_our_own_faults_are_not_hidden(error):
    with pytest.raises(type(error)):
        run_command(raising(error))


def test_errors_are_what_callers_expect(tmp_path):
    with pytest.raises(FileNotFoundError):
        build_backbone("resnet18", tmp_path / "absent.pth")
    with pytest.raises(ValueError):
        build_backbone("resnet19")
    assert why_not_imported(ImportError("cannot import name 'x'", name="torch")) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"WORLD_SIZE": "two"}, {"WORLD_SIZE": "2"}, {"WORLD_SIZE": "2", "RANK": "x", "LOCAL_RANK": "0"},
        {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "-1"}, {"WORLD_SIZE": ""},
    ],
    ids=str,
)  # fmt: skip
def test_wrong_variables_of_torchrun_are_one_line(changes, tmp_path, monkeypatch, capsys):
    for name, value in ({"MASTER_ADDR": "localhost", "MASTER_PORT": "1"} | changes).items():
        monkeypatch.setenv(name, value)
    assert search_cli.main(["demo", "--out", str(tmp_path / "run")]) == 2
    assert "WORLD_SIZE" in one_line(capsys.readouterr().err)


@pytest.mark.parametrize("name", ["meta", "mps", "xpu", "cpu:x", "", "gpu"])
def test_other_devices_are_one_line(name, tmp_path, capsys):
    flags = changed(TINY, "--device", name, "--out", str(tmp_path / "run"), "--quiet")
    assert search_cli.main(["demo", *flags]) == 2
    assert "--device" in one_line(capsys.readouterr().err) and not (tmp_path / "run").exists()


def test_a_wrong_backend_ends_every_command(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("CHASE_FAST_BACKEND", "sep_convv=cpu")
    assert report([str(tmp_path)]) == 2
    assert "did you mean sep_conv?" in one_line(capsys.readouterr().err)
    assert search_cli.main(["demo", "--out", str(tmp_path / "run")]) == 2
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["reference", "cpu"])
def test_one_backend_for_all_ops_that_have_it(name, tmp_path, monkeypatch):
    monkeypatch.setenv("CHASE_FAST_BACKEND", name)
    assert search_cli.main(["demo", *changed(TINY, *SHORT, "--out", str(tmp_path / "s"), "--quiet")]) == 0
    assert train_cli.main(["demo", *changed(TRAIN, *SHORT, "--out", str(tmp_path / "u"), "--quiet")]) == 0
    monkeypatch.setenv("CHASE_FAST_BACKEND", "cuda")
    if not torch.cuda.is_available():
        assert search_cli.main(["demo", *changed(TINY, *SHORT, "--out", str(tmp_path / "t"), "--quiet")]) == 2
        assert not (tmp_path / "t").exists()


# surroundings


@pytest.mark.parametrize(
    "arguments",
    [["search", "demo", "--out", "run"], ["track", "v.mp4", "--box", "1,2,3,4", "--checkpoint", "c"],
     ["data.pack", "synthetic", "--out", "run"], ["doctor"]],
    ids=lambda a: a[0],
)  # fmt: skip
def test_opencv_without_its_libraries(arguments, tmp_path):
    fake = tmp_path / "site" / "cv2"
    fake.mkdir(parents=True)
    text = "libGL.so.1: cannot open shared object file: No such file or directory"
    (fake / "__init__.py").write_text(f"raise ImportError({text!r}, name='cv2', path=__file__)")
    work = tmp_path / "work"
    work.mkdir()
    (work / "c").write_bytes(b"x")
    (work / "v.mp4").write_bytes(b"x")
    path = os.pathsep.join((str(fake.parent), str(ROOT)))
    done = subprocess.run(
        [sys.executable, "-m", f"chase_fast.{arguments[0]}", *arguments[1:]],
        capture_output=True, text=True, cwd=work, env=os.environ | {"PYTHONPATH": path}, timeout=300,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    said = " ".join(done.stdout.split()) if arguments == ["doctor"] else one_line(done.stderr)
    assert "libgl1 libglib2.0-0" in said and "opencv-python-headless" in said
    assert not (work / "run").exists()


NOBODY = 54321  # no user has this number


PACKAGES = [str(ROOT), *(p for p in sys.path if p.endswith("site-packages"))]


def open_to_all(path: Path) -> bool:
    return path.exists() and all(folder.stat().st_mode & 1 for folder in (path, *path.parents))


def python_for_all() -> str | None:
    """A Python of our version that every user can run with our packages; None if there is none."""
    names = (sys._base_executable, f"/usr/bin/python{sys.version_info[0]}.{sys.version_info[1]}")
    reached = all(open_to_all(Path(p).resolve()) for p in PACKAGES)
    return next((p for p in names if reached and open_to_all(Path(p).resolve())), None)


@pytest.mark.skipif(os.name != "posix" or os.getuid() != 0, reason="only root can become nobody")
@pytest.mark.skipif(python_for_all() is None, reason="this Python or its packages are closed to nobody")
def test_nobody_without_a_home(tmp_path):
    """No HOME, no user name: caches go to a temporary folder, ~ is refused, nothing is written into ./~."""
    work = Path("/tmp") / f"chase_fast-test-{os.getpid()}"  # pytest's folders are closed to others
    shutil.rmtree(work, ignore_errors=True)
    (work / "data" / "walk").mkdir(parents=True)
    try:
        for i in range(3):
            cv2.imwrite(str(work / "data" / "walk" / f"{i:08d}.png"), np.full((40, 50, 3), 60 * i, np.uint8))
        (work / "data" / "walk" / "groundtruth.txt").write_text("5,6,10,12\n" * 3)
        work.chmod(0o777)
        program = (
            "import os, sys; os.setgroups([]); os.setgid(N); os.setuid(N)\n"
            "from chase_fast.doctor.__main__ import main as doctor\n"
            "from chase_fast.report.__main__ import main as report\n"
            "assert doctor(['--data', 'folder:data']) == 0\n"
            "assert doctor(['--data', 'folder:~/data']) == 2\n"
            "assert report(['--cell', 'chase', '--png', 'c.png']) == 0\n"
            "assert report(['--cell', '~/x.json', '--png', 'd.png']) == 2\n"
        ).replace("N)", f"{NOBODY})")
        done = subprocess.run(
            [python_for_all(), "-c", program], capture_output=True, text=True, cwd=work, timeout=300,
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": os.pathsep.join(PACKAGES),
                "PYTHONDONTWRITEBYTECODE": "1",
            },
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        lines = done.stderr.splitlines()
        assert len(lines) == 2 and all("home folder is not known" in line for line in lines), done.stderr
        assert (work / "c.png").is_file() and not (work / "~").exists()
    finally:
        shutil.rmtree(work, ignore_errors=True)
        shutil.rmtree(Path("/tmp") / f"chase_fast-{NOBODY}", ignore_errors=True)


def test_a_read_only_home(tmp_path, monkeypatch):
    monkeypatch.setattr(command.lend_caches.__globals__["os"], "access", lambda *_: False)
    for variable in ("MPLCONFIGDIR", "TORCH_HOME", "TRITON_HOME", "TORCHINDUCTOR_CACHE_DIR"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", "/mine")
    command.lend_caches()
    assert os.environ["MPLCONFIGDIR"].startswith(str(tmp_path)) and os.environ["TORCH_HOME"] == "/mine"
    for variable in ("MPLCONFIGDIR", "TRITON_HOME", "TORCHINDUCTOR_CACHE_DIR"):
        monkeypatch.delenv(variable)
