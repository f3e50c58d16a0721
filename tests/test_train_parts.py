"""Parts of the training: losses against the network's own forward pass, optimiser, average, cells."""

import copy
import dataclasses
import json
import math

import pytest
import torch
from torch import nn

from chase_fast.data import Batch
from chase_fast.distributed import Ranks
from chase_fast.errors import ChaseError
from chase_fast.nn.backbone import is_folded
from chase_fast.nn.genotype import CHASE, Genotype
from chase_fast.nn.losses import dimp_loss, prdimp_loss
from chase_fast.nn.space import OPS
from chase_fast.recipes import TRAIN, TrainConfig, train_recipe
from chase_fast.runs.data import RunData
from chase_fast.runs.progress import RunProgress
from chase_fast.train.cells import random_cell, resolve_spec, spec_of_seed
from chase_fast.train.data import samples
from chase_fast.train.network import TERMS, Losses, split
from chase_fast.train.optimizer import Average, clip, decay, learning_rates, make_optimizer, set_epoch
from chase_fast.train.options import TrainCommand
from chase_fast.train.result import best_row
from chase_fast.train.step import TrainStep
from tests.tolerances import KERNEL, TRAIN_BF16, TRAIN_STEP, assert_close

CPU = torch.device("cpu")


def config_of(recipe: str = "demo", **values) -> TrainConfig:
    tiny = {"train": ("synthetic",), "val": ("synthetic",), "val_batches": 1, "iterations": 4, "batch": 4}
    tiny |= {"image_size": 64, "train_frames": 1, "test_frames": 1, "channels": 8}
    tiny |= {"backbone": "resnet18", "backbone_weights": "random"}
    return dataclasses.replace(train_recipe(recipe), **tiny | values).check()


def batch_of(config: TrainConfig) -> Batch:
    data = RunData(config, TrainCommand.roles, samples(config), RunProgress(quiet=True))
    return next(data.batches("train", 1))


@pytest.fixture(scope="module")
def batch() -> Batch:
    return batch_of(config_of())


@pytest.fixture(scope="module")
def start():
    """An untrained network of `config_of()`; tests copy it."""
    return resolve_spec(config_of()).build("random", 1)


def step_of(config: TrainConfig, net) -> TrainStep:
    losses = Losses(config, CPU)
    net = losses.prepare(copy.deepcopy(net))
    losses.fold(net)
    return TrainStep(config, net, losses, Ranks())


def gradient(net) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in net.parameters()])


def assert_same_step(ours, theirs) -> None:
    """Gradients part by part (a convolution's bias before a batch norm has none but rounding), statistics."""
    for (name, a), b in zip(ours.named_children(), theirs.children()):
        assert_close(gradient(a), gradient(b), TRAIN_STEP, name)
    for (name, a), b in zip(ours.named_buffers(), theirs.buffers()):
        assert_close(a.double(), b.double(), TRAIN_STEP, name)


def loss_by_hand(net, batch: Batch) -> torch.Tensor:
    """PrDiMP's loss through the network's own forward pass."""
    scores, boxes = net(batch.train_images, batch.test_images, batch.train_boxes, batch.proposals)
    return prdimp_loss(scores, batch.label_density, boxes, batch.proposal_density, batch.gt_density)["total"]


# losses and gradients


def test_loss_and_gradients_are_those_of_the_networks_forward_pass(start, batch):
    step, net = step_of(config_of(), start), copy.deepcopy(start)
    terms = step.gradients(batch)
    expected = loss_by_hand(net, batch)
    expected.backward()
    assert_close(terms[0], expected, KERNEL[torch.float32])
    assert_same_step(step.net, net)


def test_dimp_loss_is_that_of_the_networks_forward_pass():
    config = config_of("chase_dimp")
    batch, net = batch_of(config), resolve_spec(config).build("random", 1)
    assert batch.proposals.shape == (1, 4, 8, 4)
    terms = step_of(config, net).gradients(batch)
    scores, boxes = net(batch.train_images, batch.test_images, batch.train_boxes, batch.proposals)
    expected = dimp_loss(scores, batch.label, boxes, 2 * batch.proposal_iou - 1)
    assert_close(
        terms, torch.stack([expected["total"], *(expected[k] for k in TERMS[1:])]), KERNEL[torch.float32]
    )


def test_two_micro_batches_are_the_mean_of_two_halves_by_hand(start):
    """Halves of four: of two samples a batch norm makes +-1, and its gradient is what rounding leaves."""
    config = config_of(accumulate=2, batch=8)
    batch, step, net = batch_of(config), step_of(config, start), copy.deepcopy(start)
    step.gradients(batch)
    for half in split(batch, 2):
        (loss_by_hand(net, half) / 2).backward()
    assert half.train_images.shape[1] == 4
    assert_same_step(step.net, net)


