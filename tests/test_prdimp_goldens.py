"""DiMP and PrDiMP in float64 against goldens of the public code, from ops to whole nets.

Every test takes what is present in this copy of the goldens (the small one lacks some large arrays).
"""

import functools
import json
import re
import tempfile
from pathlib import Path

import pytest
import torch

from chase_fast.checkpoint import load_tracker
from chase_fast.kernels import target_filter
from chase_fast.kernels.kl_loss import label_density
from chase_fast.kernels.target_filter import reference
from chase_fast.nn import losses
from chase_fast.nn.box_regressor import AtomIoUNet
from chase_fast.nn.target_classifier import (
    DiMPOptimizer,
    InstanceL2Norm,
    TargetClassifier,
    distance_basis,
    score_centre,
)
from chase_fast.nn.tracker_net import TrackerNet, build_tracker, from_published, to_published
from tests import golden, public_files, seeded
from tests.tolerances import GOLDEN, assert_close

FORWARD, GRADIENT = GOLDEN["forward"], GOLDEN["gradient"]
ARGUMENTS = ("train_images", "test_images", "train_anno", "test_proposals")
NETS = [(kind, depth) for depth in (18, 50) for kind in ("prdimp", "dimp")]


class Record:
    """Arrays of one golden file under one key prefix, as tensors."""

    def __init__(self, file: str, prefix: str = ""):
        arrays = golden.load(f"prdimp/{file}")
        self.arrays = {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}

    def __getitem__(self, key: str) -> torch.Tensor:
        return torch.from_numpy(self.arrays[key])

    def json(self, key: str) -> dict:
        return json.loads(str(self.arrays[key]))

    def names(self, pattern: str) -> list[str]:
        return [k for k in self.arrays if re.match(pattern, k)]

    def check(self, key: str, value: torch.Tensor, tolerance: float) -> bool:
        """Compares if this copy has the array."""
        if key in self.arrays:
            assert_close(value, self[key], tolerance, key)
        return key in self.arrays


def cases(file: str, pattern: str) -> list[str]:
    found = (re.match(pattern, key) for key in golden.load(f"prdimp/{file}"))
    return sorted({match[0] for match in found if match})


# filter ops


@pytest.mark.parametrize("case", cases("filter_ops", r"c\d_"))
def test_filter(case):
    record = Record("filter_ops", case)
    features, filters = record["feat"].requires_grad_(), record["filter"].requires_grad_()
    scores = target_filter.apply(features, filters)
    assert_close(scores, record["scores"], FORWARD)
    gradients = torch.autograd.grad(scores, (features, filters), record["grad_scores"])
    for name, gradient in zip(("grad_feat", "grad_filter"), gradients):
        assert_close(gradient, record[name], GRADIENT, name)
    adjoint = target_filter.apply_transpose(features, record["residual"], filters.shape[-1])
    assert_close(adjoint, record["feat_transpose"], FORWARD)


def test_instance_norm():
    record = Record("filter_ops", "l2norm_")
    x = record["in"].requires_grad_()
    out = InstanceL2Norm(float(record["scale"]))(x)
    assert_close(out, record["out"], FORWARD)
    (gradient,) = torch.autograd.grad(out, x, record["grad_out"])
    assert_close(gradient, record["grad_in"], GRADIENT)


def test_softmax_with_a_dropped_logit():
    record = Record("filter_ops", "softmax_")
    assert_close(reference.softmax(record["in"], None)[0], record["none"], FORWARD)
    assert_close(reference.softmax(record["in"], 0.5)[0], record["p5"], FORWARD)


def test_distance_bins():
    record = Record("filter_ops", "dist_")
    for bins, spacing, key in ((5, 1.0, "map_5x1"), (20, 0.5, "map_20x0p5")):
        assert_close(distance_basis(record["center_yx"], (9, 8), bins, spacing), record[key], FORWARD, key)


