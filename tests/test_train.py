"""The training end to end on tiny synthetic video: files, resume, seeds, a stop that keeps the batch."""

import json
import os
import subprocess
import sys

import pytest
import torch

from chase_fast.checkpoint import load_tracker
from chase_fast.data import Batch
from chase_fast.nn.genotype import CHASE
from chase_fast.runs import RunFolder
from chase_fast.train import __main__ as cli
from chase_fast.train import loop
from chase_fast.train.step import TrainStep
from tests.flags import changed

SMALL = "--image-size 64 --train-frames 1 --test-frames 1 --batch 2 --channels 4 --threads 1"
SHORT = "--epochs 2 --iterations 2 --val-batches 1 --calibration-batches 1"
TINY = f"{SMALL} {SHORT} --train synthetic:a --val synthetic:b".split()
DETERMINISTIC = ("history.jsonl", "best.safetensors", "result.json")
TERMS = ("loss", "final", "initial", "middle", "box")


@pytest.fixture(autouse=True, scope="module")
def quick_disk():
    """A checkpoint is 100 MB: the tests kill processes, not the machine, so nothing has to reach the disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(autouse=True)
def same_threads():
    """`--threads` of a run must not leak into other tests."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def train(out, *flags, recipe="demo") -> int:
    return cli.main([recipe, *changed(TINY, "--out", str(out), "--quiet", *flags)])


def rows(out, name="history.jsonl") -> list[dict]:
    return [json.loads(line) for line in (out / name).read_text().splitlines()]


def read(out, name) -> dict:
    return json.loads((out / name).read_text())


