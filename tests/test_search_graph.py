"""The search iteration as one function of tensors: replay and eager, Adam, precisions, what stays eager."""

import dataclasses
import os

import pytest
import torch

from chase_fast.data import Batch
from chase_fast.distributed import Ranks
from chase_fast.graphs import Graph
from chase_fast.nn.norm import NormState
from chase_fast.nn.operations import register_operation
from chase_fast.recipes import SearchConfig, search_recipe
from chase_fast.runs.adam import Adam
from chase_fast.search.data import ahead
from chase_fast.search.network import SearchNetwork
from chase_fast.search.step import SearchStep, why_eager
from tests.flags import changed

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def same_threads():
    """`--threads` of a run must not leak into other tests."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def config_of(recipe: str = "demo", **changes) -> SearchConfig:
    tiny = {"image_size": 32, "train_frames": 1, "test_frames": 1, "batch": 2, "channels": 2, "nodes": 1}
    tiny |= {"backbone": "resnet18", "backbone_weights": "random", "filter_iterations": 1, "epochs": 12}
    tiny |= {"warmup_epochs": 1} | dict.fromkeys(("train", "val", "holdout"), ("synthetic",))
    return dataclasses.replace(search_recipe(recipe), **(tiny | changes)).on(1)


def batch_of(config: SearchConfig, seed: int) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    n, m, s, size = config.train_frames, config.test_frames, config.batch, config.image_size
    images = [torch.randn(k, s, 3, size, size, generator=generator) for k in (n, m)]
    boxes = [torch.rand(k, s, 4, generator=generator) * (size / 3) + 4 for k in (n, m)]
    label = torch.rand(m, s, size // 16 + 1, size // 16 + 1, generator=generator)
    return Batch(*images, *boxes, label / label.sum((2, 3), keepdim=True), label)


def make(config: SearchConfig, device=CPU, graph: bool | None = True) -> tuple[SearchNetwork, SearchStep]:
    network = SearchNetwork(config, device)
    return network, SearchStep(config, network, Ranks(), graph)


def run(step: SearchStep, config: SearchConfig, iterations: int) -> list[dict[str, float]]:
    """Ten iterations an epoch, the first epoch a warm-up."""
    losses = []
    for k in range(iterations):
        epoch, batch = 1 + k // 10, batch_of(config, 2 * k)
        val = batch_of(config, 2 * k + 1) if epoch > config.warmup_epochs else None
        losses.append(step(epoch, k, batch, val))
    return losses


def assert_same(a: SearchStep, b: SearchStep) -> None:
    for one, two in zip(a.state(), b.state(), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize(
    "changes, iterations",
    [
        ({}, 100),
        ({"recipe": "chase_d1", "flavour": "darts", "test_frames": 2}, 20),
        ({"recipe": "chase_fd", "precision": "bf16"}, 15),
        ({"classifier": "dimp", "precision": "fp64", "batch": 4, "batch_groups": 2}, 15),
        ({"every_pass_updates": True, "nodes": 2, "precision": "bf16"}, 15),
        ({"recipe": "pc_darts", "channels": 8, "order": 2}, 13),
        ({"recipe": "darts_minus", "channels": 4, "precision": "bf16"}, 23),
    ],
    ids=("second", "first", "fair_bf16", "dimp_groups", "updates_bf16", "pc_darts", "darts_minus"),
)
def test_stand_in_equals_the_function_itself(changes, iterations):
    """Fixed buffers, numbers as 0-d tensors and no value read on the host: what a capture needs, on a CPU."""
    config = config_of(**({"recipe": "demo"} | changes))
    network, step = make(config)
    start = network.alpha.clone()
    plain = make(config)[1]
    plain._graph = plain.function
    assert run(step, config, iterations) == run(plain, config, iterations)
    assert_same(step, plain)
    assert not torch.equal(network.alpha, start)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ("fp32", "bf16"))
@pytest.mark.parametrize("recipe", ("demo", "chase_d1"))
def test_replay_equals_eager_for_100_steps(recipe, precision):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    torch.backends.cudnn.deterministic = True
    config = config_of(recipe, precision=precision, channels=8, image_size=64, nodes=2)
    device = torch.device("cuda")
    step, plain = make(config, device)[1], make(config, device, graph=False)[1]
    assert step.how == "an iteration is one CUDA graph" and isinstance(step._graph, Graph)
    assert run(step, config, 100) == run(plain, config, 100)
    assert_same(step, plain)


def test_the_way_without_a_graph_is_the_same_function():
    """Numbers on the host and tensors on the device give the same digits (without dropout: other masks)."""
    config = config_of(dropout=0.0, nodes=2)
    steps = [make(config, graph=graph)[1] for graph in (True, False)]
    assert run(steps[0], config, 15) == run(steps[1], config, 15)
    assert_same(*steps)


def test_kernels_of_a_gpu_give_the_same_iteration(monkeypatch):
    """Masks drawn and applied by Triton (here: its interpreter) against the references, in whole steps."""
    if not torch.cuda.is_available() and os.environ.get("TRITON_INTERPRET") != "1":
        pytest.skip("triton runs on CPU tensors only under TRITON_INTERPRET=1")
    config, found = config_of(), []
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for backend in ("reference", "triton"):
        monkeypatch.setenv("CHASE_FAST_BACKEND", f"keep_mask={backend},skip_drop={backend}")
        network, step = make(config, device)
        found.append((run(step, config, 1) + [step(2, 1, batch_of(config, 5), batch_of(config, 6))], network))
    for a, b in zip(found[0][0], found[1][0], strict=True):
        assert a == pytest.approx(b, rel=1e-4)
    for a, b in zip(found[0][1].neck.parameters(), found[1][1].neck.parameters()):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_masks_follow_seeds_and_rate():
    """Of a step as a graph: other sequences, another iteration or another rate, other masks."""
    config = config_of(epochs=2)
    network, step = make(config)
    batch = batch_of(config, 0)
    inputs = step.inputs(1, 0, batch)
    data = network.prepare(batch)

    def keep(seeds, rate):
        (masks,) = network.masks(data, torch.tensor(rate, dtype=torch.float64), seeds)
        torch.testing.assert_close(masks.scale, torch.tensor(1 / (1 - rate)).double())
        return masks.keep

    first = keep(inputs["seeds"], 0.5)
    assert first.shape == (2, 4, 2, 2, 2) and first[0].is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(first, keep(inputs["seeds"], 0.5)) and keep(inputs["seeds"], 0.0).all()
    assert not torch.equal(first, keep(step.inputs(1, 1, batch)["seeds"], 0.5))
    assert first.sum() < keep(inputs["seeds"], 0.1).sum()
    assert inputs["dropout"] == pytest.approx(0.3) and inputs["eta"] == config.lr


@pytest.mark.parametrize("frames", [(1, 1), (1, 2)])
def test_masks_of_groups_are_those_of_the_sequences(frames):
    config = config_of(batch=4, train_frames=frames[0], test_frames=frames[1])
    batch, rate = batch_of(config, 0), torch.tensor(0.5, dtype=torch.float64)
    seeds = torch.arange(4)
    found = []
    for groups in (1, 2):
        network = SearchNetwork(config, CPU, groups)
        masks = network.masks(network.prepare(batch), rate, seeds)
        keep = torch.cat([m.keep for m in masks], 1)
        share = 4 // groups
        found.append(keep.unflatten(1, (groups, sum(frames), share)).transpose(1, 2).flatten(2, 3))
    assert torch.equal(*found)


@pytest.mark.parametrize(
    "order, every, updates", [(2, False, 1), (2, True, 4), (1, False, 1), (1, True, 2), (None, True, 1)]
)
def test_updates_of_running_statistics(order, every, updates):
    """Passes per iteration that running statistics take in; each counts train and test frames."""
    config = config_of(order=order or 2, every_pass_updates=every)
    network, step = make(config, graph=False)
    val = batch_of(config, 1) if order else None
    step(2, 0, batch_of(config, 0), val)
    counts = {int(m.updates) for m in network.modules() if isinstance(m, NormState)}
    assert counts == {2 * updates}


def test_batches_are_copied_ahead_in_their_order():
    batches = [batch_of(config_of(), seed) for seed in range(4)]
    assert list(ahead(iter(batches), CPU)) == batches


@pytest.mark.gpu
def test_batches_are_copied_ahead_unchanged():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    batches = [batch_of(config_of(), seed).pin_memory() for seed in range(6)]
    for got, expected in zip(ahead(iter(batches), torch.device("cuda")), batches, strict=True):
        torch.randn(2000, 2000, device="cuda").mm(torch.randn(2000, 2000, device="cuda"))  # in use meanwhile
        for a, b in zip(vars(got).values(), vars(expected).values()):
            assert (a is None and b is None) or (a.is_cuda and torch.equal(a.cpu(), b))


# Adam


@pytest.mark.parametrize("dtype", (torch.float32, torch.float64))
@pytest.mark.parametrize("weight_decay", (0.0, 1e-3))
def test_adam_is_torch_adam_to_the_last_digit(dtype, weight_decay):
    generator = torch.Generator().manual_seed(0)
    mine = [torch.randn(n, generator=generator, dtype=dtype) for n in (7, 1000)]
    others = [t.clone().requires_grad_() for t in mine]
    on_tensors = [t.clone() for t in mine]
    options = {"betas": (0.5, 0.999), "weight_decay": weight_decay}
    adam, tensors = Adam(mine, **options), Adam(on_tensors, **options)
    expected = torch.optim.Adam(others, foreach=False, **options)
    for k in range(50):
        lr = 1e-2 / (k + 1)
        gradients = [torch.randn(t.shape, generator=generator, dtype=dtype) for t in mine]
        for t, gradient in zip(others, gradients):
            t.grad = gradient.clone()
        expected.param_groups[0]["lr"] = lr
        expected.step()
        numbers = adam.numbers(lr)
        adam.apply(gradients, *numbers)
        tensors.apply(gradients, *(torch.tensor(x, dtype=torch.float64) for x in numbers))
        adam.steps += 1
        for a, b, c in zip(mine, others, on_tensors):
            assert torch.equal(a, b) and torch.equal(a, c)


def test_adam_continues_where_it_stopped():
    weights, gradient = [torch.ones(3)], torch.tensor([1.0, -2.0, 3.0])
    adam = Adam(weights)
    for _ in range(3):
        adam.apply([gradient], *adam.numbers(0.1))
        adam.steps += 1
    again, copy = Adam([w := weights[0].clone()]), adam.state_dict()
    moments = again.state
    again.load_state_dict(copy)
    for a in (adam, again):
        a.apply([gradient.flip(0)], *a.numbers(0.1))
    assert torch.equal(w, weights[0]) and all(a is b for a, b in zip(moments, again.state))
    with pytest.raises(ValueError, match="moments of shape"):
        Adam([torch.ones(4)]).load_state_dict(copy)


# precision, and what stays eager


@pytest.mark.parametrize("flavour", ("chase", "darts"))
def test_bf16_keeps_all_of_the_difference_in_float32(flavour, monkeypatch):
    """Maps in bfloat16 in the weight step and, in chase, the unroll; validation and both probes in float32,
    on the same features, which are bfloat16 numbers; every weight, moment and gradient stays float32."""
    config = config_of(precision="bf16", flavour=flavour)
    network, step = make(config, graph=False)
    seen, original = [], SearchNetwork.loss

    def spy(self, data, *arguments):
        seen.append(data)
        return original(self, data, *arguments)

    monkeypatch.setattr(SearchNetwork, "loss", spy)
    step(2, 0, batch_of(config, 0), batch_of(config, 1))
    low, full = torch.bfloat16, torch.float32
    expected = [low if flavour == "chase" else full, full, full, full, low]
    assert [d.layer2.dtype for d in seen] == expected == [d.layer3.dtype for d in seen]
    unroll, _, plus, minus, weights = seen
    for name in ("layer2", "layer3"):
        a, b, c, d = (getattr(x, name) for x in (unroll, plus, minus, weights))
        assert torch.equal(b, c) and torch.equal(a.float(), b) and torch.equal(d.float(), b)
    floats = [t for t in step.state() if t.is_floating_point()]
    assert {t.dtype for t in floats} == {full} and network.alpha.grad.dtype == full


def test_operations_of_users_run_in_float32(monkeypatch):
    monkeypatch.setattr("chase_fast.nn.operations._registered", {})
    register_operation("smooth", lambda c: torch.nn.Conv2d(c, c, 3, padding=1))
    config = config_of(precision="bf16", ops=("smooth", "skip_connect"))
    step = make(config, graph=False)[1]
    assert all(map(torch.isfinite, map(torch.tensor, step(2, 0, batch_of(config, 0)).values())))
    assert "smooth" in why_eager(config, torch.device("cuda"), Ranks())


@pytest.mark.parametrize(
    "changes, world, why",
    [
        ({}, 1, None),
        ({"precision": "bf16", "every_pass_updates": True}, 1, None),
        ({"graphs": False}, 1, "--no-graphs"),
        ({"batch": 4}, 2, "several ranks"),
        ({"fresh_masks": True}, 1, "--fresh-masks"),
        ({"backbone_train_mode": True}, 1, "--backbone-train-mode"),
        ({"eval_after_holdout": True}, 1, "--eval-after-holdout"),
    ],
)
def test_what_stays_eager_says_why(changes, world, why):
    assert why_eager(config_of(**changes), torch.device("cuda"), Ranks(0, world)) == why
    assert why_eager(config_of(**changes), CPU, Ranks(0, world)) == "CUDA graphs need a CUDA device"


def test_first_lines_and_resume(tmp_path, capsys, monkeypatch):
    """What is used stands in the first lines; graphs may change on resume, the precision may not."""
    from chase_fast.runs import loop
    from chase_fast.search import __main__ as cli
    from tests.test_search import TINY

    out = tmp_path / "run"
    flags = ["--iterations", "1", "--epochs", "2", "--precision", "bf16"]
    assert cli.main(["demo", *changed(TINY, *flags), "--out", str(out)]) == 0
    assert "cpu, bf16, eager (CUDA graphs need a CUDA device)" in capsys.readouterr().out
    monkeypatch.setattr(loop, "write_report", lambda path: None)
    assert cli.main(["--out", str(out), "--resume", "--quiet", "--no-graphs"]) == 0
    assert cli.main(["--out", str(out), "--resume", "--quiet", "--precision", "fp32"]) == 2
    assert "--precision" in capsys.readouterr().err
