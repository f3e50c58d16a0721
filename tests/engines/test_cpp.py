"""The tracker without Python: built, compared with Python's, given wrong input.

All of it in processes of its own: this one must not load OpenVINO before it starts others."""

import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from chase_fast.track.limits import LIMITS

ROOT = Path(__file__).parents[2]
BOX = "40,30,30,24"
FRAMES = 12
PX = 0.05
TRACK = """
import json, sys
import numpy as np
from PIL import Image
import chase_fast
tracker = chase_fast.Tracker.load(sys.argv[1])
frames = [np.asarray(Image.open(f"{sys.argv[2]}/{k}.png")) for k in range(1, int(sys.argv[3]) + 1)]
tracker.init(frames[0], json.loads(f"[{sys.argv[4]}]"))
print(json.dumps([tracker.update(frame).box for frame in frames[1:]]))
"""
EXPORT = """
import sys, torch
from pathlib import Path
from tests.tiny import tiny_tracker
from chase_fast.export.__main__ import main
torch.manual_seed(0)
file = tiny_tracker(Path(sys.argv[1]) / "tiny.safetensors")
sys.exit(main([str(file), "--out", str(Path(sys.argv[1]) / "exported"), "--quiet"]))
"""


def run(*command, **how) -> subprocess.CompletedProcess:
    words = [str(word) for word in command]
    return subprocess.run(words, capture_output=True, text=True, timeout=900, cwd=ROOT, check=False, **how)


def python(code: str, *arguments) -> str:
    done = run(sys.executable, "-c", code, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def build(tmp_path_factory) -> Path:
    """The build folder."""
    if not (cmake := shutil.which("cmake")):
        pytest.skip("cmake is not installed")
    if not (package := importlib.util.find_spec("openvino")):
        pytest.skip('OpenVINO is not installed: pip install "chase-fast[openvino]"')
    openvino = Path(package.origin).parent / "cmake"
    if not (openvino / "OpenVINOConfig.cmake").is_file():
        pytest.skip("this OpenVINO has no C++ files: pip install openvino")
    folder = tmp_path_factory.mktemp("build")
    made = run(cmake, "-S", ROOT, "-B", folder, "-DCHASE_FAST_TRACK=ON", f"-DOpenVINO_DIR={openvino}")
    if "OpenCV is missing" in made.stderr:
        pytest.skip("OpenCV's development files are not installed: apt install libopencv-dev")
    assert made.returncode == 0, made.stderr
    made = run(cmake, "--build", folder, "--parallel", os.cpu_count() or 1)
    assert made.returncode == 0, made.stderr
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """tiny.safetensors, exported/ of it, and frames/ whose pixels move to the right."""
    folder = tmp_path_factory.mktemp("data")
    python(EXPORT, folder)
    frame = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)
    (folder / "frames").mkdir()
    for k in range(FRAMES):
        Image.fromarray(np.roll(frame, 2 * k, 1)).save(folder / "frames" / f"{k + 1}.png")
    return folder


