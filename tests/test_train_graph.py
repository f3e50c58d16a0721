"""A training iteration as one function of tensors: against the eager step, replayed, in the whole loop."""

import contextlib
import copy
import dataclasses
import functools
import shutil

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from chase_fast.data import Batch
from chase_fast.distributed import Ranks
from chase_fast.nn.box_regressor import AtomIoUNet
from chase_fast.nn.genotype import CHASE
from chase_fast.nn.neck import DerivedNeck
from chase_fast.nn.target_classifier import TargetClassifier
from chase_fast.nn.tracker_net import TrackerNet
from chase_fast.runs import RunFolder
from chase_fast.train import __main__ as cli
from chase_fast.train import loop
from chase_fast.train.network import Losses
from chase_fast.train.step import TrainStep
from tests.flags import changed
from tests.test_train import RESUMED, TINY, rows
from tests.test_train_parts import batch_of, config_of
from tests.tolerances import KERNEL, TRAIN_BF16, TRAIN_STEP, assert_close

CPU = torch.device("cpu")
DEVICES = (CPU, pytest.param(torch.device("cuda"), marks=pytest.mark.gpu))
# every epoch has other learning rates, and every step another weight of the average
VALUES = {"image_size": 32, "channels": 4, "iterations": 4, "lr_step": 1, "lr_gamma": 0.9, "ema": 0.9}


