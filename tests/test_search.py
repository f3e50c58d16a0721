"""The search end to end on tiny synthetic video: result, determinism, resume, errors, early stop, recipes."""

import dataclasses
import errno
import json
import os
import pickle
import subprocess
import sys

import pytest
import torch

from chase_fast.errors import ChaseError
from chase_fast.nn.genotype import Genotype
from chase_fast.nn.search_cell import SearchCell
from chase_fast.recipes import SEARCH, search_recipe
from chase_fast.runs import RunFolder
from chase_fast.runs.job import resolve
from chase_fast.search import __main__ as cli
from chase_fast.search import loop, schedule
from chase_fast.search.bilevel import FlatParameters, first_order, second_order
from chase_fast.search.diagnostics import cell_counts, dominant_eigenvalue
from chase_fast.search.network import SearchNetwork
from chase_fast.search.options import SearchCommand
from tests.flags import changed

TINY = (
    "--epochs 3 --iterations 2 --warmup-epochs 1 --holdout-batches 1 --calibration-batches 1 --patience 0",
    "--image-size 64 --train-frames 1 --test-frames 1 --batch 2 --channels 4 --nodes 2",
    "--backbone resnet18 --backbone-weights random",
    "--train synthetic:a --val synthetic:b --holdout synthetic:c",
    "--threads 1 --checkpoint-iterations 1",
)
TINY = " ".join(TINY).split()
DETERMINISTIC = ("history.jsonl", "alphas.jsonl", "cell.json", "best.safetensors")


@pytest.fixture(autouse=True)
def same_threads():
    """`--threads` of a run must not leak into other tests."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def search(out, *flags, recipe="demo") -> int:
    return cli.main([recipe, *changed(TINY, "--out", str(out), "--quiet", *flags)])


def rows(out, name="history.jsonl") -> list[dict]:
    return [json.loads(line) for line in (out / name).read_text().splitlines()]


def assert_same(a, b) -> None:
    for name in DETERMINISTIC:
        assert (a / name).read_bytes() == (b / name).read_bytes(), name


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished tiny search."""
    out = tmp_path_factory.mktemp("search") / "run"
    assert search(out) == 0
    return out


def test_run_folder(finished):
    history, cell = rows(finished), json.loads((finished / "cell.json").read_text())
    assert [row["epoch"] for row in history] == [0, 1, 2, 3]
    assert [row["alpha_active"] for row in history] == [False, False, True, True]
    assert [row["val_loss"] is None for row in history] == [True, True, False, False]
    best = min(history[2:], key=lambda row: row["holdout_loss"])
    assert (cell["epoch"], cell["holdout_loss"]) == (best["epoch"], best["holdout_loss"])
    assert cell["genotype"] == json.loads(best["genotype"])
    assert len(Genotype.from_data(cell["genotype"]).nodes) == 2
    assert {"recipe", "flavour", "seed", "versions", "commit"} <= cell.keys()
    alphas = [torch.tensor(row["alpha"]) for row in rows(finished, "alphas.jsonl")]
    assert all(a.shape == (5, 8) for a in alphas)
    assert torch.equal(alphas[0], alphas[1]) and not torch.equal(alphas[1], alphas[2])
    perf = rows(finished, "perf.jsonl")
    assert all(p["seconds"] > 0 and p["peak_memory_mb"] > 0 for p in perf)
    assert json.loads((finished / "config.json").read_text())["config"]["channels"] == 4
    assert (finished / "report.html").stat().st_size > 1000
    assert list(finished.glob("events.out.tfevents.*"))
    assert not list(finished.glob(".tmp-*"))


def test_tensorboard_reads_the_events(finished):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(finished))
    events.Reload()
    values = [e.value for e in events.Scalars("holdout_loss")]
    assert values == pytest.approx([row["holdout_loss"] for row in rows(finished)])