def test_label_density():
    record = Record("labels_proposals")
    size = record["gauss_k4_density"].shape[-2:]
    raw = label_density(score_centre(record["bb"], 4), size, 0.9, normalize=False)
    assert_close(raw, record["gauss_k4_density"], FORWARD)
    size = record["gauss_k3_density"].shape[-2:]
    raw = label_density(score_centre(record["bb"], 3), size, 0.9, normalize=False)
    assert_close(raw, record["gauss_k3_density"], FORWARD)


# target classifier


def classifier_of(record: Record, dim: int) -> TargetClassifier:
    """The classifier of a record, with its constants and learned values."""
    hyper = record.json("hyper_json")
    dimp = "num_dist_bins" in hyper
    ours = {
        "gauss_sigma": "sigma",
        "init_gauss_sigma": "sigma",
        "uni_weight": "uniform_weight",
        "num_dist_bins": "bins",
        "bin_displacement": "bin_spacing",
        "mask_init_factor": "mask_factor",
        "mask_act": "mask_activation",
    }
    own_arguments = {"filter_size", "feat_stride", "num_iter"}
    solver = {
        ours.get(k, k): v for k, v in hyper.items() if k not in own_arguments | {"train_mode", "score_act"}
    }
    net = TargetClassifier(
        dim,
        "dimp" if dimp else "prdimp",
        iterations=hyper["num_iter"],
        filter_size=hyper["filter_size"],
        stride=hyper["feat_stride"],
        **solver,
    ).double()
    for name in ("log_step_length", "filter_reg"):
        initial = getattr(net.filter_optimizer, name).item()
        expected = hyper[f"init_{name.removeprefix('log_')}"]
        assert initial == pytest.approx(torch.tensor(expected).log().item() if "log" in name else expected)
    parameters = {k.removeprefix("param_"): record[k] for k in record.names("param_")}
    net.filter_optimizer.load_state_dict(parameters)
    net.filter_initializer.filter_conv.load_state_dict(
        {"weight": record["init_conv_weight"], "bias": record["init_conv_bias"]}
    )
    return net


CLASSIFIERS = [(f, c) for f in ("classifier_prdimp", "classifier_dimp") for c in cases(f, r"(pr|di)_[a-z]+_")]


@pytest.mark.parametrize(("file", "case"), CLASSIFIERS, ids=[c for _, c in CLASSIFIERS])
def test_classifier(file, case):
    record = Record(file, case)
    train, test = record["train_feat"].requires_grad_(), record["test_feat"].requires_grad_()
    boxes = record["train_bb"]
    net = classifier_of(record, train.shape[2])
    k = net.filter_initializer.filter_size
    assert_close(score_centre(boxes, k), record["center_yx"], FORWARD)
    size = target_filter.score_size(train, k)
    if net.kind == "prdimp":
        assert_close(net.filter_optimizer.label(boxes, size, k), record["label_density"], FORWARD)
    else:
        for name, value in zip(
            ("label_map", "target_mask", "spatial_weight"), net.filter_optimizer.maps(boxes, size, k)
        ):
            assert_close(value, record[name], FORWARD, name)

    weight = record["sample_weight"] if "sample_weight" in record.arrays else None
    iterates, solver_losses = net.learn(train, boxes, weight)
    assert_close(iterates[0], record["filter_iters"][0], FORWARD, "initializer")
    assert_close(iterates, record["filter_iters"], FORWARD, "iterates")
    assert_close(solver_losses, record["losses"], FORWARD, "losses")
    scores = target_filter.apply(test, iterates)
    assert_close(scores, record["test_scores"], FORWARD, "scores")

    (scores[-1] * record["grad_final_scores"]).sum().backward()
    conv = net.filter_initializer.filter_conv
    gradients = {
        "grad_train_feat": train.grad,
        "grad_test_feat": test.grad,
        "grad_init_conv_weight": conv.weight.grad,
        "grad_init_conv_bias": conv.bias.grad,
    } | {f"grad_param_{name}": p.grad for name, p in net.filter_optimizer.named_parameters()}
    found = [record.check(name, value, GRADIENT) for name, value in gradients.items()]
    assert sum(found) >= 4