def assert_same(a, b) -> None:
    for name in DETERMINISTIC:
        assert (a / name).read_bytes() == (b / name).read_bytes(), name


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished tiny training, with a moving average and clipping; a checkpoint after every iteration."""
    out = tmp_path_factory.mktemp("train") / "run"
    assert train(out, *RESUMED) == 0
    return out


RESUMED = ("--checkpoint-iterations", "1", "--ema", "0.9", "--clip-norm", "5")


def test_run_folder(finished):
    history, result = rows(finished), read(finished, "result.json")
    assert [row["epoch"] for row in history] == [0, 1, 2]
    keys = {f"{role}_{term}" for role in ("train", "val") for term in TERMS}
    assert all(row.keys() == {"epoch", "lr", "lr_backbone", "grad_norm"} | keys for row in history)
    assert all(history[0][f"train_{term}"] is None for term in TERMS) and history[0]["grad_norm"] is None
    assert all(row[key] is not None for row in history[1:] for key in keys | {"grad_norm"})
    best = min(history[1:], key=lambda row: row["val_loss"])
    assert (result["epoch"], result["val_loss"]) == (best["epoch"], best["val_loss"])
    assert (
        set(result["parameters"]) == set(result["macs"]) == {"backbone", "neck", "classifier", "box", "total"}
    )
    assert {"spec", "recipe", "seed", "threads", "versions", "commit", "train", "val"} <= result.keys()
    perf = rows(finished, "perf.jsonl")
    assert all(p["seconds"] > 0 and p["samples_per_second"] > 0 and p["peak_memory_mb"] > 0 for p in perf)
    assert {p["epoch"] for p in perf} == {1, 2}
    about = read(finished, "config.json")
    assert about["command"] == "train" and about["config"]["channels"] == 4
    assert about["spec"] == result["spec"] and about["spec"]["cell"] == CHASE.to_data()
    assert (finished / "report.html").stat().st_size > 1000
    assert list(finished.glob("events.out.tfevents*")) and not list(finished.glob(".tmp-*"))


def test_best_network_loads_and_says_where_it_comes_from(finished):
    checkpoint = load_tracker(finished / "best.safetensors")
    assert checkpoint.spec.to_data() == read(finished, "result.json")["spec"]
    assert not checkpoint.net.training
    assert {
        "recipe",
        "config",
        "seed",
        "epoch",
        "val_loss",
        "versions",
        "commit",
        "data",
    } <= checkpoint.about.keys()
    assert checkpoint.about["data"][0].startswith("train: synthetic:a")


def test_init_starts_from_a_network_and_the_validation_does_not_depend_on_the_seed(finished, tmp_path):
    flags = (
        "--init",
        str(finished / "best.safetensors"),
        "--seed",
        "7",
        "--epochs",
        "1",
        "--iterations",
        "1",
    )
    assert train(tmp_path / "run", *flags) == 0
    untrained = rows(tmp_path / "run")[0]  # of this run
    assert untrained["val_loss"] == read(finished, "result.json")["val_loss"]


# resume

KILLER = """
import os, signal, sys
from chase_fast.train import step, __main__ as cli
original, count = step.TrainStep.update, 0
def killing(*arguments):
    global count
    count += 1
    if count == 4:  # the second step of epoch 2
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*arguments)
step.TrainStep.update, os.fsync = killing, lambda descriptor: None
sys.exit(cli.main(sys.argv[1:]))
"""


def test_killed_and_resumed_ends_the_same(finished, tmp_path):
    out = tmp_path / "run"
    flags = changed(TINY, *RESUMED, "--out", str(out), "--quiet")
    command = [sys.executable, "-c", KILLER, "demo", *flags]
    killed = subprocess.run(command, capture_output=True, text=True)
    assert killed.returncode == -9, killed.stderr
    assert RunFolder(out).load_checkpoint()["iteration"] == 1
    assert cli.main(["--out", str(out), "--resume", "--quiet"]) == 0
    assert_same(finished, out)


def test_killed_at_writes_and_resumed_ends_the_same(finished, tmp_path, monkeypatch):
    """Each attempt dies at a later one of its writes, until one gets through."""

    class Killed(BaseException):
        pass

    out, real, attempts, writes = tmp_path / "run", os.replace, 0, 0

    def replace(source, target):
        nonlocal writes
        writes += 1
        if writes == 4 * attempts:
            raise Killed
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    while True:
        attempts, writes = attempts + 1, 0
        flags = ["--resume"] if (out / "config.json").exists() else []
        try:
            assert cli.main(["demo", *changed(TINY, *RESUMED), "--out", str(out), "--quiet", *flags]) == 0
            break
        except Killed:
            continue
    assert attempts > 2
    assert_same(finished, out)


def test_interrupt_saves_and_resumes(finished, tmp_path, monkeypatch, capsys):
    out, original = tmp_path / "run", loop.Training._run_iteration

    def step(self, epoch, batches):
        self.interrupted = epoch == 2
        return original(self, epoch, batches)

    monkeypatch.setattr(loop.Training, "_run_iteration", step)
    assert train(out, *RESUMED) == 130
    assert "--resume" in capsys.readouterr().err
    monkeypatch.undo()
    state = RunFolder(out).load_checkpoint()
    assert (state["epoch"], state["iteration"]) == (2, 1)
    assert cli.main(["--out", str(out), "--resume", "--quiet"]) == 0
    assert_same(finished, out)


def test_seeds_pick_the_smallest_validation_loss_and_resume_without_the_cell_file(tmp_path):
    cell, out = tmp_path / "cell.json", tmp_path / "runs"
    nodes = [[["skip_connect", 1], ["none", 0]], [["sep_conv_3x3", 0], ["skip_connect", 2]]]
    cell.write_text(json.dumps({"genotype": {"nodes": nodes}, "flavour": "darts", "channels": 6}))
    flags = (
        "--cell",
        str(cell),
        "--channels",
        "0",
        "--epochs",
        "1",
        "--iterations",
        "1",
        "--freeze-backbone",
    )
    assert train(out, *flags, "--seeds", "0", "3") == 0
    results = {k: read(out / f"seed_{k}", "result.json") for k in (0, 3)}
    assert all(r["spec"]["cell"] == {"nodes": nodes} for r in results.values())
    assert all((r["spec"]["flavour"], r["spec"]["channels"]) == ("darts", 6) for r in results.values())
    best = min(results.values(), key=lambda r: r["val_loss"])
    result = read(out, "result.json")
    assert result["seed"] == best["seed"]
    assert result["val_loss_of_seeds"] == {str(k): r["val_loss"] for k, r in results.items()}
    assert load_tracker(out / "best.safetensors").about["seed"] == best["seed"]
    cell.unlink()
    (out / "result.json").unlink()
    assert cli.main(["--out", str(out), "--resume", "--quiet"]) == 0
    assert read(out, "result.json") == result


def test_non_finite_loss_stops_and_keeps_the_batch(finished, tmp_path, monkeypatch, capsys):
    out, original, calls = tmp_path / "run", TrainStep.gradients, 0

    def gradients(self, batch):
        nonlocal calls
        calls += 1
        if calls == 4:
            batch.test_images[0, 1] = float("nan")
        return original(self, batch)

    monkeypatch.setattr(TrainStep, "gradients", gradients)
    assert train(out, *RESUMED) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: training loss is nan in epoch 2, iteration 2") and "\n" not in error
    assert "bad_batch.safetensors" in error
    from safetensors.torch import load_file

    batch = Batch(**load_file(out / "bad_batch.safetensors"))
    assert batch.test_images[0, 1].isnan().all() and not batch.test_images[0, 0].isnan().any()
    state, last = RunFolder(out).load_checkpoint(), RunFolder(finished).load_checkpoint()
    assert (state["epoch"], state["iteration"]) == (2, 1)  # the step before: unharmed
    assert state["history"] == last["history"][:2]
    assert all(t.isfinite().all() for t in state["net"].values())


# recipes and data


@pytest.mark.parametrize(
    "recipe, flags",
    [
        ("chase_dimp", ("--cell", "random:3", "--precision", "bf16")),
        ("prdimp18", ("--freeze-backbone-bn", "--filter-iterations", "1", "--test-frames", "2")),
        ("dimp18", ("--no-channels-last",)),
    ],
)
def test_recipes_run(recipe, flags, tmp_path):
    short = ("--backbone", "resnet18", "--backbone-weights", "random", "--epochs", "1", "--iterations", "1")
    assert train(tmp_path / "run", *short, *flags, recipe=recipe) == 0
    history = rows(tmp_path / "run")
    assert (history[1]["val_middle"] is None) == ("--filter-iterations" in flags)
    assert history[1]["val_box"] is not None


def test_trackingnet_lasot_coco_and_got10k_go_through_the_trainer(tmp_path):
    from tests import trees

    data = [
        trees.trackingnet(tmp_path / "TrackingNet"),
        f"{trees.lasot(tmp_path / 'LaSOT')}*0.25",
        trees.coco(tmp_path / "COCO", 2014),
        trees.coco(tmp_path / "COCO17", 2017),
    ]
    val = trees.got10k(tmp_path / "GOT-10k", "val")
    flags = (
        "--train",
        *data,
        "--val",
        val,
        "--freeze-backbone",
        "--batch",
        "8",
        "--epochs",
        "1",
        "--iterations",
        "1",
    )
    assert train(tmp_path / "run", *flags) == 0
    summary = load_tracker(tmp_path / "run" / "best.safetensors").about["data"]
    assert [line.split(":")[1].strip() for line in summary] == [
        "trackingnet",
        "lasot",
        "coco",
        "coco",
        "got10k",
    ]


# errors


def failing(capsys, *argv) -> str:
    """The one line of a command that must fail with exit code 2."""
    assert cli.main([*argv, "--quiet"]) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ") and "\n" not in error, error
    return error


def write_cell(folder, nodes) -> str:
    path = folder / "cell.json"
    path.write_text(json.dumps({"genotype": {"nodes": nodes}}))
    return str(path)


@pytest.mark.parametrize(
    "argv, says",
    [
        (["prdimp"], "unknown training recipe 'prdimp'"),
        (["prdimp50"], "--train"),
        (["--train", "nonsense:x"], "nonsense"),
        (["--train", "got10k:/no/such/folder:train"], "/no/such/folder"),
        (["--val", "folder:/no/such/folder"], "/no/such/folder"),
        (["--image-size", "100"], "--image-size"),
        (["--batch", "5", "--accumulate", "2"], "--accumulate"),
        (["--cell", "no_such_cell"], "no_such_cell"),
        (["--ema", "1"], "--ema"),
        (["--lr", "-1"], "--lr"),
        (["--device", "cuda:77"], "--device"),
        (["--backbone-weights", "/no/such/file.pth"], "/no/such/file.pth"),
        (["--init", "/no/such/file.safetensors"], "/no/such/file.safetensors"),
        (["--seeds", "1", "1"], "--seeds"),
        (["--resume"], "--out"),
    ],
)
def test_wrong_input_is_one_line(argv, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert says in failing(capsys, *argv)
    assert not list(tmp_path.glob("runs/*")), "a run that never began leaves no folder"


@pytest.mark.parametrize(
    "nodes, says",
    [
        ([[["skip_connect", 2]]], "source 2"),  # a node cannot read itself, nor a later one
        ([[["skip_connect", 0]], [["skip_connect", 3]]], "source 3"),
        ([[["conv_9x9", 0]]], "conv_9x9"),
        ([], "no nodes"),
        ("text", "genotype"),
    ],
)
def test_a_bad_cell_is_one_line(nodes, says, tmp_path, capsys):
    assert says in failing(capsys, "--cell", write_cell(tmp_path, nodes), "--out", str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_init_with_another_architecture_names_the_keys(finished, tmp_path, capsys):
    flags = (*TINY, "--init", str(finished / "best.safetensors"), "--cell", "plain")
    error = failing(capsys, "demo", *flags, "--out", str(tmp_path / "run"))
    assert "--init" in error and "neck." in error


def test_out_and_resume_errors(finished, tmp_path, capsys):
    assert "not empty" in failing(capsys, "--out", str(finished))
    assert "no run folder" in failing(capsys, "--out", str(tmp_path / "missing"), "--resume")
    assert "--channels" in failing(capsys, "--out", str(finished), "--resume", "--channels", "8")
    assert "recipe" in failing(capsys, "prdimp50", "--out", str(finished), "--resume")
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text(json.dumps({"command": "search"} | {}))
    assert "search" in failing(capsys, "--out", str(other), "--resume")
    state = torch.load(finished / "last.ckpt", weights_only=True)
    (other / "config.json").write_bytes((finished / "config.json").read_bytes())
    torch.save(state | {"net": {}}, other / "last.ckpt")
    assert "last.ckpt" in failing(capsys, "--out", str(other), "--resume")
    (other / "last.ckpt").write_bytes(b"not a checkpoint")
    assert "last.ckpt" in failing(capsys, "--out", str(other), "--resume")


def test_shared_sequences_are_warned_about(tmp_path, capsys):
    flags = ("--val", "synthetic:a*2", "--epochs", "1", "--iterations", "1", "--freeze-backbone")
    assert train(tmp_path / "run", *flags) == 0
    assert "train and val share synthetic:a" in capsys.readouterr().err


def test_unknown_flag_exits_with_2():
    with pytest.raises(SystemExit) as e:
        cli.main(["--no-such-flag"])
    assert e.value.code == 2