def test_same_seed_same_digits_and_other_seed_other(finished, tmp_path):
    assert search(tmp_path / "again") == 0
    assert_same(finished, tmp_path / "again")
    assert search(tmp_path / "other", "--seed", "1") == 0
    assert rows(finished) != rows(tmp_path / "other")


KILLER = """
import os, signal, sys
from chase_fast.search import loop, __main__ as cli
owner, name, calls = eval(sys.argv[1]), sys.argv[2], int(sys.argv[3])
original, count = getattr(owner, name), 0
def killing(*arguments, **options):
    global count
    count += 1
    if count == calls:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*arguments, **options)
setattr(owner, name, killing)
sys.exit(cli.main(sys.argv[4:]))
"""


@pytest.mark.parametrize(
    "owner, name, calls",
    [
        ("loop.SearchStep", "_architect", 2),  # in the middle of epoch 2
        ("os", "fsync", 9),  # while a file is written
    ],
)
def test_killed_and_resumed_ends_the_same(finished, tmp_path, owner, name, calls):
    out = tmp_path / "run"
    arguments = [owner, name, str(calls), "demo", *TINY, "--out", str(out), "--quiet"]
    command = [sys.executable, "-c", KILLER, *arguments]
    killed = subprocess.run(command, capture_output=True, text=True)
    assert killed.returncode == -9, killed.stderr
    assert cli.main(["--out", str(out), "--resume", "--quiet"]) == 0
    assert_same(finished, out)


def test_killed_at_any_write_and_resumed_ends_the_same(finished, tmp_path, monkeypatch):
    """The n-th attempt dies when it renames its n-th file into place, until one gets through."""

    class Killed(BaseException):
        pass

    out, real, attempts, writes = tmp_path / "run", os.replace, 0, 0

    def replace(source, target):
        nonlocal writes
        writes += 1
        if writes == attempts:
            raise Killed
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    while True:
        attempts, writes = attempts + 1, 0
        flags = ["--resume"] if (out / "config.json").exists() else []
        try:
            assert cli.main(["demo", *changed(TINY, "--out", str(out), "--quiet", *flags)]) == 0
            break
        except Killed:
            continue
    assert attempts > 8
    assert_same(finished, out)


def test_interrupt_saves_and_resumes(finished, tmp_path, monkeypatch, capsys):
    out, original, steps = tmp_path / "run", loop.Search._run_iteration, 0

    def step(self, *arguments):
        nonlocal steps
        steps += 1
        self.interrupted = steps == 3
        return original(self, *arguments)

    monkeypatch.setattr(loop.Search, "_run_iteration", step)
    assert search(out) == 130
    assert "--resume" in capsys.readouterr().err
    assert RunFolder(out).load_checkpoint()["iteration"] == 1
    assert cli.main(["--out", str(out), "--resume", "--quiet"]) == 0
    assert_same(finished, out)


def test_disk_full_keeps_the_previous_checkpoint(finished, tmp_path, monkeypatch, capsys):
    out, real, saves = tmp_path / "run", os.fsync, 0

    def fsync(descriptor):
        nonlocal saves
        saves += "last.ckpt" in os.readlink(f"/proc/self/fd/{descriptor}")
        if saves == 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    assert search(out) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: disk full") and "\n" not in error
    assert not list(out.glob(".tmp-*"))
    assert RunFolder(out).load_checkpoint()["epoch"] == 2
    monkeypatch.undo()
    assert cli.main(["--out", str(out), "--resume", "--quiet"]) == 0
    assert_same(finished, out)


def test_seeds_pick_the_smallest_holdout_loss(tmp_path):
    out = tmp_path / "runs"
    flags = ("--seeds", "0", "1", "--epochs", "2", "--iterations", "1")
    assert search(out, *flags) == 0
    cells = {k: json.loads((out / f"seed_{k}" / "cell.json").read_text()) for k in (0, 1)}
    best = min(cells.values(), key=lambda cell: cell["holdout_loss"])
    cell = json.loads((out / "cell.json").read_text())
    assert cell["genotype"] == best["genotype"] and cell["seed"] == best["seed"]
    assert cell["holdout_loss_of_seeds"] == {str(k): c["holdout_loss"] for k, c in cells.items()}
    (out / "cell.json").unlink()
    assert cli.main(["--out", str(out), "--resume", "--quiet"]) == 0
    assert json.loads((out / "cell.json").read_text()) == cell
    job = resolve(SearchCommand(), ["--out", str(out), "--resume", "--seed-per-rank"], world=2)
    assert job.options.seeds == (0, 1) and job.of_seed(1).options.out == out / "seed_1"


