"""The command line of track: boxes as people type them, choices, run folders, nothing heavy too early."""

import subprocess
import sys
import time
from typing import get_args

import pytest

from chase_fast.errors import ChaseError
from chase_fast.runs import checkpoint_file
from chase_fast.track import PRESETS
from chase_fast.track import options as options_module
from chase_fast.track.__main__ import main
from chase_fast.track.options import check, joined_boxes, parse

BOXES = [
    (["--box", "109,110,37,116"], [(109, 110, 37, 116)]),
    (["--box=109,110,37,116"], [(109, 110, 37, 116)]),
    (["--box", "109", "110", "37", "116"], [(109, 110, 37, 116)]),
    (["--box", "109,", "110,", "37,", "116"], [(109, 110, 37, 116)]),
    (["--box", "109", ",", "110", ",", "37", ",", "116"], [(109, 110, 37, 116)]),
    (["--box", "109, 110, 37, 116"], [(109, 110, 37, 116)]),
    (["--box", "109 110 37 116"], [(109, 110, 37, 116)]),
    (["--box=109", "110", "37", "116"], [(109, 110, 37, 116)]),
    (["--box", "(109, 110, 37, 116)"], [(109, 110, 37, 116)]),
    (["--box", "[109.5,110,37.25,116]"], [(109.5, 110, 37.25, 116)]),
    (["--box", "-5", "-.5", "3e1", "40."], [(-5, -0.5, 30, 40)]),
    (["--box", "-5,10,30,40"], [(-5, 10, 30, 40)]),
    (["--box=-5,10,30,40"], [(-5, 10, 30, 40)]),
    (["--box", "1", "2", "3", "4", "--box", "5,6,7,8"], [(1, 2, 3, 4), (5, 6, 7, 8)]),
    (["--box", "1,2,3,4", "--box", "5", "6", "7", "8", "--quiet"], [(1, 2, 3, 4), (5, 6, 7, 8)]),
]


@pytest.mark.parametrize("flags, boxes", BOXES, ids=[" ".join(b[0]) for b in BOXES])
@pytest.mark.parametrize("first", [True, False])
def test_boxes_as_people_type_them(flags, boxes, first):
    rest = ["--checkpoint", "c.safetensors"]
    argv = ["video.mp4", *flags, *rest] if first else [*rest, *flags, "0"]
    options = parse(argv)
    assert check(options) == boxes and options.source == ("video.mp4" if first else "0")


@pytest.mark.parametrize(
    "flags", [["--box", "1,2,3"], ["--box", "1,2,3,4,5"], ["--box", "a,b,c,d"], ["--box", "1", "2"]]
)
def test_boxes_that_are_none_say_what_to_type(flags):
    with pytest.raises(ChaseError, match=r"give four numbers x,y,w,h in pixels, as --box 310,142,64,120"):
        check(parse(["v.mp4", *flags, "--checkpoint", "c"]))


def test_eight_numbers_after_one_box_say_how_several_are_given():
    with pytest.raises(ChaseError, match="give --box once for each target"):
        joined_boxes(["--box", "1", "2", "3", "4", "5", "6", "7", "8"])


def test_choices_are_shown_and_checked(capsys):
    assert set(get_args(options_module.Preset)) == set(PRESETS)
    with pytest.raises(SystemExit):
        parse(["--help"])
    shown = capsys.readouterr().out
    for text in (
        "{accurate,balanced,fast,published}",
        "{fp32,bf16}",
        "{auto,cpu,cuda,cuda:N}",
        "143 after SIGTERM",
    ):
        assert text in shown
    wrong = {
        "preset": "best",
        "precision": "fp8",
        "device": "gpu",
        "timeout": "0",
        "fps": "-1",
        "reconnects": "-1",
    }
    for flag, value in wrong.items():
        assert main(["v.mp4", f"--{flag}={value}", "--box", "1,2,3,4", "--checkpoint", "c"]) == 2
        message = capsys.readouterr().err
        assert message.count("\n") == 1 and value.lstrip("-") in message


def test_secrets_of_a_mistyped_command_are_not_printed(capsys):
    address = "rtsp://admin:s3cr3t@host/live?token=abcdef"
    for argv in (
        [address, "--bx", "1,2,3,4"],
        ["v.mp4", address],
        ["--source", address],
        [address, "--checkpoint", "none.safetensors", "--box", "1,2,3,4"],
        [address.replace("://", ":"), "--checkpoint", __file__, "--box", "1,2,3,4"],
        ["admin:s3cr3t@host/live", "--checkpoint", __file__, "--box", "1,2,3,4"],
    ):
        try:
            code = main(argv)
        except SystemExit as e:
            code = e.code
        said = capsys.readouterr()
        assert code == 2 and said.err
        joined = "".join((said.err + said.out).split())
        assert "s3cr3t" not in joined and "abcdef" not in joined, said.err
    assert parse([address, "--checkpoint", "c"]).source == address


def test_a_file_that_begins_with_a_dash_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "-video.mp4").touch()
    assert parse(["-video.mp4", "--checkpoint", "c"]).source == "./-video.mp4"
    assert parse(["-", "--checkpoint", "c"]).source == "-"


def test_a_run_folder_is_a_checkpoint(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    with pytest.raises(ChaseError, match=r"without best\.safetensors"):
        checkpoint_file(run)
    (run / "config.json").write_text("{}")
    with pytest.raises(ChaseError, match="no epoch of it has finished"):
        checkpoint_file(run)
    (run / "seed_3").mkdir()
    (run / "seed_3" / "best.safetensors").touch()
    with pytest.raises(ChaseError, match=r"has not finished; give .*seed_3/best.safetensors"):
        checkpoint_file(run)
    (run / "best.safetensors").touch()
    assert checkpoint_file(run) == checkpoint_file(run / "best.safetensors") == run / "best.safetensors"
    with pytest.raises(ChaseError, match=r"--weights .*none: no such file"):
        checkpoint_file(run / "none", "--weights")


def test_help_and_mistakes_need_nothing_heavy(tmp_path):
    program = f"""
import sys
from chase_fast.track.__main__ import main
def told(*argv):
    try:
        return main(list(argv))
    except SystemExit as e:
        return e.code
file = {__file__!r}
assert told("--help") == 0
assert told(file, "--box", "1,2", "--checkpoint", file) == 2
assert told({str(tmp_path / "none.mp4")!r}, "--box", "1,2,3,4", "--checkpoint", file) == 2
assert told(file, "--box", "1,2,3,4", "--checkpoint", {str(tmp_path / "none")!r}) == 2
assert told(file, "--box", "1,2,3,4", "--checkpoint", file, "--preset", "best") == 2
assert told(file, "--box", "1,2,3,4", "--checkpoint", file, "--out", file) == 2
heavy = {{"torch", "cv2", "av", "matplotlib", "torchvision"}} & set(sys.modules)
assert not heavy, heavy
"""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert time.perf_counter() - start < 15
