"""`chase-fast`, `doctor`, and what importing the package may not do."""

import json
import subprocess
import sys

import pytest

from chase_fast import __main__ as command
from chase_fast import __version__, doctor
from chase_fast.doctor import __main__ as doctor_command
from chase_fast.kernels._dispatch import BACKENDS


def test_help_names_every_command(capsys):
    assert command.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in command.COMMANDS)


def test_version(capsys):
    assert command.main(["--version"]) == 0
    assert capsys.readouterr().out == f"chase_fast {__version__}\n"


@pytest.mark.parametrize("name", ["serach", "import"])
def test_command_that_is_not_there(name, capsys):
    assert command.main([name, "--flag"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and name in error and "search" in error


def test_no_command_shows_the_usage(capsys):
    assert command.main([]) == 2
    assert "commands:" in capsys.readouterr().out


@pytest.mark.parametrize("name", list(command.COMMANDS))
def test_every_command_explains_itself(name, capsys):
    with pytest.raises(SystemExit) as stopped:
        command.main([name, "--help"])
    assert stopped.value.code == 0
    assert "Examples:" in capsys.readouterr().out


def test_doctor_json(capsys):
    code = doctor_command.main(["--json"])
    facts = json.loads(capsys.readouterr().out)
    assert code == (2 if facts["broken"] else 0)
    assert facts["versions"]["chase_fast"] == __version__ and facts["versions"]["torch"]
    assert facts["native"]["version"] == __version__
    assert facts["devices"]["cuda"] or facts["devices"]["no_cuda"]
    expected = {
        "conv3x3",
        "crop",
        "kl_loss",
        "mixed_op",
        "node_sum",
        "prroi_pool",
        "sep_conv",
        "target_filter",
    }
    assert expected <= set(facts["ops"])
    for op in facts["ops"].values():
        assert tuple(op["backends"]) == BACKENDS and op["backends"]["reference"] is None
    assert facts["ops"]["prroi_pool"]["backends"]["cpu"] is None
    assert facts["ops"]["prroi_pool"]["runs_on"]["cpu"] == "cpu"


def test_doctor_table_gives_each_reason_once(capsys):
    facts = {
        "versions": {"torch": "1", "torchvision": "2: broken [a]"},
        "broken": ["torchvision"],
        "devices": {},
        "native": {"missing": "not built; run `pip install .`"},
        "ops": {
            name: {"backends": {"reference": None, "cpu": "too small"}, "runs_on": {"cpu": "reference"}}
            for name in ("one", "two")
        },
    }
    doctor_command.print_facts(facts, doctor_command.Console())
    text = capsys.readouterr().out
    assert "broken [a]" in text and "run `pip install .`" in text
    assert text.count("too small") == 1 and text.count("no (1)") == 2


def test_doctor_in_a_file_has_columns_of_text_and_whole_paths(capsys):
    """No lines of a terminal, no path that is broken, and no reason that reads like a defect."""
    doctor_command.main([])
    text = capsys.readouterr().out
    assert not any("\u2500" <= c <= "\u257f" for c in text), "no characters of boxes"
    native = next(line for line in text.splitlines() if line.startswith("Native"))
    assert doctor.native_build()["file"] in native and doctor.native_build()["isa"] in native
    assert "no triton kernel" not in text
    row = next(line for line in text.splitlines() if line.startswith("sep_conv"))
    assert row.split()[1] == "yes"


def test_doctor_names_the_fix_of_a_broken_torchvision(monkeypatch, capsys):
    real = doctor.importlib.import_module

    def broken(name, *rest):
        if name == "torchvision":
            raise RuntimeError("operator torchvision::nms does not exist\nmore")
        return real(name, *rest)

    monkeypatch.setattr(doctor.importlib, "import_module", broken)
    assert doctor_command.main(["--json"]) == 2
    facts = json.loads(capsys.readouterr().out)
    assert "torchvision" in facts["broken"]
    assert (
        "nms does not exist" in facts["versions"]["torchvision"]
        and "reinstall" in facts["versions"]["torchvision"]
    )


def test_doctor_checks_data(capsys):
    assert doctor_command.main(["--data", "got10k:/nowhere"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and "/nowhere" in error


def test_doctor_reports_sound_data(tmp_path, capsys):
    import cv2
    import numpy as np

    folder = tmp_path / "walk"
    folder.mkdir()
    for i in range(3):
        cv2.imwrite(str(folder / f"{i:08d}.png"), np.full((40, 50, 3), 60 * i, np.uint8))
    (folder / "groundtruth.txt").write_text("5,6,10,12\n" * 3)
    assert doctor_command.main(["--data", f"folder:{tmp_path}"]) == 0
    assert "3 frames" in capsys.readouterr().out
    (folder / "00000001.png").write_bytes(b"broken")
    assert doctor_command.main(["--data", f"folder:{tmp_path}"]) == 2
    assert "00000001.png" in capsys.readouterr().out


def test_import_is_light():
    """chase_fast alone imports no torch; its kernels import torch, but neither torchvision nor triton."""
    program = (
        "import sys, chase_fast; assert 'torch' not in sys.modules; import chase_fast.kernels.prroi_pool; "
        "assert not {'torchvision', 'triton'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