ELSEWHERE = "demo", "paper", "chase_st", "pc_darts", "darts_minus"  # here, or in test_methods.py


@pytest.mark.parametrize("recipe", [name for name in SEARCH if name not in ELSEWHERE])
def test_every_recipe_runs(recipe, tmp_path):
    out = tmp_path / "run"
    assert search(out, "--iterations", "1", recipe=recipe) == 0
    config = search_recipe(recipe)
    cell = Genotype.from_data(json.loads((out / "cell.json").read_text())["genotype"])
    assert len(cell.nodes) == 2
    assert {op for node in cell.nodes for op, _ in node} <= set(config.ops)
    assert all(len(node) == 2 for node in cell.nodes)


def test_darts_flavour_hessian_unequal_frames_and_fp64(tmp_path):
    out = tmp_path / "run"
    flags = [
        "--flavour",
        "darts",
        "--hessian",
        "--test-frames",
        "2",
        "--precision",
        "fp64",
        "--iterations",
        "1",
        "--no-none-counts",
    ]
    assert search(out, *flags) == 0
    history = rows(out)
    assert [("hessian_eigenvalue" in row) for row in history] == [False, True, True, True]
    assert all("none" not in row["genotype"] for row in history)


# errors


def failing(capsys, *argv) -> str:
    """The one line of a command that must fail with exit code 2."""
    assert cli.main([*argv, "--quiet"]) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ") and "\n" not in error, error
    return error


@pytest.mark.parametrize(
    "argv, says",
    [
        (["papr"], "unknown search recipe 'papr'"),
        (["paper"], "--train"),
        (["--train", "nonsense:x"], "nonsense"),
        (["--train", "got10k:/no/such/folder:train"], "/no/such/folder"),
        (["--holdout", "folder:/no/such/folder"], "/no/such/folder"),
        (["--image-size", "100"], "--image-size"),
        (["--warmup-epochs", "10"], "--warmup-epochs"),
        (["--ops", "none"], "--ops"),
        (["--ops", "skip_connect", "conv_7x7"], "conv_7x7"),
        (["--device", "cuda:77"], "--device"),
        (["--backbone-weights", "/no/such/file.pth"], "/no/such/file.pth"),
        (["--resume"], "--out"),
    ],
)
def test_wrong_input_is_one_line(argv, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert says in failing(capsys, *argv)
    assert not list(tmp_path.glob("runs/*")), "a run that never began leaves no folder"


def test_shared_sequences_are_warned_about(tmp_path, capsys):
    out = tmp_path / "run"
    assert search(out, "--holdout", "synthetic:a*2", "--epochs", "2", "--iterations", "1") == 0
    assert "train and holdout share synthetic:a" in capsys.readouterr().err


def test_unknown_flag_exits_with_2(tmp_path):
    with pytest.raises(SystemExit) as e:
        cli.main(["--no-such-flag"])
    assert e.value.code == 2


def test_empty_or_short_data(tmp_path, capsys):
    folder = tmp_path / "video"
    folder.mkdir()
    assert "video" in failing(capsys, "--train", f"folder:{folder}", "--out", str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_out_and_resume_errors(finished, tmp_path, capsys):
    assert "not empty" in failing(capsys, "--out", str(finished))
    assert "no run folder" in failing(capsys, "--out", str(tmp_path / "missing"), "--resume")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    assert "config.json" in failing(capsys, "--out", str(tmp_path / "other"), "--resume")
    assert "not empty" in failing(capsys, "--out", str(tmp_path / "other"))
    assert "--channels" in failing(capsys, "--out", str(finished), "--resume", "--channels", "8")
    assert "recipe" in failing(capsys, "paper", "--out", str(finished), "--resume")
    assert (tmp_path / "other" / "notes.txt").read_text() == "mine"


@pytest.fixture
def copy(finished, tmp_path):
    """A copy of the finished run, to be damaged."""
    out = tmp_path / "run"
    out.mkdir()
    for name in ("config.json", "last.ckpt"):
        (out / name).write_bytes((finished / name).read_bytes())
    return out


class Attack:
    def __reduce__(self):
        return os.mkdir, ("attacked",)


@pytest.mark.parametrize("damage", ["truncated", "text", "pickle", "other run", "missing key"])
def test_corrupt_checkpoint(copy, damage, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    path = copy / "last.ckpt"
    state = torch.load(path, weights_only=True)
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:2000])
    elif damage == "text":
        path.write_text("not a checkpoint")
    elif damage == "pickle":
        path.write_bytes(pickle.dumps(Attack()))
    elif damage == "other run":
        torch.save(state | {"alpha": torch.zeros(2, 8)}, path)
    else:
        torch.save({k: v for k, v in state.items() if k != "neck"}, path)
    assert "last.ckpt" in failing(capsys, "--out", str(copy), "--resume")
    assert not (tmp_path / "attacked").exists()


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"config": {"recipe": "demo"}, "seeds": [0]}'])
def test_corrupt_config(copy, text, capsys):
    (copy / "config.json").write_text(text)
    assert "config.json" in failing(capsys, "--out", str(copy), "--resume")