def test_classifier_covers_every_gradient():
    present = {k for f, c in CLASSIFIERS for k in Record(f, c).names("grad_")}
    assert {"grad_train_feat", "grad_test_feat", "grad_init_conv_weight", "grad_param_filter_reg"} <= present


def test_radial_maps_start():
    record = Record("classifier_dimp", "default_")
    net = DiMPOptimizer()
    for key, module in (
        ("label_weight", net.label_map_predictor),
        ("mask_weight", net.target_mask_predictor[0]),
        ("spatial_weight", net.spatial_weight_predictor),
    ):
        torch.testing.assert_close(module.weight.detach(), record[key].float(), msg=key)


# box regressor


def box_regressor() -> tuple[AtomIoUNet, Record]:
    record = Record("iounet")
    net = AtomIoUNet((12, 20), pool_channels=24, hidden=20)
    seeded.fill(net.state_dict(), "bb_regressor.")
    for key in record.names("w_"):
        assert torch.equal(net.state_dict()[key[2:]], record[key]), key
    return net.double(), record


def box_inputs(record: Record) -> dict[str, torch.Tensor]:
    return {
        f"{name}_{kind}": record[f"{name}_{kind}"].double().requires_grad_()
        for name in ("feat3", "feat4")
        for kind in ("ref", "test")
    }


def check_gradient_norms(record: Record, net: torch.nn.Module, prefix: str) -> None:
    """A gradient that is zero in exact arithmetic (bias before a BatchNorm) may be rounding noise."""
    largest = max(float(record[prefix + name]) for name, _ in net.named_parameters())
    for name, parameter in net.named_parameters():
        expected = float(record[prefix + name])
        got = float(parameter.grad.norm())
        assert got == pytest.approx(expected, rel=GRADIENT, abs=GRADIENT * largest), name


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_box_regressor(mode):
    net, record = box_regressor()
    net.train(mode == "train")
    for key in record.names(
        "trainstats_"
    ):  # they hold the start, not the update (that is in train_newstat_ of the nets)
        assert_close(net.state_dict()[key.removeprefix("trainstats_")], record[key], FORWARD, key)
    maps = box_inputs(record)
    proposals = record["proposals"].requires_grad_()
    frames = (maps["feat3_ref"][0], maps["feat4_ref"][0])
    test = (maps["feat3_test"].flatten(0, 1), maps["feat4_test"].flatten(0, 1))
    out = net(frames, test, record["bb_ref"][0], proposals)
    assert_close(out, record[f"{mode}_out"], FORWARD, "out")
    (out * record["grad_out"]).sum().backward()
    assert_close(proposals.grad, record[f"{mode}_grad_proposals"], GRADIENT, "grad_proposals")
    check_gradient_norms(record, net, f"{mode}gradnorm_")
    if mode == "train":
        return

    for i, vector in enumerate(net.modulation(*frames, record["bb_ref"][0]), 3):
        assert_close(vector, record[f"eval_modulation{i}"], FORWARD, f"modulation{i}")
    low, high = net.features(*test)
    record.check("eval_iou_feat3", low[..., ::3, ::3], FORWARD)
    record.check("eval_iou_feat4", high, FORWARD)
    for name, leaf in maps.items():
        record.check(f"eval_grad_{name}", leaf.grad, GRADIENT)
        record.check(f"eval_grad_{name}_s3", leaf.grad[..., ::3, ::3], GRADIENT)


# losses


def check_loss(record: Record, key: str, loss: torch.Tensor, scores: torch.Tensor) -> None:
    assert_close(loss, record[f"{key}_loss"].reshape(()), FORWARD, key)
    (gradient,) = torch.autograd.grad(loss, scores)
    assert_close(gradient, record[f"{key}_grad"], GRADIENT, f"{key} gradient")