class TinyBackbone(nn.Module):
    """Two maps of the strides of a ResNet from two convolutions, so that a step takes little time."""

    channels = (8, 16)

    def __init__(self):
        super().__init__()
        self.low = nn.Sequential(nn.Conv2d(3, 8, 8, 8, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.high = nn.Sequential(nn.Conv2d(8, 16, 2, 2, bias=False), nn.BatchNorm2d(16))

    def forward(self, images):
        low = self.low(images)
        return low, self.high(low)


def tiny(recipe: str = "demo", **values):
    """(configuration, network, five batches) of steps that take little time."""
    config = config_of(recipe, **VALUES | values)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        backbone = TinyBackbone()
        neck = DerivedNeck(backbone.channels, CHASE, config.channels)
        classifier = TargetClassifier(neck.out_channels, config.classifier, config.image_size // 16)
        net = TrackerNet(backbone, neck, classifier, AtomIoUNet(backbone.channels, 8, 8))
    first = batch_of(config)
    batches = [dataclasses.replace(first, train_images=first.train_images * (1 + k / 9)) for k in range(5)]
    return config, net, batches


def graph_step(config, net, device=CPU, graph: bool = True) -> TrainStep:
    losses = Losses(config, device)
    net = losses.prepare(copy.deepcopy(net))
    losses.fold(net)
    return TrainStep(config, net, losses, Ranks(), graph)


def plain_step(config, net) -> TrainStep:
    return graph_step(config, net, graph=False)


def when(step: int, config) -> tuple[int, int]:
    """Epoch and iteration of a step."""
    return step // config.iterations + 1, step % config.iterations


@pytest.fixture(params=DEVICES, ids=str)
def device(request, monkeypatch):
    if request.param.type == "cuda":
        if not torch.cuda.is_available():
            pytest.skip("no CUDA device")
        for backend in (torch.backends.cuda.matmul, torch.backends.cudnn):  # as the loop does
            monkeypatch.setattr(backend, "allow_tf32", False)
        monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    return request.param


@pytest.fixture
def unchecked(monkeypatch):
    """The stand-in without its check of the first call: under it autograd adds in another way, and the last
    digits differ."""
    monkeypatch.setattr("chase_fast.graphs._NoHostReads", contextlib.nullcontext)


def direct(step: TrainStep, batch: Batch, epoch: int, iteration: int) -> torch.Tensor:
    """`function` on new tensors, not through a `Graph`; numbers on the host, which a replay would not see,
    are spoilt."""
    device = next(step.net.parameters()).device
    inputs = step.inputs(batch, epoch, iteration).items()
    for group in step.optimizer.param_groups:
        group["lr"] = float("nan")
    tensors = {k: v if torch.is_tensor(v) else torch.tensor(v, dtype=torch.float64) for k, v in inputs}
    return step.function(**{k: t.to(device) for k, t in tensors.items()})


def assert_equal_state(a: TrainStep, b: TrainStep) -> None:
    for x, y in zip(a.state(), b.state(), strict=True):
        assert torch.equal(x, y)


def test_hundred_replays_are_the_function_itself(device, unchecked):
    """With another batch, other learning rates and another weight of the average every few steps."""
    config, net, batches = tiny("chase_dimp", accumulate=2, clip_norm=5.0)
    replayed, other = graph_step(config, net, device), graph_step(config, net, device)
    for k in range(100):
        batch, place = batches[k % 5], when(k, config)
        assert replayed(batch, *place) == direct(other, batch, *place).tolist(), f"step {k}"
    assert_equal_state(replayed, other)


def test_state_is_all_that_a_step_changes():
    """As before a capture, whose warm-up steps are taken back."""
    config, net, batches = tiny("chase_dimp", accumulate=2)
    warm, other = graph_step(config, net), graph_step(config, net)
    before = [t.detach().clone() for t in warm.state()]
    for k in range(2):
        direct(warm, batches[k], 1, k)
    assert not all(torch.equal(a, b) for a, b in zip(warm.state(), before))
    for t, value in zip(warm.state(), before):
        t.detach().copy_(value)
    for k in range(3):
        assert torch.equal(direct(warm, batches[k], 1, k), direct(other, batches[k], 1, k))
    assert_equal_state(warm, other)


def test_other_flags_are_the_function_itself(device, unchecked):
    config, net, batches = tiny(precision="bf16", freeze_backbone_bn=True)
    replayed, other = graph_step(config, net, device), graph_step(config, net, device)
    for k in range(3):
        assert replayed(batches[k], 1, k) == direct(other, batches[k], 1, k).tolist()
    assert_equal_state(replayed, other)


@pytest.mark.parametrize(
    ("recipe", "values"),
    [
        ("demo", {"accumulate": 2, "clip_norm": 5.0}),
        ("chase_dimp", {"ema": 0.0}),
        ("demo", {"freeze_backbone_bn": True}),
        ("demo", {"test_frames": 2, "precision": "bf16"}),
    ],
)
def test_losses_of_the_eager_step_and_nothing_read_on_the_host(recipe, values):
    config, net, batches = tiny(recipe, **values)
    ours, plain = graph_step(config, net), plain_step(config, net)
    found, expected = (step(batches[0], 1, 0) for step in (ours, plain))
    tolerance = TRAIN_BF16["loss"] if config.precision == "bf16" else TRAIN_STEP
    assert_close(torch.tensor(found), torch.tensor(expected), tolerance)


@pytest.mark.parametrize(
    "values", [{"clip_norm": 5.0}, {"ema": 0.0, "lr": 1e-2}, {"freeze_backbone_bn": True}]
)
def test_same_update_as_the_eager_step(values, monkeypatch):
    """Adam with a rate for each group, clipping and average, written for tensors, against torch's."""
    config, net, batches = tiny(**values)
    ours, plain = graph_step(config, net), plain_step(config, net)

    def gradients(self, batch):
        rng = torch.Generator().manual_seed(next(numbers))
        for p in self.net.parameters():
            if p.requires_grad:  # in the layout of the weight, as autograd does
                p.grad = torch.empty_like(p).copy_(torch.randn(p.shape, generator=rng))
        return torch.full((5,), 2.0)

    monkeypatch.setattr(TrainStep, "gradients", gradients)
    numbers = iter(sorted([*range(12)] * 2))
    for k in range(12):
        found, expected = (step(batches[0], *when(k, config)) for step in (ours, plain))
        assert found == pytest.approx(expected, rel=1e-6)
    for a, b in ((ours.net, plain.net), (ours.best_net, plain.best_net)):
        for (name, x), y in zip(a.state_dict().items(), b.state_dict().values()):
            assert_close(x.double(), y.double(), KERNEL[torch.float32], name)
    steps = [s["step"] for s in ours.optimizer.state.values()]
    assert steps and all(float(step) == 12 for step in steps)


def test_a_cpu_runs_the_eager_step_and_says_why():
    config, net, _ = tiny()
    step = TrainStep(config, net, Losses(config, CPU), Ranks())
    assert step._graph is None and step.how == "eager (CUDA graphs need a CUDA device)"


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("values", "world", "one_function", "how"),
    [
        ({}, 1, True, "an iteration is one CUDA graph"),
        ({"graphs": False}, 1, True, "eager (--no-graphs)"),
        ({"compile": True}, 1, False, "eager (--compile)"),
        ({}, 2, False, "eager (several ranks)"),
    ],
)
def test_a_gpu_replays_unless_flags_or_ranks_forbid(values, world, one_function, how):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    config, net, _ = tiny(**values)
    losses = Losses(config, torch.device("cuda"))
    step = TrainStep(config, losses.prepare(net), losses, Ranks(0, world))
    assert (step._graph is not None) == one_function and step.how == how
    assert step._graph is None or step._graph.captures == (how == "an iteration is one CUDA graph")


def test_an_optimizer_that_made_no_step_is_taken_over(device):
    config, net, batches = tiny("chase_dimp")
    ours, other = graph_step(config, net, device), graph_step(config, net, device)
    ours.load_optimizer(plain_step(config, net).optimizer.state_dict())
    assert ours(batches[0], 1, 0) == other(batches[0], 1, 0)
    assert_equal_state(ours, other)


# the whole loop, its step a stand-in on the CPU


@pytest.fixture(scope="module", autouse=True)
def quick_disk():
    """As in tests/test_train.py."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda descriptor: None)
        yield


@pytest.fixture
def graphs(monkeypatch, unchecked):
    """Runs take the step of a GPU."""
    monkeypatch.setattr(loop, "TrainStep", functools.partial(TrainStep, graph=True))
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def train(out) -> int:
    return cli.main(["demo", *changed(TINY, *RESUMED), "--out", str(out), "--quiet"])


def test_interrupted_run_is_resumed_with_and_without_graphs(graphs, tmp_path, monkeypatch):
    out, original = tmp_path / "run", loop.Training._run_iteration
    assert train(tmp_path / "whole") == 0
    expected = rows(tmp_path / "whole")

    def step(self, epoch, batches):
        self.interrupted = epoch == 2
        return original(self, epoch, batches)

    monkeypatch.setattr(loop.Training, "_run_iteration", step)
    assert train(out) == 130
    monkeypatch.setattr(loop.Training, "_run_iteration", original)
    shutil.copytree(out, tmp_path / "eager")
    assert cli.main(["--out", str(out), "--resume", "--quiet"]) == 0
    assert rows(out) == expected
    monkeypatch.setattr(loop, "TrainStep", TrainStep)
    assert cli.main(["--out", str(tmp_path / "eager"), "--resume", "--quiet", "--no-graphs"]) == 0
    for name in ("train_loss", "val_loss", "grad_norm"):
        assert rows(tmp_path / "eager")[2][name] == pytest.approx(expected[2][name], rel=TRAIN_STEP)


def test_non_finite_loss_stops_and_keeps_the_batch_and_the_checkpoint(graphs, tmp_path, monkeypatch, capsys):
    out, original, calls = tmp_path / "run", TrainStep.inputs, 0

    def inputs(self, batch, epoch, iteration):
        nonlocal calls
        calls += 1
        if calls == 4:
            batch.test_images[0, 1] = float("nan")
        return original(self, batch, epoch, iteration)

    monkeypatch.setattr(TrainStep, "inputs", inputs)
    assert train(out) == 2
    assert "training loss is nan in epoch 2, iteration 2" in capsys.readouterr().err
    assert load_file(out / "bad_batch.safetensors")["test_images"][0, 1].isnan().all()
    state = RunFolder(out).load_checkpoint()
    assert (state["epoch"], state["iteration"]) == (2, 1)  # the step before
    assert all(t.isfinite().all() for t in state["net"].values())
    assert all(t.isfinite().all() for s in state["optimizer"]["state"].values() for t in s.values())