@pytest.mark.parametrize("frozen", [{"freeze_backbone": True}, {"freeze_backbone_bn": True}])
def test_a_frozen_backbone_stays_as_it_is_and_is_evaluated_with_its_statistics(frozen, start, batch):
    config = config_of(lr_backbone=1e-2, **frozen)
    step, net = step_of(config, start), copy.deepcopy(start)
    before = copy.deepcopy(step.net.feature_extractor.state_dict())
    net.feature_extractor.eval()
    terms = step.gradients(batch)
    assert_close(terms[0], loss_by_hand(net, batch).detach(), KERNEL[torch.float32])
    step.update(1, 0)
    for name, t in step.net.feature_extractor.state_dict().items():
        fixed = config.freeze_backbone or "bn" in name or "downsample.1" in name
        assert torch.equal(t, before[name]) == fixed, name


def test_bf16_stays_near_fp32_and_keeps_weights_and_gradients_in_fp32(start, batch):
    full, half = step_of(config_of(), start), step_of(config_of(precision="bf16"), start)
    expected, terms = full.gradients(batch), half.gradients(batch)
    assert_close(terms, expected, TRAIN_BF16["loss"])
    assert not torch.equal(terms, expected)
    ours, theirs = gradient(half.net), gradient(full.net)
    assert ours.dtype == torch.float32
    assert torch.cosine_similarity(ours, theirs, 0) > TRAIN_BF16["cosine"]


def test_a_folded_backbone_is_unfolded_only_if_its_statistics_are_trained(start, batch):
    net = copy.deepcopy(start)
    for name, t in net.feature_extractor.state_dict().items():
        if name.endswith(("bn1.bias", "bn2.bias")):
            t.fill_(0.1)
    assert is_folded(net.feature_extractor)
    assert Losses(config_of(freeze_backbone=True), CPU).unfold_backbone(net, [batch]) == 0
    assert Losses(config_of(freeze_backbone_bn=True), CPU).unfold_backbone(net, [batch]) == 0
    assert Losses(config_of(), CPU).unfold_backbone(net, [batch]) == 8  # images
    assert not is_folded(net.feature_extractor)


@pytest.mark.parametrize("momentum", [0.1, 0.5, None])  # the last two: operations of users have their own
def test_calibrated_statistics_are_those_of_the_batches(start, batch, momentum):
    """After calibration on one batch, eval mode normalises that batch as train mode does."""
    net, losses = copy.deepcopy(start), Losses(config_of(freeze_backbone=True), CPU)
    losses.prepare(net)
    norm = net.bb_regressor.conv4_1t[1]
    norm.momentum = momentum
    losses.calibrate(net, [batch] * 3, Ranks())
    seen = []
    norm.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        losses(net.eval(), batch)
    assert_close(norm.running_mean, seen[0].mean((0, 2, 3)), KERNEL[torch.float32])
    assert_close(norm.running_var, seen[0].var((0, 2, 3)), KERNEL[torch.float32])


# optimiser


@pytest.mark.parametrize(
    "recipe, rates",
    [  # published: neck, filter initializer, filter optimizer, box, backbone
        ("prdimp50", (1e-3, 1e-3, 1e-3, 1e-3, 2e-5)),
        ("prdimp18", (1e-3, 1e-3, 1e-3, 1e-3, 2e-4)),
        ("dimp50", (5e-5, 5e-5, 5e-4, 2e-4, 2e-5)),
        ("dimp18", (5e-5, 5e-5, 5e-4, 1e-3, 2e-4)),
        ("chase_prdimp", (1e-3, 1e-3, 1e-3, 1e-3, 2e-5)),
        ("chase_dimp", (1e-3, 5e-5, 5e-4, 2e-4, 2e-5)),
    ],
)
def test_published_values(recipe, rates):
    config = train_recipe(recipe)
    assert tuple(learning_rates(config).values()) == rates
    assert [decay(config, e) for e in (1, 15, 16, 31, 46)] == pytest.approx([1, 1, 0.2, 0.04, 0.008])
    assert config.epochs == (70 if recipe.startswith("chase") else 50)
    assert config.max_gap == (30 if config.classifier == "dimp" else 200)
    assert config.batch == (26 if config.backbone == "resnet18" else 10)
    assert config.batch * config.iterations == 26_000 and config.val_every == 5
    assert (config.image_size, config.train_frames, config.test_frames) == (288, 3, 3)
    assert (config.ema, config.clip_norm, config.freeze_backbone_bn, config.accumulate) == (0, 0, False, 1)


