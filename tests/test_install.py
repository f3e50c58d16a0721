"""The four ways to install, from a copy of the sources, without network and without nvcc."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.tiny import tiny_tracker

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("CMakeLists.txt", "MANIFEST.in", "setup.py", "pyproject.toml", "README.md", "LICENSE")
FOLDERS = ("csrc", "kernels", "chase_fast")
DEVELOPMENT = (
    ".ci/run",
    ".github/",
    ".gitignore",
    ".pre-commit-config.yaml",
)  # what no archive of sources holds
OFFLINE = ("--no-build-isolation", "--no-deps", "--no-index")
SITE = Path(sysconfig.get_path("purelib"))  # torch and the build tools come from here

needed = [
    m for m in ("setuptools", "pybind11", "cmake", "ninja", "pip") if importlib.util.find_spec(m) is None
]
pytestmark = pytest.mark.skipif(
    bool(needed), reason=f"needs {', '.join(needed)} (pip install 'chase-fast[test]')"
)

WHERE = """
import json, chase_fast, chase_fast.kernels, chase_fast_C
assert chase_fast_C.__version__ == chase_fast.__version__
modules = {"package": chase_fast, "kernels": chase_fast.kernels, "native": chase_fast_C}
print(json.dumps({name: module.__file__ for name, module in modules.items()}))
"""
POOL = """
import torch
from chase_fast.kernels.prroi_pool import prroi_pool
box = torch.tensor([[0.0, 1.0, 1.0, 3.0, 3.0]])
print(prroi_pool(torch.ones(1, 3, 5, 5), box, (1, 1), 1.0, backend="cpu").sum().item())
"""


@pytest.fixture(scope="module", autouse=True)
def _quick_compiler(tmp_path_factory):
    """A compiler that does not optimise: what is tried is the way to install, not the code."""
    compiler = tmp_path_factory.mktemp("compiler") / "c++"
    compiler.write_text('#!/bin/sh\nexec c++ "$@" -O0\n')
    compiler.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHASE_FAST_TEST_CXX", str(compiler))
        yield


def environment(**changes: str) -> dict[str, str]:
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "CXX", "CUDACXX")}
    quick = {"CXX": os.environ["CHASE_FAST_TEST_CXX"]}
    return kept | quick | {"PATH": path, "CHASE_FAST_CUDA": "off"} | changes


def pip(*arguments, python: Path | None = None, **changes: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "pip", *(["--python", python] if python else []), *arguments]
    return subprocess.run(
        [str(c) for c in command], env=environment(**changes), capture_output=True, text=True
    )


def succeed(done: subprocess.CompletedProcess) -> None:
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]


def new_environment(folder: Path) -> Path:
    """Python of a virtual environment that sees the packages of ours, without their chase_fast."""
    succeed(
        subprocess.run(
            [sys.executable, "-m", "venv", "--without-pip", folder], capture_output=True, text=True
        )
    )
    site = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    outer = folder / "outer"
    outer.mkdir()
    for entry in SITE.iterdir():
        if "chase_fast" not in entry.name.lower():
            (outer / entry.name).symlink_to(entry)
    (site / "outer.pth").write_text(f"{outer}\n")
    return folder / "bin" / "python"


def run(python: Path, folder: Path, program: str) -> str:
    """Standard output of a program that starts in this folder."""
    done = subprocess.run(
        [python, "-c", program], cwd=folder, env=environment(), capture_output=True, text=True
    )
    succeed(done)
    return done.stdout


def where(python: Path, folder: Path) -> dict[str, str]:
    """Files that the package, its kernels and the native module are found in."""
    return json.loads(run(python, folder, WHERE))


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    target = tmp_path_factory.mktemp("sources") / "clone"
    target.mkdir()
    for name in SOURCES:
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, target)
    for name in FOLDERS:
        shutil.copytree(
            ROOT / name, target / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__")
        )
    return target


@pytest.fixture(scope="module")
def installed(clone, tmp_path_factory) -> Path:
    """Python of an environment after `pip install --no-build-isolation --no-deps .`"""
    python = new_environment(tmp_path_factory.mktemp("installed"))
    succeed(pip("install", *OFFLINE, clone, python=python))
    return python


def test_install_without_network(installed, tmp_path):
    found = where(installed, tmp_path)
    assert all(file.startswith(str(installed.parents[1])) for file in found.values())
    assert float(run(installed, tmp_path, POOL)) == pytest.approx(3)


def test_in_the_root_of_the_clone(installed, clone):
    """There the source folder shadows the installed one; kernels and native module must still be found."""
    found = where(installed, clone)
    assert found["package"].startswith(str(clone)) and found["kernels"].startswith(str(clone))
    assert found["native"].startswith(str(installed.parents[1]))


def test_console_script(installed):
    done = subprocess.run(
        [installed.parent / "chase-fast", "--version"], capture_output=True, text=True, env=environment()
    )
    succeed(done)
    assert done.stdout.startswith("chase_fast ")


def test_wheel(installed, clone, tmp_path):
    """All of chase_fast and kernels but cases.py is in it, nothing else; it runs from another folder."""
    succeed(pip("wheel", *OFFLINE, "-w", tmp_path, clone))
    (wheel,) = tmp_path.glob("*.whl")
    names = {n for n in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in n}
    modules = {n for n in names if n.startswith("chase_fast_C")}
    assert len(modules) == 1
    sources = [p for p in (clone / "chase_fast").rglob("*") if p.is_file()]
    sources += [
        clone / "chase_fast" / p.relative_to(clone) for p in (clone / "kernels").rglob("*") if p.is_file()
    ]
    expected = {
        str(p.relative_to(clone)) for p in sources if "__pycache__" not in p.parts and p.name != "cases.py"
    }
    assert names - modules == expected

    python = new_environment(tmp_path / "environment")
    succeed(pip("install", "--no-deps", "--no-index", wheel, python=python))
    assert all(file.startswith(str(tmp_path)) for file in where(python, tmp_path).values())


def test_editable(clone, tmp_path):
    python = new_environment(tmp_path / "environment")
    succeed(pip("install", *OFFLINE, "-e", clone, python=python))
    try:
        found = where(python, tmp_path)
        assert all(file.startswith(str(clone)) for file in found.values())
    finally:
        for module in clone.glob("chase_fast_C*.so"):  # so that other ways do not find it
            module.unlink()


@pytest.mark.skipif(
    "CI" not in os.environ, reason="pip's isolated build needs network; .ci/run does it on every run"
)
def test_isolated_build(clone, tmp_path):
    succeed(pip("wheel", "--no-deps", "-w", tmp_path, clone))
    assert list(tmp_path.glob("*.whl"))


def test_without_a_compiler(clone, tmp_path):
    """CHASE_FAST_NATIVE=off: the reference backends serve, one warning says so."""
    copy = tmp_path / "clone"
    shutil.copytree(clone, copy, symlinks=True, ignore=shutil.ignore_patterns("build", "*.egg-info"))
    off = {"CXX": "/bin/false", "CHASE_FAST_NATIVE": "off"}
    succeed(pip("wheel", *OFFLINE, "-w", tmp_path, copy, **off))
    (wheel,) = tmp_path.glob("*-none-any.whl")
    python = new_environment(tmp_path / "environment")
    succeed(pip("install", "--no-deps", "--no-index", wheel, python=python))
    program = POOL.replace(', backend="cpu"', "") + "from chase_fast.doctor.__main__ import main\n"
    program += "assert main(['--json']) == 0"
    done = subprocess.run(
        [python, "-c", program], cwd=tmp_path, env=environment(), capture_output=True, text=True
    )
    succeed(done)
    pooled, _, facts = done.stdout.partition("\n")
    assert float(pooled) == pytest.approx(3)
    facts = json.loads(facts)
    assert (
        facts["native"]["left_out"] and "installed with CHASE_FAST_NATIVE=off" in facts["native"]["missing"]
    )
    assert all(op["runs_on"]["cpu"] == "reference" for op in facts["ops"].values())
    assert done.stderr.count("plain torch serves instead") == 1
    wrong = pip("wheel", *OFFLINE, "-w", tmp_path, copy, CHASE_FAST_NATIVE="no")
    assert wrong.returncode != 0 and "CHASE_FAST_NATIVE=no must be on or off" in wrong.stdout + wrong.stderr


def test_the_source_distribution_is_whole(clone, tmp_path):
    """All that git tracks but what serves development; kernels/ as files in both places; nothing else."""
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if names.returncode != 0 or not names.stdout:
        pytest.skip("not a git clone")
    copy = tmp_path / "clone"
    for name in names.stdout.splitlines():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, copy / name, follow_symlinks=False)
    command = [sys.executable, "setup.py", "-q", "sdist", "-d", str(tmp_path)]
    succeed(subprocess.run(command, cwd=copy, env=environment(), capture_output=True, text=True))
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as content:
        found = {m.name.partition("/")[2] for m in content if m.isfile()}
    tracked = {name for name in names.stdout.splitlines() if not name.startswith(DEVELOPMENT)}
    tracked |= {f"chase_fast/{name}" for name in tracked if name.startswith("kernels/")}
    made = {name for name in found if name.startswith("chase_fast.egg-info/")} | {"PKG-INFO", "setup.cfg"}
    assert found - made == tracked - {"chase_fast/kernels"}


@pytest.mark.parametrize(
    "changes, text",
    [
        ({"CXX": "/bin/false"}, "apt-get install g++"),
        ({"CHASE_FAST_CUDA": "on", "CUDACXX": "/nowhere/nvcc"}, "CHASE_FAST_CUDA=off"),
    ],
)
def test_failed_native_build_names_the_fix(clone, tmp_path, changes, text):
    copy = tmp_path / "clone"
    shutil.copytree(clone, copy, symlinks=True, ignore=shutil.ignore_patterns("build", "*.egg-info"))
    done = pip("wheel", *OFFLINE, "-w", tmp_path / "wheels", copy, **changes)
    assert done.returncode != 0 and "the native build failed" in done.stdout + done.stderr
    assert text in done.stdout + done.stderr


def test_cuda_sources_compile(tmp_path):
    """The installed module contains them, or nvcc takes every file (it needs no GPU)."""
    from chase_fast.kernels._dispatch import native

    if native().build_info()["cuda"]:
        return
    nvcc = os.environ.get("CUDACXX") or shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("nvcc was not found")
    for source in sorted((ROOT / "csrc" / "cuda").glob("*.cu")):
        command = [
            nvcc,
            "-std=c++17",
            "-arch=sm_90a",
            f"-I{ROOT / 'csrc'}",
            "-c",
            source,
            "-o",
            tmp_path / "object.o",
        ]
        succeed(subprocess.run([str(c) for c in command], capture_output=True, text=True))


def test_without_triton(tmp_path):
    """As with torch's CPU build: nothing but a GPU needs it, and the doctor says what is so."""
    checkpoint = tiny_tracker(tmp_path / "tiny.safetensors")
    program = f"""
import sys
sys.modules["triton"] = None
import numpy, pytest
from chase_fast.doctor.__main__ import main as doctor
from chase_fast.search.__main__ import main as search
from chase_fast.track import Tracker
with pytest.raises(SystemExit, match="^0$"):
    search(["--help"])
tracker = Tracker.load({str(checkpoint)!r})
frame = numpy.random.default_rng(0).integers(0, 255, (120, 160, 3), numpy.uint8)
tracker.init(frame, (60, 40, 30, 30))
assert numpy.isfinite(tracker.update(frame).box).all()
assert doctor([]) == 0
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    succeed(done)
    assert "not installed (only GPUs use it)" in done.stdout and "triton is not installed" in done.stdout
