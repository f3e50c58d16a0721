"""Run folders with edited or damaged files, runs that never began, numbers out of range, finished runs."""

import dataclasses
import json
import os
import shutil
import signal
import sys

import pytest
import torch

from chase_fast.data import synthetic
from chase_fast.errors import ChaseError
from chase_fast.fields import Fields
from chase_fast.recipes import search_recipe, train_recipe
from chase_fast.recipes.values import ranges_of
from chase_fast.search import __main__ as search_cli
from chase_fast.search import loop as search_loop
from chase_fast.train import __main__ as train_cli
from chase_fast.train import loop as train_loop
from chase_fast.train.step import TrainStep
from tests.flags import changed
from tests.test_search import TINY
from tests.test_train import TINY as TRAIN

SHORT = ("--epochs", "2", "--iterations", "1")
CLI = {"search": (search_cli.main, TINY), "train": (train_cli.main, TRAIN)}


def start(kind, out, *flags) -> int:
    main, tiny = CLI[kind]
    return main(["demo", *changed(tiny, *changed(SHORT, *flags), "--out", str(out), "--quiet")])


def failing(capsys, kind, out, *flags, resume=True) -> str:
    main = CLI[kind][0]
    assert main([*(["--resume"] if resume else []), *flags, "--out", str(out), "--quiet"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and len(error) < 600, error
    return error


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folders = {kind: tmp_path_factory.mktemp(kind) / "run" for kind in CLI}
    for kind, folder in folders.items():
        assert start(kind, folder) == 0
    return folders


@pytest.fixture(params=list(CLI))
def copy(request, finished, tmp_path):
    """(command, a copy of its finished run)"""
    shutil.copytree(finished[request.param], tmp_path / "run")
    return request.param, tmp_path / "run"


# config.json

EDITS = [
    ({"seed": 10**400}, "seed"),
    ({"seed": -1}, "seed"),
    ({"seed": 1.0}, "seed"),
    ({"seed": True}, "seed"),
    ({"seed": "0"}, "seed"),
    ({"seed": 2**64}, "seed"),
    ({"seed": 1}, "seed"),
    ({"iterations": -5}, "iterations"),
    ({"iterations": 10**30}, "iterations"),
    ({"epochs": 0}, "epochs"),
    ({"lr": float("nan")}, "lr"),
    ({"lr": float("inf")}, "lr"),
    ({"lr": "0.1"}, "lr"),
    ({"lr": None}, "lr"),
    ({"train": [1]}, "train"),
    ({"train": "synthetic"}, "train"),
    ({"train": [["synthetic"]]}, "train"),
    ({"train": []}, "train"),
    ({"backbone": "resnet101"}, "backbone"),
    ({"backbone": ["resnet18"]}, "backbone"),
    ({"batch": 3}, "batch"),
    ({"precision": 16}, "precision"),
    ({"skip_bad": 0}, "skip_bad"),
    ({"channels": 10**6}, "channels"),
    ({"threads": 10**9}, "threads"),
    ({"image_size": 65}, "image"),
    ({"another": 1}, "another"),
]


@pytest.mark.parametrize("change, field", EDITS, ids=lambda v: str(v)[:40])
def test_an_edited_configuration_is_refused(change, field, copy, capsys):
    kind, out = copy
    about = json.loads((out / "config.json").read_text())
    about["config"] |= change
    (out / "config.json").write_text(json.dumps(about))
    before = (out / "history.jsonl").read_bytes()
    assert field in failing(capsys, kind, out).replace("-", "_")
    assert (out / "history.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    "change",
    [
        {"command": 3},
        {"command": ["search"]},
        {"config": []},
        {"config": {}},
        {"seeds": 3},
        {"seeds": [0, 0]},
        {"seeds": ["0"]},
        {"seeds": [-1]},
        {"versions": None},
        {"versions": ["torch"]},
        {"versions": {"torch": 2}},
        {"commit": 7},
        None,
        "deep",
        "bytes",
    ],
    ids=str,
)
def test_a_configuration_of_other_types_is_refused(change, copy, capsys):
    kind, out = copy
    path = out / "config.json"
    if change == "deep":
        path.write_text("[" * 100_000)
    elif change == "bytes":
        path.write_bytes(b"\xff\xfe\x00")
    else:
        about = json.loads(path.read_text())
        for name in list(about) if change is None else ():
            path.write_text(json.dumps({k: v for k, v in about.items() if k != name}))
            if name != "commit":  # not known everywhere
                assert "config.json" in failing(capsys, kind, out)
        path.write_text(json.dumps(about | (change or {"config": None})))
    assert "config.json" in failing(capsys, kind, out)


@pytest.mark.parametrize(
    "change", [{"channels": 9}, {"cell": None}, {"backbone": "resnet50"}, {"feature_size": 9}]
)
def test_an_edited_architecture_is_refused(change, finished, tmp_path, capsys):
    shutil.copytree(finished["train"], tmp_path / "run")
    about = json.loads((tmp_path / "run" / "config.json").read_text())
    about["spec"] |= change
    (tmp_path / "run" / "config.json").write_text(json.dumps(about))
    assert "spec" in failing(capsys, "train", tmp_path / "run")


# last.ckpt


def edited(state, path, value):
    """A checkpoint with another value at a path."""
    key, *rest = path
    if not rest:
        return state | {key: value} if isinstance(state, dict) else [*state[:key], value, *state[key + 1 :]]
    inner = edited(state[key], rest, value)
    return state | {key: inner} if isinstance(state, dict) else [*state[:key], inner, *state[key + 1 :]]


NAN = float("nan")
COMMON = [
    (["epoch"], "3"),
    (["epoch"], 2.0),
    (["epoch"], 10**12),
    (["epoch"], 0),
    (["iteration"], -1),
    (["format"], None),
    (["history"], 3),
    (["history"], {}),
    (["history"], [1, 2, 3]),
    (["history", 1, "epoch"], 7),
    (["history", 1, "train_loss"], "x"),
    (["history", 1, "lr"], NAN),
    (["perf"], []),
    (["perf", 0, "seconds"], None),
    (["timing"], {"seconds": "1"}),
    (["timing", "wait"], -1.0),
    (["config"], None),
    (["config", "seed"], 5),
]
OF = {
    "search": [
        (["sums"], {"train": "x"}),
        (["alphas"], [[1]]),
        (["alphas", 1, "alpha"], [[0.0]]),
        (["neck"], None),
        (["alpha"], torch.zeros(2, 8)),
        (["alpha"], torch.full((5, 8), NAN)),
        (["optimizers"], 3),
        (["alpha"], torch.zeros(5, 8, dtype=torch.float64)),
        (["optimizers", "weights", "steps"], -1),
        (["optimizers", "weights", "moments"], []),
        (["optimizers", "alpha", "moments", 0], torch.zeros(1)),
        (["neck", "preprocess.0.bias"], torch.full((4,), NAN)),
        (["neck", "preprocess.0.bias"], "x"),
        (["history", 2, "alpha_active"], 1),
        (["history", 2, "genotype"], {}),
        (["neck", "more"], torch.zeros(1)),
        (["history", 2, "holdout_loss"], 10**400),
    ],
    "train": [
        (["sums"], 3),
        (["sums"], [0.0]),
        (["sums", 0], NAN),
        (["net"], []),
        (["optimizer"], None),
        (["net", "neck.preprocess.0.bias"], torch.full((4,), NAN)),
        (["history", 0, "val_loss"], None),
        (["net", "neck.preprocess.0.bias"], torch.zeros(4, dtype=torch.int64)),
        (["optimizer", "state"], []),
        (["optimizer", "param_groups"], []),
        (["optimizer", "param_groups", 0, "betas"], "xy"),
        (["optimizer", "state", 0, "exp_avg"], torch.zeros(1)),
        (["optimizer", "state", 0, "step"], 3),
        (["optimizer", "state", 0, "exp_avg_sq"], NAN),
        (["net", "neck.more"], torch.zeros(1)),
    ],
}


@pytest.fixture(scope="module")
def opened(finished):
    """The loops of the finished runs, as a resumed command makes them."""
    found = {}
    for kind, module, name in (("search", search_loop, "Search"), ("train", train_loop, "Training")):
        with pytest.MonkeyPatch.context() as patch:
            made, loop = [], getattr(module, name)
            patch.setattr(loop, "run", lambda self, made=made: made.append(self) or sys.exit(7))
            with pytest.raises(SystemExit):
                CLI[kind][0](["--resume", "--out", str(finished[kind]), "--quiet"])
            (found[kind],) = made
    return found


CASES = [(kind, path, value) for kind in CLI for path, value in (*COMMON, *OF[kind])]


@pytest.mark.parametrize("kind, path, value", CASES, ids=str)
def test_a_checkpoint_of_other_values_is_refused(kind, path, value, opened, finished):
    state = dict(torch.load(finished[kind] / "last.ckpt", weights_only=True))
    opened[kind]._restore(Fields(state, "last.ckpt"))
    with pytest.raises(ChaseError, match=r"last\.ckpt") as caught:
        opened[kind]._restore(Fields(edited(state, path, value), "last.ckpt"))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_a_flipped_bit_of_a_checkpoint_is_noticed(copy, capsys):
    """torch.load itself takes it."""
    kind, out = copy
    path = out / "last.ckpt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(content)
    torch.load(path, weights_only=True)
    assert "last.ckpt" in failing(capsys, kind, out)


@pytest.mark.parametrize("kind, owner", [("search", search_loop.Search), ("train", train_loop.Training)])
def test_a_run_begun_on_other_synthetic_video_does_not_go_on(
    kind, owner, finished, tmp_path, monkeypatch, capsys
):
    """Its images would be others from there on. A finished one is left as it is."""
    original = owner._run_iteration

    def stopped(self, *arguments):
        os.kill(os.getpid(), signal.SIGINT)
        return original(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(owner, "_run_iteration", stopped)
        assert start(kind, tmp_path / "begun") == 130
    shutil.copytree(finished[kind], tmp_path / "finished")
    monkeypatch.setattr(synthetic, "VERSION", synthetic.VERSION + 1)
    capsys.readouterr()
    assert "other synthetic video" in failing(capsys, kind, tmp_path / "begun")
    assert CLI[kind][0](["--resume", "--out", str(tmp_path / "finished"), "--quiet"]) == 0


@pytest.mark.parametrize("content", [b"", b"PK", b"{}", b"\x80\x02]."])
def test_a_checkpoint_that_is_none(content, copy, capsys):
    kind, out = copy
    (out / "last.ckpt").write_bytes(content)
    assert "last.ckpt" in failing(capsys, kind, out)


# finished runs, and those that never began


def snapshot(folder) -> dict:
    return {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.iterdir()}


@pytest.mark.parametrize("copy", ["train"], indirect=True)
def test_a_finished_training_whose_network_is_gone(copy, capsys):
    """last.ckpt holds the last epoch, not the best one: nothing can write it again."""
    kind, out = copy
    (out / "best.safetensors").unlink()
    before = snapshot(out)
    assert "best.safetensors is missing: start again" in failing(capsys, kind, out)
    assert snapshot(out) == before


def test_a_finished_run_is_left_as_it_is(copy, capsys):
    """It may lie on a read-only disk."""
    kind, out = copy
    before = snapshot(out)
    assert CLI[kind][0](["--resume", "--out", str(out)]) == 0
    assert snapshot(out) == before and "report" in capsys.readouterr().out
    (out / "report.html").unlink()
    (out / "history.jsonl").write_bytes(b"")
    assert CLI[kind][0](["--resume", "--out", str(out), "--quiet"]) == 0
    assert (out / "report.html").is_file()
    assert (out / "history.jsonl").read_bytes() == before["history.jsonl"][1]


@pytest.mark.parametrize(
    "kind, owner, name",
    [
        ("search", search_loop, "SearchNetwork"),
        ("search", search_loop.SearchStep, "_iterate"),
        ("train", train_loop, "Losses"),
        ("train", TrainStep, "gradients"),
    ],
)
@pytest.mark.parametrize("error", [RuntimeError("CUDA out of memory"), ZeroDivisionError("ours")])
def test_a_run_that_never_began_leaves_nothing(kind, owner, name, error, tmp_path, monkeypatch, capsys):
    out = tmp_path / "run"

    def failing_step(*arguments, **options):
        raise error

    monkeypatch.setattr(owner, name, failing_step)
    for seeds in ((), ("--seeds", "3", "4"))[: 1 + isinstance(error, RuntimeError)]:
        if isinstance(error, ZeroDivisionError):
            with pytest.raises(ZeroDivisionError):
                start(kind, out, *seeds)
        else:
            assert start(kind, out, *seeds) == 2 and "out of memory" in capsys.readouterr().err
        assert not out.exists()


def test_files_of_the_user_stay(tmp_path, monkeypatch):
    out = tmp_path / "run"

    def noting(*arguments, **options):
        (out / "notes.txt").write_text("mine")
        raise MemoryError

    monkeypatch.setattr(search_loop, "SearchNetwork", noting)
    assert start("search", out) == 2
    assert (out / "notes.txt").read_text() == "mine"


# numbers


@pytest.mark.parametrize(
    "config", [search_recipe("demo"), train_recipe("demo")], ids=lambda c: type(c).__name__
)
def test_every_number_has_a_range(config):
    ranges = {**ranges_of(type(config)), "image_size": None}
    numbers = {f.name for f in dataclasses.fields(config) if type(getattr(config, f.name)) in (int, float)}
    assert numbers - {"order"} == ranges.keys()
    for name in numbers - {"order"}:
        for value in (-1, float("nan"), float("inf"), 10**30):
            with pytest.raises(ValueError, match=f"--{name.replace('_', '-')} "):
                dataclasses.replace(config, **{name: value}).check()


@pytest.mark.parametrize(
    "flags, says",
    [
        ("--batch 1", "--batch of at least 2"),
        ("--batch 2 --accumulate 2", "--batch of at least 4, or a smaller --accumulate"),
        ("--batch 6 --accumulate 6", "--accumulate"),
        ("--batch 3 --accumulate 2", "equal micro-batches"),
        ("--batch 1 --freeze-backbone", "--batch of at least 2"),
        ("--seeds 0 0", "--seeds"),
        ("--seeds -1", "--seeds"),
        ("--seeds 99999999999999999999", "--seeds"),
        ("--seed 99999999999999999999", "--seed"),
        ("--epochs 1000000000000", "--epochs"),
        ("--threads 1000000", "--threads"),
        ("--lr nan", "--lr"),
    ],
)
def test_what_the_network_cannot_do_is_refused_first(flags, says, tmp_path, capsys):
    out = tmp_path / "run"
    words = changed(TRAIN, *changed(SHORT, *flags.split()))
    assert says in failing(capsys, "train", out, "demo", *words, resume=False)
    assert not out.exists()


def test_ranks_need_two_sequences_each():
    config = train_recipe("demo")  # a batch of 4
    assert config.on(2) is config
    with pytest.raises(ValueError, match="--batch of at least 8"):
        config.on(4)
    with pytest.raises(ValueError, match="3 ranks"):
        config.on(3)


@pytest.mark.parametrize(
    "flags", ["--image-size 32 --channels 1", "--image-size 48 --channels 3 --cell plain"]
)
def test_the_smallest_training_runs(flags, tmp_path):
    assert start("train", tmp_path / "run", "--freeze-backbone", *flags.split()) == 0


@pytest.mark.parametrize(
    "flags",
    ["--batch 1 --image-size 32 --channels 1", "--batch 2 --batch-groups 2 --flavour darts --nodes 1"],
)
def test_the_smallest_search_runs(flags, tmp_path):
    assert start("search", tmp_path / "run", *flags.split()) == 0