def test_kl_box_loss():
    record = Record("losses")
    scores = record["klmc_scores"].requires_grad_()
    densities = record["klmc_sample_density"], record["klmc_gt_density"]
    check_loss(record, "klmc", losses.kl_box_loss(scores, *densities), scores)
    check_loss(record, "klmc_eps001", losses.kl_box_loss(scores, *densities, eps=0.01), scores)


def test_kl_grid_loss():
    record = Record("losses")
    scores = record["klgrid_scores"].requires_grad_()
    check_loss(record, "klgrid", losses.kl_grid_loss(scores, record["klgrid_density"]), scores)
    check_loss(record, "klgrid_gs025", losses.kl_grid_loss(scores, record["klgrid_density"], 0.25), scores)


def test_lb_hinge_loss():
    record = Record("losses")
    scores, label = record["lbh_scores"].requires_grad_(), record["lbh_label"]
    check_loss(record, "lbh", losses.lb_hinge_loss(scores, label, float(record["lbh_threshold"])), scores)
    check_loss(record, "lbh_nothr", losses.lb_hinge_loss(scores, label, -100), scores)
    check_loss(record, "lbh_clip1", losses.lb_hinge_loss(scores, label, clip=1), scores)


# whole nets


def net_of(kind: str, depth: int) -> TrackerNet:
    """The seeded net; one of 18 layers comes out of a checkpoint file as pytracking writes it."""
    net = build_tracker(kind, depth, backbone_weights="random")
    weights = to_published(net.state_dict())
    seeded.fill(weights)
    if depth == 50:
        return net.double()
    weights = {k: weights.get(k, torch.zeros(()).expand(shape)) for k, shape in published_shapes(kind, depth)}
    with tempfile.TemporaryDirectory() as folder:
        path = public_files.save(Path(folder) / f"{kind}{depth}.pth.tar", weights, legacy=kind == "dimp")
        return load_tracker(path).net.double()


def published_shapes(kind: str, depth: int) -> list[tuple[str, tuple[int, ...]]]:
    listed = json.loads((golden.ROOT / f"prdimp/{kind}{depth}_state_dict.json").read_text())
    return [(key, tuple(shape)) for key, shape in listed.items()]


@pytest.mark.parametrize(("kind", "depth"), NETS)
def test_state_dict_is_the_published_one(kind, depth):
    """Same names and shapes, but for layer4 and fc of the backbone, which never run and are left out."""
    published = dict(published_shapes(kind, depth))
    unused = ("feature_extractor.layer4.", "feature_extractor.fc.")
    expected = {k: v for k, v in published.items() if not k.startswith(unused)}
    with torch.device("meta"):
        state = {k: torch.empty(v) for k, v in published.items()}
    net = build_tracker(kind, depth, backbone_weights="random")
    ours = net.state_dict()
    assert {k: tuple(v.shape) for k, v in to_published(ours).items()} == expected
    assert {k: tuple(v.shape) for k, v in from_published(state).items()} == {
        k: tuple(v.shape) for k, v in ours.items()
    }


def stats(x: torch.Tensor) -> torch.Tensor:
    return torch.stack([x.mean(), x.std(unbiased=False), x.abs().max(), x.square().sum()])


@functools.cache
def batch() -> dict[str, torch.Tensor]:
    made = golden.made_with("inputs")
    return seeded.inputs(**{{"ns": "s"}.get(name, name): value for name, value in made.items()})


@functools.cache
def eval_maps(depth: int, images: str) -> tuple[torch.Tensor, torch.Tensor]:
    """layer2 and layer3 of the seeded backbone in eval mode: the same in PrDiMP and DiMP."""
    with torch.no_grad():
        return net_of("prdimp", depth).eval().feature_extractor(batch()[images].flatten(0, 1))


class CachedBackbone(torch.nn.Module):
    def __init__(self, depth: int):
        super().__init__()
        self.depth = depth

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        name = next(k for k in ARGUMENTS[:2] if torch.equal(batch()[k].flatten(0, 1), images))
        return eval_maps(self.depth, name)