def test_optimizer_groups_hold_every_weight_once(start):
    config = config_of("chase_dimp")
    net = resolve_spec(config).build("random", 1)
    optimizer = make_optimizer(config, net)
    held = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(held) == sorted(map(id, net.parameters()))
    assert optimizer.defaults["betas"] == (0.9, 0.999) and optimizer.defaults["weight_decay"] == 0
    set_epoch(config, optimizer, 16)
    assert {g["name"]: g["lr"] for g in optimizer.param_groups} == pytest.approx(
        {name: 0.2 * rate for name, rate in learning_rates(config).items()}
    )
    frozen = config_of("chase_dimp", freeze_backbone=True)
    groups = make_optimizer(frozen, Losses(frozen, CPU).prepare(net)).param_groups
    assert "backbone" not in {g["name"] for g in groups}


def test_clip():
    gradients = [torch.full((4,), 3.0), torch.full((9,), -4.0)]
    norm = math.sqrt(4 * 9 + 9 * 16)
    kept = [g.clone() for g in gradients]
    assert float(clip(gradients, 0)) == pytest.approx(norm) and torch.equal(gradients[0], kept[0])
    assert float(clip(gradients, 100)) == pytest.approx(norm) and torch.equal(gradients[1], kept[1])
    assert float(clip(gradients, 1.5)) == pytest.approx(norm)
    assert float(torch.cat(gradients).norm()) == pytest.approx(1.5, rel=1e-5)
    assert_close(gradients[1] / gradients[0][0], kept[1] / kept[0][0], 1e-6)


def test_average():
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    average = Average(net, 0.5)
    expected = {name: t.clone() for name, t in net.state_dict().items()}
    for t in range(12):
        weight = min(0.5, (1 + t) / (10 + t))
        with torch.no_grad():
            for p in net.parameters():
                p.add_(1 + t)
        net(torch.randn(4, 2))  # moves the running statistics
        for name, value in net.state_dict().items():
            old = expected[name]
            expected[name] = (
                weight * old + (1 - weight) * value if value.is_floating_point() else value.clone()
            )
        average.update(net, t)
    assert not any(p.requires_grad for p in average.net.parameters())
    for name, value in average.net.state_dict().items():
        assert_close(value.double(), expected[name].double(), 1e-6, name)


def test_best_row_takes_the_first_smallest_of_the_validated_epochs():
    history = [{"epoch": e, "val_loss": v} for e, v in enumerate([0.1, None, 3.0, 2.0, None, 2.0])]
    assert best_row(history)["epoch"] == 3
    assert best_row(history[:2]) is None


# cells


def test_random_cells_are_drawn_from_the_space_and_from_the_seed():
    cells = [random_cell(k) for k in range(200)]
    assert random_cell(5) == cells[5] and len(set(cells)) == 200
    for cell in cells:
        for i, genes in enumerate(cell.nodes):
            (_, a), (_, b) = genes
            assert 0 <= a < b < i + 2
    drawn = [op for cell in cells for genes in cell.nodes for op, _ in genes]
    assert set(drawn) == set(OPS) - {"none"}
    assert all(0.5 < 7 * drawn.count(op) / len(drawn) < 1.5 for op in OPS[1:])
    pairs = [(a, b) for cell in cells for (_, a), (_, b) in [cell.nodes[3]]]
    assert len(set(pairs)) == 10


def test_cell_names_and_files(tmp_path):
    assert resolve_spec(config_of(cell="plain")).cell is None
    assert resolve_spec(config_of(cell="chase", channels=0)).channels == 256
    assert resolve_spec(config_of(cell="random:3")).cell == random_cell(3)
    two = config_of(cell="random", seed=2)
    assert resolve_spec(two).cell == random_cell(2)
    assert spec_of_seed(dataclasses.replace(two, seed=9), resolve_spec(two)).cell == random_cell(9)
    path, genotype = tmp_path / "cell.json", Genotype(CHASE.nodes[:2])
    path.write_text(json.dumps({"genotype": genotype.to_json(), "flavour": "darts", "channels": 12}))
    spec = resolve_spec(config_of(cell=str(path), channels=0))
    assert (spec.cell, spec.flavour, spec.channels) == (genotype, "darts", 12)
    spec = resolve_spec(config_of(cell=str(path), channels=5, flavour="chase"))
    assert (spec.flavour, spec.channels) == ("chase", 5)
    path.write_text(genotype.to_json())  # a bare genotype
    assert resolve_spec(config_of(cell=str(path))).cell == genotype
    for bad in ("{", '{"genotype": {"nodes": [[["skip_connect", 0]]]}, "flavour": "odd"}'):
        path.write_text(bad)
        with pytest.raises(ChaseError, match="--cell"):
            resolve_spec(config_of(cell=str(path)))


@pytest.mark.parametrize("recipe", TRAIN)
def test_every_recipe_is_whole(recipe):
    config = config_of(recipe)
    assert config.recipe == recipe and resolve_spec(config).feature_size == 4