def test_non_finite_loss_names_the_iteration(tmp_path, monkeypatch, capsys):
    original = SearchNetwork.loss
    monkeypatch.setattr(SearchNetwork, "loss", lambda self, *a, **k: original(self, *a, **k) * float("nan"))
    monkeypatch.setattr(loop.Search, "_holdout_loss", lambda self, epoch: 1.0)
    assert search(tmp_path / "run") == 2
    assert "epoch 1, iteration 1" in capsys.readouterr().err


# parts


def test_early_stop_looks_only_at_epochs_with_alpha():
    def history(*losses, active_from):
        return [
            {"epoch": e, "holdout_loss": loss, "alpha_active": e >= active_from}
            for e, loss in enumerate(losses)
        ]

    rows = history(9.0, 1.0, 5.0, 4.0, 4.0, 6.0, active_from=2)
    assert schedule.best_row(rows)["epoch"] == 3
    assert [schedule.should_stop(rows[: n + 1], patience=2) for n in range(6)] == [False] * 5 + [True]
    assert not schedule.should_stop(rows, patience=0)
    assert schedule.best_row(rows[:2]) is None and not schedule.should_stop(rows[:2], patience=1)


def test_patience_ends_the_run(tmp_path, monkeypatch):
    losses = iter([5.0, 0.1, 3.0, 2.0, 2.5, 2.5, 1.0, 1.0])
    monkeypatch.setattr(loop.Search, "_holdout_loss", lambda self, epoch: next(losses))
    out = tmp_path / "run"
    assert search(out, "--epochs", "7", "--iterations", "1", "--patience", "2") == 0
    assert [row["epoch"] for row in rows(out)] == [0, 1, 2, 3, 4, 5]
    assert json.loads((out / "cell.json").read_text())["epoch"] == 3


def test_schedules():
    paper, released = search_recipe("paper"), search_recipe("released")
    assert schedule.learning_rate(paper, 1) == 1e-3
    assert 1e-4 < schedule.learning_rate(paper, 70) < 1.1e-4
    assert [schedule.dropout_rate(paper, e) for e in (0, 35, 70)] == pytest.approx([0.6, 0.3, 0.0])
    assert {schedule.dropout_rate(released, e) for e in (1, 35, 70)} == {0.6}
    rates = [schedule.learning_rate(released, e) for e in (1, 15, 16, 31)]
    assert rates == pytest.approx([1e-3, 1e-3, 2e-4, 4e-5])
    unrolled = [schedule.unroll_rate(released, e) for e in (1, 15, 16, 17, 31)]
    assert unrolled == pytest.approx([1e-3, 1e-3, 4e-5, 2e-4, 8e-6])


