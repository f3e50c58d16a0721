"""What a command says before torch is loaded, which takes two seconds: mistakes, and a first line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from chase_fast.kernels.mixed_op import KERNEL, POOLS
from chase_fast.nn.mixing import mixing_table, mixing_weights
from chase_fast.nn.space import CONVOLUTIONS, WEIGHT_FREE
from tests import tolerances

# torch raises when it is imported; in: a command a line, words between tabs; out: exit code, output, error
PROGRAM = """
import contextlib, io, json, sys
from chase_fast.errors import ChaseError

class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name in ("torch", "torchvision", "triton"):
            raise ChaseError("TORCH")

sys.meta_path.insert(0, NoTorch())
from chase_fast.__main__ import main
for line in sys.stdin:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(line.rstrip("\\n").split("\\t"))
        except SystemExit as e:
            code = e.code
    print(json.dumps([code, out.getvalue(), err.getvalue()]))
"""
TRACK = "track frames --checkpoint some.safetensors"
EVALUATE = "evaluate --data folder:data --checkpoint some.safetensors"
MISTAKES = {  # words -> what the one line says
    "search nosuch": "unknown search recipe 'nosuch'",
    "search --epochs x": "--epochs x",
    "search --method nosuch": "unknown search method 'nosuch'",
    "search --ops nosuch": "unknown operation 'nosuch'",
    "search --device gpu": "--device gpu is unknown",
    "search --train got10k:nowhere:train": "got10k:nowhere:train: there is no folder nowhere",
    "search --holdout nosuch:x": "unknown dataset kind 'nosuch'",
    "search --backbone-weights nowhere.pth": "backbone weights nowhere.pth: no such file",
    "search --out data": "data exists and is not empty",
    "search --resume --out nowhere": "there is no run folder nowhere",
    "search --import nowhere.py": "--import nowhere.py: no such file",
    "train --val lasot:nowhere": "lasot:nowhere: there is no folder nowhere",
    "train --cell nowhere.json": "--cell nowhere.json: no such file",
    "train --cell some.safetensors": "--cell some.safetensors: cannot be read as JSON",
    "train --cell other.json": "unknown operation 'conv_1x1'",
    "train --init nowhere.safetensors": "checkpoint nowhere.safetensors: no such file",
    "train --device cuda:x": "--device cuda:x is unknown",
    f"{TRACK} --box 1,2,3": "--box 1,2,3: give four numbers",
    f"{TRACK} --box 1,2,-3,4": "box 1,2,-3,4 has no size",
    f"{TRACK} --box 1,2,nan,4": "box 1,2,nan,4 holds NaN",
    f"{TRACK} --box 1,2,3,4 --preset nosuch": "--preset nosuch",
    f"{TRACK} --box 1,2,3,4 --set nosuch=1": "unknown tracker setting 'nosuch'",
    f"{TRACK} --box 1,2,3,4 --start 9": "nothing is left after --start 9",
    f"{TRACK} --box 1,2,3,4 --out some.safetensors": "--out some.safetensors is a file",
    "track frames --box 1,2,3,4 --checkpoint nowhere": "--checkpoint nowhere: no such file",
    "track nowhere.mp4 --box 1,2,3,4 --checkpoint some.safetensors": "nowhere.mp4: no such file",
    TRACK: "there is no display here",
    "evaluate --data got10k:nowhere:val --checkpoint some.safetensors": "there is no folder nowhere",
    "evaluate --data folder:data --checkpoint nowhere": "--checkpoint nowhere: no such file",
    "evaluate --data folder:data --results nowhere": "--results nowhere: there is no such folder",
    f"{EVALUATE} --opencv nosuch": "nosuch",
    f"{EVALUATE} --results nowhere": "--results nowhere: there is no such folder",
    f"{EVALUATE} --protocol nosuch": "nosuch",
    f"{EVALUATE} --set nosuch=1": "unknown tracker setting 'nosuch'",
    f"{EVALUATE} --device gpu": "--device gpu is unknown",
    f"{EVALUATE} --workers -1": "--workers -1",
    "report": "give a run folder",
    "report nowhere": "nowhere: no such folder",
    "report data": "data: no run folder",
    "report --cell nowhere.json --svg x.svg": "--cell nowhere.json: no such file",
    "report --cell chase": "--cell needs --svg",
    "convert nowhere.pth x.safetensors": "checkpoint nowhere.pth: no such file",
    "convert some.safetensors x.zip": "x.zip: its ending must be one of",
    "convert some.safetensors x.safetensors --cell nosuch": "--cell nosuch: no such file",
    "export nowhere --out x": "FILE nowhere: no such file",
    "export some.safetensors --out data": "--out data exists and is not empty",
    "data.pack got10k:nowhere:train --out x": "there is no folder /",
    "data.pack folder:data --out some.safetensors": "some.safetensors is a file",
    "data.pack folder:data --out x --every 0": "--every 0",
    "doctor --data nosuch:x": "unknown dataset kind 'nosuch'",
    "doctor --data got10k:nowhere:val": "there is no folder nowhere",
}
FIRST = {  # words -> the first line, on standard output
    "search --out searched": "recipe demo, run folder searched",
    "train --out trained": "recipe demo, run folder trained",
    f"{TRACK} --box 1,2,3,4": "opening frames, loading some.safetensors ...",
    EVALUATE: "reading folder:data ...",
    "convert some.safetensors x.safetensors": "loading some.safetensors ...",
    "export some.safetensors --out x": "loading some.safetensors ...",
    "doctor": "looking at packages, devices and ops ...",
}
WHOLE = {  # words -> a file that is made without torch
    "report --cell chase --svg cell.svg": "cell.svg",
    "report run": "run/report.html",
}


@pytest.fixture(scope="module")
def ended(tmp_path_factory) -> tuple[Path, dict[str, tuple[int, str, str]]]:
    """Where; and words -> exit code, output, error, of all commands one after the other in one process."""
    folder = tmp_path_factory.mktemp("startup")
    for place in (folder / "frames", folder / "data" / "one", folder / "run"):
        place.mkdir(parents=True)
        for i in range(4 if place.name != "run" else 0):
            cv2.imwrite(str(place / f"{i:04d}.png"), np.full((60, 80, 3), 40 * i, np.uint8))
    (folder / "data" / "one" / "groundtruth.txt").write_text("10,10,20,20\n" * 4)
    (folder / "some.safetensors").write_text("no weights")
    (folder / "other.json").write_text('{"nodes": [[["conv_1x1", 0], ["none", 1]]]}')
    (folder / "run" / "alphas.jsonl").write_text(json.dumps({"epoch": 1, "alpha": [[0.0] * 8] * 2}) + "\n")
    (folder / "run" / "history.jsonl").write_text('{"epoch": 1, "holdout_loss": 1.0}\n')
    commands = [*MISTAKES, *FIRST, *WHOLE]
    variables = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY")}
    variables["PYTHONPATH"] = str(Path(__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input="".join("\t".join(words.split()) + "\n" for words in commands),
        cwd=folder,
        env=variables,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return folder, dict(zip(commands, map(json.loads, done.stdout.splitlines()), strict=True))


@pytest.mark.parametrize("words", MISTAKES)
def test_a_mistake_is_told_before_torch_is_loaded(ended, words):
    code, _, error = ended[1][words]
    assert code == 2 and MISTAKES[words] in error and error.count("\n") == 1


@pytest.mark.parametrize("words", FIRST)
def test_the_first_line_comes_before_torch(ended, words):
    code, output, error = ended[1][words]
    assert output.splitlines()[0] == FIRST[words]
    assert code == 2 and error == "error: TORCH\n"  # nothing was wrong, and torch came next


@pytest.mark.parametrize("words", WHOLE)
def test_what_is_drawn_needs_no_torch(ended, words):
    folder, found = ended
    assert found[words][::2] == [0, ""] and (folder / WHOLE[words]).stat().st_size > 1000


def test_what_is_known_without_torch_is_what_torch_computes():
    assert tuple(KERNEL) == CONVOLUTIONS and ("none", *POOLS, "skip_connect") == WEIGHT_FREE
    alpha = torch.randn(14, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 30
    for mixing in ("softmax", "sigmoid"):
        table = torch.tensor(mixing_table(alpha.tolist(), mixing), dtype=torch.float64)
        tolerances.assert_close(table, mixing_weights(alpha, mixing), tolerances.KERNEL[torch.float64])
