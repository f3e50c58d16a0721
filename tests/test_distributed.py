"""Several ranks: two gloo processes, started once by torchrun, against one process with the same groups."""

import copy
import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from chase_fast import distributed
from chase_fast.data import Batch
from chase_fast.distributed import Elsewhere, Ranks, join, launched, statistics
from chase_fast.errors import ChaseError
from chase_fast.nn.norm import GroupBatchNorm, NormState
from chase_fast.recipes import SearchConfig, search_recipe
from chase_fast.runs import command
from chase_fast.search import __main__ as cli
from chase_fast.search import loop
from chase_fast.search.network import SearchNetwork
from chase_fast.train import __main__ as train_cli
from tests.flags import changed
from tests.tolerances import RANKS, RANKS_FLOAT32

TINY = (
    "--epochs 2 --iterations 2 --warmup-epochs 1 --holdout-batches 2 --calibration-batches 1 --patience 0",
    "--image-size 64 --train-frames 1 --test-frames 1 --batch 4 --channels 4 --nodes 2",
    "--backbone resnet18 --backbone-weights random --precision fp64 --threads 1 --quiet",
    "--train synthetic:a --val synthetic:b --holdout synthetic:c",
)
TINY = " ".join(TINY).split()
SEARCHES = {  # name -> recipe and flags
    "second": ["demo"],
    "first": ["chase_d1", "--flavour", "darts", "--classifier", "dimp", "--hessian", "--iterations", "1"],
    "released": ["released", "--test-frames", "2", "--epochs", "3", "--iterations", "1"],
}


def train(out: Path, *flags: str) -> int:
    return train_cli.main(["demo", *changed(TRAIN, *flags), "--out", str(out)])


def search(out: Path, recipe: str, *flags: str) -> int:
    return cli.main([recipe, *changed(TINY, *flags), "--out", str(out)])


TRAIN = (
    "--epochs 1 --iterations 3 --val-batches 2 --val-every 1 --calibration-batches 1 --threads 1 --quiet",
    "--image-size 64 --train-frames 1 --test-frames 1 --batch 4 --cell chase --channels 4",
    "--backbone resnet18 --backbone-weights random --train synthetic:a --val synthetic:b",
)
TRAIN = " ".join(TRAIN).split()


class Norms(torch.nn.Module):
    """Three kinds of running statistics, updated several times a step."""

    def __init__(self):
        super().__init__()
        self.groups, self.cumulative = GroupBatchNorm(3), torch.nn.BatchNorm2d(3, momentum=None)
        self.state = NormState(2, 4, affine=True)
        self.double()

    def see(self, x: torch.Tensor) -> None:
        self.groups(x, 2)
        self.cumulative(x)
        self.cumulative(2 * x)
        self.state.update(x[:2, :2, 0], x[2:, :2, 1].square(), 7)


def batches(count: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(4, 3, 4, 4, generator=generator, dtype=torch.float64) for _ in range(count)]


# in each rank


def rank_main(out: Path) -> None:
    """What each of the two processes does; rank 0 writes what the tests then look at."""
    ranks = join()
    command.shutdown = lambda: None  # several runs in one process
    found: dict = {"world": ranks.world}
    first, *own = batches(3)
    norms = Norms()
    norms.see(first)
    before = statistics(norms)
    norms.see(own[ranks.rank])
    ranks.merge_statistics_(before, norms)
    found["statistics"] = [t.tolist() for t in norms.buffers()]
    a, b = torch.full((2, 2), float(ranks.rank)).T[:, :1], torch.tensor(ranks.rank, dtype=torch.float64)
    ranks.mean_(a, b)
    c = torch.tensor([ranks.rank + 5])
    ranks.broadcast_(c)
    found["collectives"] = [a.flatten().tolist(), float(b), int(c), ranks.sum(1.5), ranks.share(lambda: "ü")]
    found["agree"] = [ranks.agree(2.0, "x"), error(lambda: ranks.agree(ranks.rank, "the rank"))]
    found["device"] = error(lambda: ranks.device("cuda:1"))
    found["share"] = error(lambda: ranks.share(lambda: search_recipe("papr").recipe))
    found["codes"] = [search(out / name, *flags) for name, flags in SEARCHES.items()]
    found["codes"].append(search(out / "batch", "demo", "--batch", "3"))
    apart = ("--seeds", "0", "1", "--seed-per-rank", "--iterations", "1")
    found["codes"].append(search(out / "apart", "demo", *apart))
    found["codes"] += [*stopped(out / "stopped", ranks), train(out / "train")]
    if ranks.main:
        (out / "found.json").write_text(json.dumps(found))
    ranks.barrier()
    sys.exit(broken(out / "broken", ranks))


def error(call) -> str:
    with pytest.raises(ChaseError) as e:
        call()
    return f"{type(e.value).__name__}: {e.value}"