def test_released_leaves_train_mode_after_its_first_holdout(tmp_path, monkeypatch):
    seen, original = [], SearchNetwork.loss

    def spy(self, data, masks, seed, scheduled, training=True, update_statistics=False):
        seen.append((training, masks is not None, update_statistics))
        return original(self, data, masks, seed, scheduled, training, update_statistics)

    monkeypatch.setattr(SearchNetwork, "loss", spy)
    assert search(tmp_path / "run", "--iterations", "1", recipe="released") == 0
    train, val, evaluation = (True, True, True), (True, True, False), (False, False, False)
    changed, warm_up = (False, False, True), [train, evaluation]
    first = [train, val, train, train, train, evaluation]
    second = [changed, val, changed, changed, changed, evaluation]
    assert seen[-14:] == warm_up + first + second


@pytest.mark.parametrize("recipe, drawn", [("paper", 2), ("released", 5)])
def test_passes_of_an_iteration_share_their_masks(recipe, drawn, tmp_path, monkeypatch):
    """One mask for the train batch and one for the validation batch; the released code draws in each pass."""
    seeds, original = [], SearchNetwork.masks

    def spy(self, data, rate, of_sequences):
        seeds.append(tuple(of_sequences))
        return original(self, data, rate, of_sequences)

    monkeypatch.setattr(SearchNetwork, "masks", spy)
    flags = ("--warmup-epochs", "0", "--epochs", "2", "--iterations", "1")
    assert search(tmp_path / "run", *flags, recipe=recipe) == 0
    first = seeds[:drawn]
    assert len({seed for batch in first for seed in batch}) == 2 * drawn, "of their own for each sequence"
    assert len(set(first)) == drawn and len(seeds) == {"paper": 2, "released": 6}[recipe]


def reached(loss: torch.Tensor) -> set:
    """Every leaf that a backward pass from here computes a gradient for."""
    leaves, seen, waiting = set(), set(), [loss.grad_fn]
    while waiting:
        function = waiting.pop()
        if function is None or function in seen:
            continue
        seen.add(function)
        if hasattr(function, "variable"):
            leaves.add(function.variable)
        waiting += [following for following, _ in function.next_functions]
    return leaves


def test_passes_compute_only_the_gradients_that_are_used(tmp_path, monkeypatch):
    """The graph of every pass of an iteration: no weights in the probes, no alpha in the training passes, the
    classifier in the weight step only; and in the probes nothing before the first node is differentiated."""
    seen, behind, original, run = [], [], SearchNetwork.loss, SearchCell.forward

    def spy(self, *arguments, **options):
        loss = original(self, *arguments, **options)
        if loss.requires_grad:
            leaves, names = reached(loss), {"alpha": [self.alpha]}
            names |= {"neck": self.neck.parameters(), "classifier": self.classifier.parameters()}
            seen.append({name for name, tensors in names.items() if leaves.intersection(tensors)})
        return loss

    def cell(self, input0, input1, *arguments, **options):
        behind.append(input0.requires_grad or input1.requires_grad)
        return run(self, input0, input1, *arguments, **options)

    monkeypatch.setattr(SearchNetwork, "loss", spy)
    monkeypatch.setattr(SearchCell, "forward", cell)
    flags = ("--warmup-epochs", "0", "--epochs", "1", "--iterations", "1")
    assert search(tmp_path / "run", *flags) == 0
    unroll, validation, probe, step = {"neck"}, {"neck", "alpha"}, {"alpha"}, {"neck", "classifier"}
    assert seen == [unroll, validation, probe, probe, step]
    first = behind.index(True)
    assert behind[first : first + 5] == [True, True, False, False, True]


