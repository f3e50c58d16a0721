"""`import chase_fast`: light, every public name resolves, and the functions do what the commands do."""

import ast
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import chase_fast
from chase_fast.evaluate.__main__ import main as evaluate_command
from chase_fast.search.__main__ import main as search_command
from chase_fast.train.__main__ import main as train_command
from tests.tiny import tiny_tracker
from tests.trees import got10k

PACKAGES = ["chase_fast"] + [
    f"chase_fast.{part}" for part in ("evaluate", "kernels", "nn", "search", "track", "train")
]
SMALL = {"image_size": 64, "train_frames": 1, "test_frames": 1, "batch": 2, "channels": 4, "threads": 1}
SEARCH = SMALL | {"nodes": 1, "epochs": 2, "iterations": 1, "holdout_batches": 1, "warmup_epochs": 1}
TRAIN = SMALL | {"epochs": 1, "iterations": 1, "val_batches": 1, "calibration_batches": 1}


@pytest.fixture(autouse=True)
def as_before(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def flags(values) -> list[str]:
    return [word for name, value in values.items() for word in (f"--{name.replace('_', '-')}", str(value))]


def test_importing_is_light_and_a_name_is_imported_when_used():
    code = (
        "import sys, chase_fast\n"
        "dir(chase_fast); chase_fast.search, chase_fast.track, chase_fast.recipes.SEARCH\n"
        "assert not {'torch', 'cv2', 'numpy.linalg', 'rich'} & set(sys.modules)\n"
        "chase_fast.Tracker\n"
        "assert 'torch' not in sys.modules\n"
        "chase_fast.nn.TrackerNet\n"
        "assert 'torch' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_resolves_and_checkers_see_the_same(package):
    module = importlib.import_module(package)
    for name in module.__all__:
        assert getattr(module, name) is not None
        assert name in dir(module)
    tree = ast.parse(Path(module.__file__).read_text())
    (typed,) = [n for n in tree.body if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"]
    seen = set()
    for node in typed.body:
        home = importlib.import_module("." * node.level + (node.module or ""), package)
        for alias in node.names:
            seen.add(alias.name)
            value, wanted = getattr(module, alias.name), getattr(home, alias.name)
            called = getattr(value, value._call) if getattr(value, "_call", None) else value
            assert called is wanted or value is wanted, f"{package}.{alias.name}"
    plain = {"__version__", "ChaseError", "tune_process", "CELL", "RESULT"}
    assert seen == set(module.__all__) - plain
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = module.nothing


def test_packages_are_called_like_their_function():
    boxes = torch.tensor([[0, 1.0, 1.0, 50.0, 60.0]])
    maps = torch.arange(128.0).reshape(1, 2, 8, 8)
    kernels = chase_fast.kernels
    pooled = kernels.prroi_pool(maps, boxes, (2, 3), 1 / 16)
    assert torch.equal(pooled, kernels.prroi_pool.prroi_pool(maps, boxes, (2, 3), 1 / 16))
    assert torch.equal(pooled, chase_fast.nn.PrRoIPool((2, 3), 1 / 16)(maps, boxes))
    with pytest.raises(TypeError, match="no function"):
        chase_fast.nn()


def test_a_search_is_that_of_the_command(tmp_path):
    result = chase_fast.search("demo", tmp_path / "a", quiet=True, **SEARCH)
    assert search_command(["demo", "--out", str(tmp_path / "b"), "--quiet", *flags(SEARCH)]) == 0
    for name in ("history.jsonl", "cell.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    about = json.loads(result.cell.read_text())
    assert result.genotype == chase_fast.load_cell(str(result.cell))[0]
    assert result.holdout_loss == about["holdout_loss"] == result.about["holdout_loss"]
    assert result.report.is_file()
    assert chase_fast.search(out=tmp_path / "a", resume=True, quiet=True) == result
    with pytest.raises(chase_fast.ChaseError, match="--resume cannot change --channels"):
        chase_fast.search(out=tmp_path / "a", resume=True, channels=8)
    whole = chase_fast.recipes.search_recipe("demo")
    with pytest.raises(chase_fast.ChaseError, match="--resume cannot change"):
        chase_fast.search(whole, out=tmp_path / "a", resume=True)


def test_a_training_is_that_of_the_command_and_its_network_tracks(tmp_path):
    result = chase_fast.train("demo", tmp_path / "a", quiet=True, cell="chase", **TRAIN)
    command = ["demo", "--out", str(tmp_path / "b"), "--quiet", "--cell", "chase", *flags(TRAIN)]
    assert train_command(command) == 0
    for name in ("history.jsonl", "best.safetensors", "result.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert result.val_loss == json.loads((tmp_path / "b" / "result.json").read_text())["val_loss"]
    assert result.report.is_file()
    assert isinstance(chase_fast.Tracker.load(result.checkpoint), chase_fast.Tracker)


def test_an_evaluation_is_that_of_the_command(tmp_path):
    spec, checkpoint = got10k(tmp_path / "data", "val"), tiny_tracker(tmp_path / "tiny.safetensors")
    how = {"preset": "fast", "workers": 0, "pictures": 0, "quiet": True}
    board = chase_fast.evaluate(spec, checkpoint, tmp_path / "a", **how)
    command = f"--data {spec} --checkpoint {checkpoint} --out {tmp_path / 'b'} --preset fast --workers 0"
    assert evaluate_command([*command.split(), "--pictures", "0", "--quiet"]) == 0
    a, b = (json.loads((tmp_path / run / "scores.json").read_text()) for run in "ab")
    assert a["protocols"] == b["protocols"]
    assert board.scores["got10k"]["tiny"].metrics["AO"] > 0
    with pytest.raises(chase_fast.ChaseError, match="preset is 'fsat', expected one of"):
        chase_fast.evaluate(spec, checkpoint, tmp_path / "a", preset="fsat")


@pytest.mark.parametrize(
    "values, message",
    [
        ({"epoch": 3}, "SearchConfig has no value epoch, but epochs"),
        ({"epochs": "3"}, "epochs is '3', expected an integer"),
        ({"epochs": True}, "epochs is True, expected an integer"),
        ({"lr": float("nan")}, "lr is nan, expected a number"),
        ({"train": 3}, "train is 3, expected a list of texts"),
        ({"precision": "fp8"}, "precision is 'fp8', expected one of fp32"),
        ({"config": "dmo"}, "unknown search recipe 'dmo'"),
        ({"config": 3}, "config is a SearchConfig or the name of a recipe, not 3"),
        ({"resume": True}, "--resume needs --out"),
    ],
)
def test_wrong_values_are_one_line(values, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(chase_fast.ChaseError, match=message):
        chase_fast.search(**values)
    assert not any(tmp_path.iterdir())