@pytest.mark.parametrize(("kind", "depth"), NETS)
def test_net_eval(kind, depth):
    record = Record(f"net_{kind}{depth}")
    for name in ("train", "test"):
        record.check(f"{name}_images_s16", batch()[f"{name}_images"][..., ::16, ::16].float(), 0)
    for name in record.names("train_anno|test_|proposal_|gt_"):
        if name in batch():
            assert_close(batch()[name], record[name], 1e-12, name)

    net = net_of(kind, depth).eval()
    net.feature_extractor = CachedBackbone(depth)
    layer2, layer3 = eval_maps(depth, "test_images")
    with torch.no_grad():
        scores, boxes = net(*(batch()[k] for k in ARGUMENTS))
        classification = net.classifier.normalize(net.neck(layer2, layer3))
    assert_close(stats(layer2), record["eval_layer2_stats"], FORWARD)
    assert_close(layer2[:, ::64, ::4, ::4], record["eval_layer2_sub"], FORWARD)
    assert_close(stats(layer3), record["eval_layer3_stats"], FORWARD)
    assert_close(layer3[:, ::64, ::4, ::4], record["eval_layer3_sub"], FORWARD)
    assert_close(stats(classification), record["eval_clf_stats"], FORWARD)
    assert_close(classification[:, ::32, ::3, ::3], record["eval_clf_sub"], FORWARD)
    assert_close(torch.stack(scores), record["eval_scores"], FORWARD)
    assert_close(boxes, record["eval_bb"], FORWARD)


TRAIN = [pytest.param(k, d, marks=[pytest.mark.slow] if d == 50 else []) for k, d in NETS]


@pytest.mark.parametrize(("kind", "depth"), TRAIN)
def test_net_training_step(kind, depth):
    record = Record(f"net_{kind}{depth}")
    net = net_of(kind, depth).train()
    scores, boxes = net(*(batch()[k] for k in ARGUMENTS))
    if kind == "prdimp":
        density = batch()["test_label_density"]
        terms = losses.prdimp_loss(scores, density, boxes, batch()["proposal_density"], batch()["gt_density"])
        names = {"final": "clf_ce", "initial": "clf_ce_init", "middle": "clf_ce_iter"}
        reported = {ours: f"ClfTrain/{theirs}" for ours, theirs in names.items()} | {"box": "Loss/bb_ce"}
    else:
        terms = losses.dimp_loss(scores, batch()["test_label"], boxes, batch()["proposal_iou"])
        names = {"final": "test_loss", "initial": "test_init_loss", "middle": "test_iter_loss"}
        reported = {ours: f"ClfTrain/{theirs}" for ours, theirs in names.items()} | {"box": "Loss/iou"}
    assert_close(terms["total"], record["train_loss"], FORWARD, "total")
    expected = record.json("train_stats_json")
    for ours, theirs in reported.items():
        assert terms[ours].item() == pytest.approx(expected[theirs], rel=FORWARD), theirs

    terms["total"].backward()
    gradients = {k: p.grad for k, p in to_published(dict(net.named_parameters())).items()}
    names = [str(n) for n in record.arrays["train_grad_names"]]
    assert set(names) == {k for k, g in gradients.items() if g is not None}
    largest = float(record["train_grad_norm"].max())
    for name, norm, total in zip(
        names, record["train_grad_norm"].tolist(), record["train_grad_sum"].tolist()
    ):
        got = gradients[name]
        slack = {"rel": GRADIENT, "abs": GRADIENT * largest}
        assert float(got.norm()) == pytest.approx(norm, **slack), name
        assert float(got.sum()) == pytest.approx(total, rel=GRADIENT, abs=GRADIENT * max(norm, largest)), name
    state = to_published(net.state_dict())
    for key in record.names("train_newstat_"):
        assert_close(state[key.removeprefix("train_newstat_")], record[key], FORWARD, key)