def test_flat_parameters_are_views():
    module = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.BatchNorm2d(3))
    before = [p.clone() for p in module.parameters()]
    flat = FlatParameters(module.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, module.parameters()))
    flat.values.mul_(2)
    assert all(torch.equal(2 * a, b) for a, b in zip(before, module.parameters()))
    module.load_state_dict({k: torch.zeros_like(v) for k, v in module.state_dict().items()})
    assert not flat.values.any()
    gathered = flat.gather([torch.ones_like(module[0].weight), None, None, None])
    assert gathered.sum() == 54


def quadratic():
    """L_train = |w - a|^2, L_val = |w - 1|^2 + a.sum(): every term is known in closed form."""
    w, a = torch.nn.Parameter(torch.tensor([0.3, -0.2]).double()), torch.tensor([0.5, 2.0]).double()
    alpha = torch.nn.Parameter(a)
    flat = FlatParameters([w])
    return (
        w,
        alpha,
        flat,
        lambda _: (w - alpha).square().sum(),
        lambda _: (w - 1).square().sum() + alpha.sum(),
    )


def test_second_order_closed_form_and_exact_restore():
    w, alpha, flat, train, val = quadratic()
    start = w.detach().clone()
    result = second_order(
        train, val, alpha, flat, eta=0.1, weight_decay=0.5, momentum=0.9, momentum_buffer=start
    )
    unrolled = start - 0.1 * (2 * (start - alpha.detach()) + 0.5 * start + 0.9 * start)
    v = 2 * (unrolled - 1)
    torch.testing.assert_close(result.unrolled, unrolled)
    torch.testing.assert_close(result.v, v)
    torch.testing.assert_close(result.radius, 0.01 / v.norm())
    torch.testing.assert_close(result.galpha, torch.ones_like(v) - 0.1 * -2 * v)  # d2 L_train / da dw = -2
    assert torch.equal(w, start) and torch.equal(flat.values, start)
    torch.testing.assert_close(first_order(val, alpha, flat).galpha, torch.ones_like(v))


def test_weights_are_restored_when_a_loss_fails():
    w, alpha, flat, train, _ = quadratic()
    start = w.detach().clone()

    def broken(_):
        raise ChaseError("no")

    with pytest.raises(ChaseError):
        second_order(train, broken, alpha, flat, eta=0.1)
    assert torch.equal(w, start) and w.requires_grad and alpha.requires_grad


def test_dominant_eigenvalue():
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    hessian = a + a.T
    alpha = torch.zeros(2, 3, dtype=torch.float64)
    values = torch.linalg.eigvalsh(hessian)
    found = dominant_eigenvalue(
        lambda _: 0.5 * alpha.flatten() @ hessian @ alpha.flatten(), alpha, iterations=500, tolerance=1e-10
    )
    assert found == pytest.approx(float(values[values.abs().argmax()]), rel=1e-4)


def test_cell_counts():
    cell = Genotype(((("none", 0), ("skip_connect", 1)), (("max_pool_3x3", 0), ("sep_conv_3x3", 2))))
    assert cell_counts(cell) == {"skip_count": 1, "weight_free_count": 3}


def test_recipes_say_where_they_come_from():
    for name in SEARCH:
        config = search_recipe(name)
        assert config.recipe == name
        dataclasses.replace(config, train=("synthetic",), val=("synthetic",), holdout=("synthetic",)).check()
    assert search_recipe("chase_fd").ops == search_recipe("paper").ops[1:]
    assert search_recipe("paper").unroll_r == 0.01


def test_help_explains_every_field(capsys):
    with pytest.raises(SystemExit) as e:
        cli.main(["--help"])
    assert e.value.code == 0
    text = capsys.readouterr().out
    for field in dataclasses.fields(search_recipe("demo")):
        if field.name != "recipe":
            assert f"--{field.name.replace('_', '-')}" in text