def stopped(out: Path, ranks: Ranks) -> list[int]:
    """A search that rank 1 alone is asked to end in its third iteration, and its end."""
    original, steps = loop.Search._run_iteration, 0

    def step(self, *arguments):
        nonlocal steps
        steps += 1
        self.interrupted = steps == 3 and not ranks.main
        return original(self, *arguments)

    loop.Search._run_iteration = step
    code = search(out, *SEARCHES["second"])
    loop.Search._run_iteration = original
    return [code, cli.main(["--out", str(out), "--resume", "--quiet"])]


def broken(out: Path, ranks: Ranks) -> int:
    """A search in which rank 1 alone meets an error."""

    def step(*_):
        raise ChaseError("frame 7 is truncated")

    if not ranks.main:
        loop.SearchStep.__call__ = step
    return search(out, "demo")


# the tests


@pytest.fixture
def same_threads():
    """`--threads` of a run must not leak into other tests."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Folder with what two ranks left, their exit code and their errors."""
    out = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    done = subprocess.run(
        [*command, "-m", __name__, str(out)],
        cwd=Path(__file__).parents[1],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert (out / "found.json").exists(), done.stderr
    return out, done


@pytest.fixture(scope="module")
def found(both):
    return json.loads((both[0] / "found.json").read_text())


def rows(out: Path, name: str = "history.jsonl") -> list[dict]:
    return [json.loads(line) for line in (out / name).read_text().splitlines()]


def test_merged_statistics_are_those_of_one_batch_after_another(found):
    norms = Norms()
    for x in batches(3):
        norms.see(x)
    for got, expected in zip(found["statistics"], norms.buffers(), strict=True):
        torch.testing.assert_close(torch.tensor(got, dtype=expected.dtype), expected, rtol=1e-12, atol=1e-14)


def test_collectives(found):
    assert found["world"] == 2
    assert found["collectives"] == [[0.5, 0.5], 0.5, 5, 3.0, "ü"]
    assert found["agree"][0] == 2.0
    assert "rank 0 and rank 1 disagree about the rank (0.0, 1.0)" in found["agree"][1]
    assert "--device cuda" in found["device"]
    assert "unknown search recipe 'papr'" in found["share"]


@pytest.mark.parametrize("name", SEARCHES)
def test_two_ranks_are_one_process_with_two_groups(name, both, tmp_path, same_threads):
    out = tmp_path / "run"
    assert search(out, *SEARCHES[name], "--batch-groups", "2") == 0
    for file in ("history.jsonl", "alphas.jsonl"):
        one, two = rows(out, file), rows(both[0] / name, file)
        assert len(one) == len(two) >= 3
        for a, b in zip(one, two):
            assert a.keys() == b.keys()
            for key in a:
                if key == "alpha":
                    assert torch.tensor(b[key]).double().tolist() == [
                        pytest.approx(row, rel=RANKS) for row in torch.tensor(a[key]).double().tolist()
                    ]
                else:
                    assert b[key] == (
                        pytest.approx(a[key], rel=RANKS) if isinstance(a[key], float) else a[key]
                    )
    cells = [json.loads((folder / "cell.json").read_text()) for folder in (out, both[0] / name)]
    assert cells[0]["genotype"] == cells[1]["genotype"] and cells[0]["epoch"] == cells[1]["epoch"]
    same = [json.loads((folder / "config.json").read_text())["config"] for folder in (out, both[0] / name)]
    assert same[0] == same[1] and same[0]["batch_groups"] == 2


@pytest.mark.parametrize("frames", [(2, 2), (1, 2)])
def test_groups_are_parts_of_the_batch_by_themselves(frames):
    """Loss, running statistics and dropout masks of two groups against their two parts one after another."""
    flags = {"image_size": 64, "channels": 2, "nodes": 1, "precision": "fp64", "filter_iterations": 1}
    config = dataclasses.replace(
        search_recipe("demo"), train_frames=frames[0], test_frames=frames[1], **flags
    )
    generator = torch.Generator().manual_seed(0)
    images = [torch.randn(n, 4, 3, 64, 64, generator=generator) for n in frames]
    boxes = [torch.rand(n, 4, 4, generator=generator) * 20 + 10 for n in frames]
    density = torch.rand(frames[1], 4, 5, 5, generator=generator)
    batch = Batch(*images, *boxes, density / density.sum((2, 3), keepdim=True), density)
    parts = [Batch(*(t[:, k : k + 2] for t in vars(batch).values() if t is not None)) for k in (0, 2)]
    one, two = (SearchNetwork(config, torch.device("cpu"), groups) for groups in (1, 2))

    def loss(network: SearchNetwork, batch: Batch, seeds: range) -> torch.Tensor:
        data = network.prepare(batch)
        return network.loss(data, network.masks(data, 0.5, seeds), 0, 0.0, update_statistics=True)

    with torch.no_grad():
        whole = loss(one, batch, range(4))
        one = SearchNetwork(config, torch.device("cpu"))
        expected = (loss(one, parts[0], range(2)) + loss(one, parts[1], range(2, 4))) / 2
        got = loss(two, batch, range(4))
    assert float(got) == pytest.approx(float(expected), rel=RANKS) != pytest.approx(float(whole), rel=1e-6)
    for a, b in zip(one.neck.buffers(), two.neck.buffers(), strict=True):
        torch.testing.assert_close(a, b, rtol=RANKS, atol=RANKS)


def test_two_ranks_train_as_one_process_with_two_micro_batches(both, tmp_path, same_threads):
    out = tmp_path / "run"
    assert train(out, "--accumulate", "2") == 0
    one, two = rows(out), rows(both[0] / "train")
    assert len(one) == len(two) == 2
    for a, b in zip(one, two):
        assert b == {
            k: pytest.approx(v, rel=RANKS_FLOAT32) if isinstance(v, float) else v for k, v in a.items()
        }
    assert one[1]["train_loss"] > 0 and one[1]["val_loss"] != one[0]["val_loss"]


def test_exit_codes(found):
    *searches, batch, apart, stopped, resumed, trained = found["codes"]
    assert searches == [0] * len(SEARCHES) and (batch, apart, stopped, resumed, trained) == (2, 0, 130, 0, 0)


def test_a_stop_on_one_rank_stops_all_and_resumes(both):
    for name in ("history.jsonl", "alphas.jsonl", "cell.json", "best.safetensors"):
        assert (both[0] / "stopped" / name).read_bytes() == (both[0] / "second" / name).read_bytes(), name


def test_seed_per_rank(both, tmp_path, same_threads):
    out = both[0] / "apart"
    losses = json.loads((out / "cell.json").read_text())["holdout_loss_of_seeds"]
    assert set(losses) == {"0", "1"} and (out / "report.html").exists()
    assert search(tmp_path / "one", "demo", "--seed", "1", "--iterations", "1") == 0
    assert rows(tmp_path / "one") == rows(out / "seed_1")
    assert min(losses.values()) == json.loads((out / "cell.json").read_text())["holdout_loss"]


def test_an_error_of_one_rank_ends_all(both):
    out, done = both
    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "error: frame 7 is truncated" in lines
    assert len([line for line in lines if "--batch 3" in line]) == 1, "rank 0 alone says what all ranks find"
    assert not (out / "batch").exists()


def test_one_process_needs_no_torchrun(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    ranks, device = distributed.start("cpu")
    assert (ranks, device) == (Ranks(), torch.device("cpu")) and ranks.main and ranks.part == (0, 1)
    x = torch.ones(2)
    ranks.mean_(x)
    norms = Norms()
    norms.see(batches(1)[0])
    before = copy.deepcopy(norms.state_dict())
    ranks.merge_statistics_({}, norms)
    assert x.tolist() == [1, 1]
    assert all(torch.equal(before[name], t) for name, t in norms.state_dict().items())
    assert (ranks.sum(2.0), ranks.agree(3.0, "x"), ranks.share(lambda: "text")) == (2.0, 3.0, "text")
    distributed.shutdown()


def test_wrong_starts_are_one_line(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ChaseError, match="WORLD_SIZE is 2 but RANK is not set"):
        join()
    for name, text in (
        ("RANK", "1"),
        ("LOCAL_RANK", "1"),
        ("MASTER_ADDR", "localhost"),
        ("MASTER_PORT", "1"),
    ):
        monkeypatch.setenv(name, text)
    assert launched() == Ranks(1, 2, 1, 1)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert launched().beside == 2
    for name, text in (("RANK", "x"), ("RANK", "2"), ("LOCAL_RANK", "-1"), ("LOCAL_WORLD_SIZE", "0")):
        with monkeypatch.context() as wrong, pytest.raises(ChaseError, match=rf"{name} is '?{text}"):
            wrong.setenv(name, text)
            launched()
    ranks = Ranks(1, 2, 1)
    with pytest.raises(Elsewhere):
        ranks.device("cuda:1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ChaseError, match="finds 1 GPUs"):
        ranks.device("auto")


def test_batches_that_ranks_cannot_share():
    config = SearchConfig(train=("synthetic",), val=("synthetic",), holdout=("synthetic",))
    assert config.on(5).batch_groups == 5 and config.on(1).batch_groups == 1
    with pytest.raises(ChaseError, match="--batch 10"):
        config.on(3)
    with pytest.raises(ChaseError, match="4 ranks cannot share --batch-groups 2"):
        SearchConfig(batch_groups=2, train=("a",), val=("a",), holdout=("a",)).on(4)


if __name__ == "__main__":
    rank_main(Path(sys.argv[1]))
