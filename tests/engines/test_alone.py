"""An exported folder tracks in a process of its own: without torch, with little memory.

These tests start processes and come before any that loads an engine in this one (see conftest.py).
"""

import json
import subprocess
import sys

import pytest

from tests.tiny import tiny_tracker

pytest.importorskip("openvino")
MOST_MB = 400
PROGRAM = """
import json, sys
import numpy as np
import chase_fast

tracker = chase_fast.Tracker.load(sys.argv[1])
frame = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
tracker.init(frame, (100, 100, 60, 60))
box = tracker.update(np.roll(frame, 3, 1)).box
print(json.dumps({
    "box": box, "torch": "torch" in sys.modules, "about": tracker.about, "device": str(tracker.device),
    "kb": next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")),
}))
"""


def run(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    file = tiny_tracker(folder / "tiny.safetensors")
    done = run("-m", "chase_fast.export", str(file), "--out", str(folder / "ov"))
    assert done.returncode == 0, done.stderr
    return folder


def test_a_tracker_runs_without_torch_in_little_memory(exported):
    done = run("-c", PROGRAM, str(exported / "ov"))
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert not said["torch"] and said["about"].startswith("OpenVINO") and said["device"] == "cpu"
    assert said["kb"] / 1024 < MOST_MB
    by_torch = run("-c", PROGRAM, str(exported / "tiny.safetensors"))
    expected = json.loads(by_torch.stdout)
    assert expected["torch"] and said["box"] == pytest.approx(expected["box"], abs=0.01)


def test_the_command_runs_without_torch(exported, tmp_path):
    import cv2
    import numpy as np

    rng = np.random.default_rng(0)
    for k in range(3):
        cv2.imwrite(str(tmp_path / f"{k}.png"), rng.integers(0, 256, (120, 160, 3), np.uint8))
    words = str(tmp_path), "--box", "50,40,30,30", "--checkpoint", str(exported / "ov"), "--out"
    code = "import sys; from chase_fast.track.__main__ import main; code = main(sys.argv[1:]); "
    done = run("-c", code + "sys.exit(code or 9 * ('torch' in sys.modules))", *words, str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    about = json.loads((tmp_path / "out" / "result.json").read_text())
    assert about["engine"].startswith("OpenVINO") and about["device"] == "cpu" and about["threads"] >= 1
    manifest = json.loads((exported / "ov" / "manifest.json").read_text())
    assert about["model_sha256"] == manifest["files"]["frames.bin"] and about["model_precision"] == "fp32"
    assert len((tmp_path / "out" / "boxes.txt").read_text().splitlines()) == 3


def test_an_engine_runs_on_a_cpu_alone(exported):
    done = run("-c", PROGRAM.replace("sys.argv[1])", "sys.argv[1], device='cuda')"), str(exported / "ov"))
    assert done.returncode and "--engine openvino runs on a CPU: add --device cpu" in done.stderr
