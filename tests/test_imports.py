"""--import FILE.py: operations of the user's own in every command and in the processes that it starts."""

import json
import os
import subprocess
import sys

import pytest

from chase_fast import imports
from chase_fast.__main__ import COMMANDS
from chase_fast.convert.__main__ import main as convert
from chase_fast.errors import ChaseError
from chase_fast.evaluate.__main__ import main as evaluate
from chase_fast.nn import operations
from chase_fast.report.__main__ import main as report
from chase_fast.search.__main__ import main as search
from chase_fast.track.__main__ import main as track
from chase_fast.train.__main__ import main as train
from tests.trees import got10k

OWN = """
import torch
import chase_fast
from beside import AFFINE

def conv_1x1(channels):
    norm = torch.nn.BatchNorm2d(channels, affine=AFFINE)
    return torch.nn.Sequential(torch.nn.Conv2d(channels, channels, 1), norm)

chase_fast.register_operation("conv_1x1", conv_1x1)
"""
SMALL = "--image-size 64 --train-frames 1 --test-frames 1 --batch 2 --channels 4 --threads 1 --quiet"
SEARCH = f"{SMALL} --ops conv_1x1 --nodes 1 --epochs 2 --iterations 1 --holdout-batches 1 --warmup-epochs 1"
TRAIN = f"{SMALL} --epochs 1 --iterations 1 --val-batches 1 --calibration-batches 1"


@pytest.fixture(autouse=True)
def forgetful(monkeypatch):
    """A process that has imported nothing."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    monkeypatch.setenv(imports.VARIABLE, "")
    monkeypatch.setattr(operations, "_registered", {})
    monkeypatch.setattr(operations, "_files", {})
    monkeypatch.setattr(imports, "_loaded", set())
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    for name in [n for n in sys.modules if n.startswith("chase_fast_import_") or n == "beside"]:
        del sys.modules[name]


def forget():
    os.environ[imports.VARIABLE] = ""
    operations._registered.clear()
    operations._files.clear()
    imports._loaded.clear()


def test_an_own_operation_goes_through_every_command(tmp_path, capsys):
    own = tmp_path / "my_ops.py"
    own.write_text(OWN)
    (tmp_path / "beside.py").write_text("AFFINE = True\n")
    say, flag = f"give --import {own.name}", ["--import", str(own)]

    def both(command, *words) -> str:
        """Without the file: one line that names it; with it: done."""
        forget()
        assert command([str(w) for w in words]) == 2
        error = capsys.readouterr().err
        assert say in error and len(error.splitlines()) == 1, error
        forget()
        assert command([*flag, *(str(w) for w in words)]) == 0
        return capsys.readouterr().out

    found, trained, out = tmp_path / "search", tmp_path / "train", tmp_path / "out"
    assert search([*flag, *SEARCH.split(), "--out", str(found)]) == 0
    assert json.loads((found / "config.json").read_text())["registered_by"] == {"conv_1x1": "my_ops.py"}
    both(search, "--out", found, "--resume", "--quiet")
    both(train, *TRAIN.split(), "--cell", found / "cell.json", "--out", trained)
    both(train, "--out", trained, "--resume", "--quiet")
    data = got10k(tmp_path / "data", "val")
    frames = next((tmp_path / "data" / "val").glob("*_000*"))
    how = f"--box 10,10,20,20 --frames 2 --no-video --checkpoint {trained} --out {out} --overwrite".split()
    both(track, frames, *how)
    both(convert, trained, tmp_path / "copy.safetensors")
    how = f"--data {data} --checkpoint {trained} --workers 1 --pictures 0 --preset fast --quiet".split()
    both(evaluate, *how, "--out", tmp_path / "scores")  # a worker is a process of its own
    forget()
    assert report([str(found)]) == 0 and report([str(trained)]) == 0
    assert report(["--cell", str(found / "cell.json"), "--svg", str(tmp_path / "cell.svg")]) == 0
    assert "conv_1x1" in (tmp_path / "cell.svg").read_text()


@pytest.mark.parametrize(
    "text, message",
    [
        ("x = 1\nimport nothing_there\n", "line 2: ModuleNotFoundError: No module named 'nothing_there'"),
        ("x = 1\n\ny = = 2\n", "line 3: invalid syntax"),
        ("def f():\n    raise ValueError('a\\nb')\nf()\n", "line 2: ValueError: a b"),
        ("from chase_fast import register_operation as r\nr('none', None)\n", "line 2: cannot register"),
        ("import sys\nsys.exit(0)\n", "line 2: SystemExit: 0"),
        ("assert False\n", "line 1: AssertionError\n"),
        ("import beside\n", "beside.py, line 2: invalid syntax"),
        ("x = '\0'\n", "bad.py: source code string cannot contain null bytes"),
    ],
)
def test_a_file_with_an_error_is_one_line(tmp_path, text, message, capsys):
    file = tmp_path / "bad.py"
    file.write_text(text)
    (tmp_path / "beside.py").write_text("\nx = = 3\n")
    for command, words in ((search, []), (evaluate, ["--data", "x"])):
        assert command(["--import", str(file), *words]) == 2
        error = capsys.readouterr().err
        assert message in error and len(error.splitlines()) == 1


def test_the_words_of_the_flag(tmp_path, monkeypatch, capsys):
    files = [tmp_path / name for name in ("a.py", "b.py")]
    for file in files:
        file.write_text("")
    monkeypatch.chdir(tmp_path)
    words = ["--import", "a.py", "x", "--import=b.py", "--import", "a.py", "--", "--import", "c.py"]
    assert imports.take(words) == ["x", "--", "--import", "c.py"]
    assert os.environ[imports.VARIABLE] == os.pathsep.join(map(str, files))
    imports.load()
    with pytest.raises(ChaseError, match=r"c\.py: no such file"):
        imports.take(["--import", "c.py"])
    (tmp_path / "c:d.py").write_text("")
    with pytest.raises(ChaseError, match="must be without ':'"):
        imports.take(["--import", "c:d.py"])
    with pytest.raises(ChaseError, match="--import needs a file"):
        imports.take(["x", "--import"])
    (tmp_path / "data.txt").write_text("")
    imports.take(["--import", "data.txt"])
    with pytest.raises(ChaseError, match="must be a Python file"):
        imports.load()


def test_every_help_page_explains_it_without_torch_and_opencv():
    code = (
        "import sys\n"
        "from chase_fast.__main__ import COMMANDS, main\n"
        "for name in COMMANDS:\n"
        "    try:\n        main([name, '--help'])\n    except SystemExit as e:\n        assert e.code == 0\n"
        "    heavy = {'torch', 'torchvision', 'cv2', 'av', 'PIL', 'jinja2'} & set(sys.modules)\n"
        "    assert not heavy, (name, heavy)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert " ".join(done.stdout.split()).count("--import FILE.py, with every command") == len(COMMANDS)