def test_its_boxes_are_those_of_python(build, data, tmp_path):
    out = tmp_path / "boxes.txt"
    done = run(build / "chase-track", data / "exported", data / "frames", BOX, "--out", out)
    assert done.returncode == 0 and done.stdout == "", done.stderr
    assert f"{FRAMES} frames" in done.stderr
    lines = out.read_text().splitlines()
    assert lines[0] == "40.000,30.000,30.000,24.000" and len(lines) == FRAMES
    found = np.array([[float(v) for v in line.split(",")] for line in lines[1:]])
    expected = np.array(json.loads(python(TRACK, data / "exported", data / "frames", FRAMES, BOX)))
    assert np.ptp(expected[:, 0]) > 1, "the target moves"
    np.testing.assert_allclose(found, expected, atol=PX)
    again = run(build / "chase-track", data / "exported", data / "frames", BOX, "--threads", 1, "--frames", 5)
    np.testing.assert_allclose(
        [[float(v) for v in line.split(",")] for line in again.stdout.splitlines()[1:]], found[:4], atol=PX
    )
    assert os.listdir(tmp_path) == ["boxes.txt"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_boxes_found_before_a_signal_are_kept(build, data, tmp_path, number):
    (tmp_path / "many").mkdir()
    for k in range(20_000):
        (tmp_path / "many" / f"{k}.png").symlink_to(data / "frames" / "1.png")
    out = tmp_path / "boxes.txt"
    command = [build / "chase-track", data / "exported", tmp_path / "many", BOX, "--out", out]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as program:
        until = time.monotonic() + 60
        while not any(p.stat().st_size > 200 for p in tmp_path.glob("boxes.txt.*")):
            assert program.poll() is None and time.monotonic() < until
            time.sleep(0.02)
        program.send_signal(number)
        assert program.wait(60) == 128 + number
    text = out.read_text()
    assert 1 < len(text.splitlines()) < 20_000 and text.endswith("\n")
    assert not list(tmp_path.glob("boxes.txt.*"))


def changed(name: str, old: str, new: str):
    def change(folder: Path) -> None:
        file = folder / name
        data = file.read_bytes()
        assert old.encode() in data
        file.write_bytes(data.replace(old.encode(), new.encode(), 1))

    return change


def lengthened(folder: Path) -> None:
    with (folder / "frames.bin").open("ab") as file:
        file.write(b"x")


@pytest.mark.parametrize(
    "change, message",
    [
        (lengthened, "frames.bin: it is not the file that was exported: its checksum differs"),
        (lambda folder: (folder / "frames.xml").unlink(), "frames.xml: it is missing"),
        (lambda folder: (folder / "manifest.json").unlink(), "it holds no manifest.json"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "manifest.json: no JSON"),
        (changed("manifest.json", '"manifest": ', '"manifest": 1'), "it is no manifest of version"),
        (changed("manifest.json", '"image_size"', '"image_sise"'), "image_size is missing"),
        (changed("manifest.json", '"size": 64', '"size": 80'), "size is not that of the settings"),
        (changed("manifest.json", '"frames.xml": "', '"frames.xml": "0'), "its checksum differs"),
    ],
)
def test_a_changed_folder_is_refused_in_one_line(build, data, tmp_path, change, message):
    folder = shutil.copytree(data / "exported", tmp_path / "copy")
    change(folder)
    refused(run(build / "chase-track", folder, data / "frames", BOX), message)


def refused(done: subprocess.CompletedProcess, message: str) -> None:
    assert done.returncode == 2, (done.returncode, done.stderr)
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    assert message in done.stderr


@pytest.mark.parametrize(
    "words, message",
    [
        ([], "MODEL_DIR, VIDEO or FOLDER, and the box"),
        (["{}/exported", "{}/frames", BOX, "more"], "more is one argument too many"),
        (["{}/none", "{}/frames", BOX], "none: there is no such folder"),
        (["{}/exported", "{}/none", BOX], "none: there is no such file or folder"),
        (["{}/exported", "{}/exported", BOX], "no images in this folder"),
        (["{}/exported", "{}/tiny.safetensors", BOX], "no video that this OpenCV can read"),
        (["{}/exported", "{}/frames", "40,30,30"], "give four numbers"),
        (["{}/exported", "{}/frames", "40,30,30,nan"], "give four numbers"),
        (["{}/exported", "{}/frames", "40,30,30,0"], "has no size"),
        (["{}/exported", "{}/frames", "128,30,30,24"], "lies outside the frame of 128x96 pixels"),
        (["{}/exported", "{}/frames", BOX, "--fast"], "--fast is unknown"),
        (["{}/exported", "{}/frames", BOX, "--threads", "0"], "--threads 0: give a whole number"),
        (["{}/exported", "{}/frames", BOX, "--seed", "1.5"], "--seed 1.5: give a whole number"),
        (["{}/exported", "{}/frames", BOX, "--frames"], "--frames needs a value"),
        (["{}/exported", "{}/frames", BOX, "--precision", "fp16"], "choose fp32 or bf16"),
        (["{}/exported", "{}/frames", BOX, "--out", "{}/none/boxes.txt"], "it cannot be written"),
        (["{}/exported", "{}/frames", BOX, "--out", "{}/frames"], "this is no file"),
    ],
)
def test_a_wrong_command_ends_with_one_line(build, data, words, message):
    refused(run(build / "chase-track", *(word.format(data) for word in words)), message)


def test_a_damaged_image_ends_it_with_the_boxes_so_far(build, data, tmp_path):
    frames = shutil.copytree(data / "frames", tmp_path / "frames")
    (frames / "3.png").write_bytes((frames / "3.png").read_bytes()[:3000])
    done = run(build / "chase-track", data / "exported", frames, BOX, "--out", tmp_path / "boxes.txt")
    refused(done, "3.png: no image, or a damaged one")
    assert len((tmp_path / "boxes.txt").read_text().splitlines()) == 2


def test_bf16_is_computed_or_refused(build, data):
    words = data / "exported", data / "frames", BOX, "--frames", 3, "--precision", "bf16"
    done = run(build / "chase-track", *words)
    if done.returncode:
        refused(done, "OpenVINO has no bfloat16 on this processor, use fp32")
    else:
        assert len(done.stdout.splitlines()) == 3


def test_the_help_names_every_option(build):
    done = run(build / "chase-track", "--help")
    assert done.returncode == 0
    for flag in ("--out", "--threads", "--precision", "--seed", "--frames"):
        assert flag in done.stdout


def test_the_example_in_c_of_the_documents_runs(build, data, tmp_path):
    compiler = shutil.which("cc")
    if not compiler:
        pytest.skip("no C compiler")
    text = (ROOT / "docs" / "cpp.md").read_text(encoding="utf-8")
    (tmp_path / "example.c").write_text(re.search(r"```c\n(.*?)```", text, re.DOTALL)[1])
    flags = ["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror", f"-I{ROOT}/csrc/track", f"-L{build}"]
    link = ["-lchase_track", f"-Wl,-rpath,{build}", "-o", tmp_path / "example"]
    made = run(compiler, *flags, tmp_path / "example.c", *link)
    assert made.returncode == 0, made.stderr
    done = run(tmp_path / "example", data / "exported")
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 3, done.stderr
    done = run(tmp_path / "example", data / "none")
    assert done.returncode == 1 and "there is no such folder" in done.stderr


def test_only_the_six_functions_are_visible(build):
    if not (nm := shutil.which("nm")):
        pytest.skip("nm is not installed")
    done = run(nm, "-D", "--defined-only", build / "libchase_track.so")
    names = {line.split()[-1] for line in done.stdout.splitlines()}
    assert names == {f"chase_track_{f}" for f in ("create", "init", "update", "result", "error", "destroy")}


def test_settings_have_the_limits_of_python():
    text = (ROOT / "csrc" / "tracker" / "limits.cpp").read_text(encoding="utf-8")
    rows = re.findall(r'\{"(\w+)", ([^,]+), ([^}]+)\}', text)
    assert {name: (float(least), float(most)) for name, least, most in rows} == LIMITS
