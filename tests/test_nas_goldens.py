"""Operations, mixed operations, cells and necks against arrays of the public implementations."""

import pytest
import torch
from torch import Tensor, nn

from chase_fast.kernels.sep_conv import sep_conv
from chase_fast.nn.derived_cell import DerivedCell
from chase_fast.nn.genotype import CHASE, Genotype
from chase_fast.nn.neck import DerivedNeck, SearchNeck
from chase_fast.nn.preprocess import FactorizedReduce, ReluConvNorm
from chase_fast.nn.search_cell import SearchCell, SkipMasks
from chase_fast.nn.space import OPS
from tests.golden import load, prefixes, sub
from tests.nas_names import Slot, derived_slots, load_weights, neck_slots, norm_slots, search_slots
from tests.tolerances import GOLDEN, assert_close

CONVOLUTIONS = OPS[4:]


def check(
    golden: dict[str, Tensor], module: nn.Module, run, leaves: dict[str, Tensor], slots: list[Slot]
) -> None:
    """One train-mode pass (output, every gradient, running statistics after it), then one in eval mode."""
    load_weights(slots, golden)
    weights = [s for s in slots if isinstance(s.tensor, nn.Parameter)]
    parameters = list({id(s.tensor): s.tensor for s in weights}.values())
    for leaf in leaves.values():
        leaf.requires_grad_()

    y = run()
    assert_close(y, golden["y"], GOLDEN["forward"], "y")
    if y.requires_grad:
        gradients = torch.autograd.grad(y, [*leaves.values(), *parameters], golden["gy"], allow_unused=True)
    else:
        gradients = [None] * (len(leaves) + len(parameters))
    for (name, leaf), g in zip(leaves.items(), gradients):
        assert_close(torch.zeros_like(leaf) if g is None else g, golden[name], GOLDEN["gradient"], name)
    found = {id(p): g for p, g in zip(parameters, gradients[len(leaves) :])}
    for slot in weights:
        expected = golden[f"gw/{slot.key}"]
        got = slot.part(found[id(slot.tensor)])
        assert_close(got, expected.reshape(got.shape), GOLDEN["gradient"], f"gradient of {slot.key}")

    statistics = [s for s in slots if not isinstance(s.tensor, nn.Parameter)]
    expected = {k for k in golden if k.startswith("buf/") and not k.endswith("num_batches_tracked")}
    assert {f"buf/{s.key}" for s in statistics} == expected
    for slot in statistics:
        assert_close(slot.part(), golden[f"buf/{slot.key}"], GOLDEN["forward"], slot.key)
    if "y_eval" not in golden:  # fair_mixed
        return
    module.eval()
    with torch.no_grad():
        assert_close(run(), golden["y_eval"], GOLDEN["forward"], "y_eval")


def one_edge(x: Tensor, ops, flavour: str, mixing: Tensor, masks=None) -> tuple[SearchCell, object]:
    """A cell of one node whose edge 0 carries x; edge 1 has mixing weights 0."""
    cell = SearchCell(x.shape[1], 1, ops, flavour).double()
    other = torch.randn_like(x)

    def run():
        rows = torch.stack([mixing, torch.zeros_like(mixing)])
        return cell(x, other, rows, masks=masks)

    return cell, run


def check_searched(golden: dict[str, Tensor], op: str, flavour: str) -> None:
    """A single operation as the search cell runs it: mixing weight 1."""
    ops = (op, "skip_connect") if op == "none" else (op,)
    mixing = torch.tensor([1.0, 0.0][: len(ops)], dtype=torch.float64)
    cell, run = one_edge(golden["x"], ops, flavour, mixing)
    check(golden, cell, run, {"gx": golden["x"]}, search_slots(cell, lambda e, k: "", edges=1))


def check_derived(golden: dict[str, Tensor], op: str, flavour: str) -> None:
    """A single operation as the derived cell runs it."""
    cell = DerivedCell(Genotype((((op, 0),),)), golden["x"].shape[1], flavour).double()
    slots = derived_slots(cell, flavour, lambda g: "")
    check(golden, cell, lambda: cell(golden["x"], golden["x"].detach()), {"gx": golden["x"]}, slots)


@pytest.mark.parametrize("case", prefixes("nas/chase_ops", 2))
def test_chase_ops(case):
    op = case.split("/")[-1]
    check_searched(sub("nas/chase_ops", case), op, "chase")
    if not op.endswith("pool_3x3"):  # derived pools have no norm
        check_derived(sub("nas/chase_ops", case), op, "chase")


@pytest.mark.parametrize("case", [p for p in prefixes("nas/darts_ops", 4) if "/s1/" in p])
def test_darts_ops(case):
    affine, op = case.split("/")[-2:]
    golden = sub("nas/darts_ops", case)
    if affine == "noaffine" or op.endswith("pool_3x3"):  # these pools have the norm of the search
        check_searched(golden, op, "darts")
    else:
        check_derived(golden, op, "darts")


# none and pools of stride 2 are in no cell of ours
@pytest.mark.parametrize(
    "case", [p for p in prefixes("nas/darts_ops", 4) if "/s2/" in p and p.endswith(CONVOLUTIONS)]
)
def test_darts_strided(case):
    """A stride-2 separable or dilated operation, built from `sep_conv` calls."""
    op = case.split("/")[-1]
    golden = sub("nas/darts_ops", case)
    x, eps = golden["x"].requires_grad_(), 1e-5
    dilation = 1 if op.startswith("sep_conv") else 2
    starts = (1, 5) if dilation == 1 else (1,)
    weights = {k: golden[k].requires_grad_() for k in golden if k.startswith("w/")}

    def run(training: bool) -> Tensor:
        y = x
        for layer, stride in zip(starts, (2, 1)):
            dw, pw = weights[f"w/op.{layer}.weight"], weights[f"w/op.{layer + 1}.weight"]
            norm = f"op.{layer + 2}"
            gamma = weights.get(f"w/{norm}.weight", torch.ones(pw.shape[0], dtype=x.dtype))
            beta = weights.get(f"w/{norm}.bias", torch.zeros(pw.shape[0], dtype=x.dtype))
            statistics = (golden[f"buf/{norm}.running_mean"], golden[f"buf/{norm}.running_var"])
            y, mean, var = sep_conv(
                y, dw[:, 0], pw[:, :, 0, 0], gamma, beta, *statistics,
                stride=stride, dilation=dilation, flavour="darts", training=training, eps=eps,
            )  # fmt: skip
            if training:
                unbiased = var[0] * (y[:, 0].numel() / (y[:, 0].numel() - 1))
                assert_close(0.1 * mean[0], statistics[0], GOLDEN["forward"], f"{norm} mean")
                assert_close(0.9 + 0.1 * unbiased, statistics[1], GOLDEN["forward"], f"{norm} var")
        return y

    y = run(True)
    assert_close(y, golden["y"], GOLDEN["forward"], "y")
    gradients = torch.autograd.grad(y, [x, *weights.values()], golden["gy"])
    for name, g in zip(["gx", *(f"g{k}" for k in weights)], gradients):
        assert_close(g, golden[name], GOLDEN["gradient"], name)
    assert_close(run(False), golden["y_eval"], GOLDEN["forward"], "y_eval")


@pytest.mark.parametrize(
    "case", [p for p in prefixes("nas/darts_ops", 4) if "/s2/" in p and p.endswith("skip_connect")]
)
def test_factorized_reduce(case):
    golden = sub("nas/darts_ops", case)
    module = FactorizedReduce(golden["x"].shape[1], golden["y"].shape[1], affine="/affine/" in case).double()
    slots = [
        Slot("conv_1.weight", module.even.weight),
        Slot("conv_2.weight", module.shifted.weight),
        *norm_slots("bn", module.norm),
    ]
    check(golden, module, lambda: module(golden["x"]), {"gx": golden["x"]}, slots)


def check_mixed(golden: dict[str, Tensor], ops, flavour: str, activate) -> None:
    masks = None
    if "skip_mask" in golden:
        keep = golden["skip_mask"].bool()
        masks = SkipMasks(torch.stack([keep, keep]), 1 / (1 - 0.6))
    for wanted in ("gmix", "galpha"):
        leaf = golden["mix" if wanted == "gmix" else "alpha"].clone()
        mixing = leaf if wanted == "gmix" else activate(leaf.requires_grad_())
        cell, run = one_edge(golden["x"], ops, flavour, mixing, masks)
        slots = search_slots(cell, lambda e, k: f"_ops.{k}.", edges=1)
        check(golden, cell, run, {"gx": golden["x"], wanted: leaf}, slots)


def softmax(alpha: Tensor) -> Tensor:
    return alpha.softmax(-1)


@pytest.mark.parametrize("case", prefixes("nas/chase_mixedop", 2))
def test_chase_mixed_op(case):
    check_mixed(sub("nas/chase_mixedop", case), OPS, "chase", softmax)


@pytest.mark.parametrize("case", prefixes("nas/darts_mixedop"))
def test_darts_mixed_op(case):
    check_mixed(sub("nas/darts_mixedop", case), OPS, "darts", softmax)


@pytest.mark.parametrize("case", [p for p in prefixes("nas/fair_mixed", 2) if p.endswith("mixedop")])
def test_fair_mixed_op(case):
    check_mixed(sub("nas/fair_mixed", case), OPS[1:], "darts", torch.sigmoid)


def check_cell(golden: dict[str, Tensor], ops, activate) -> None:
    """The textbook cell behind two 1x1 inputs."""
    channels = golden["y"].shape[1] // 4
    inputs = [ReluConvNorm(golden[s].shape[1], channels, affine=False) for s in ("s0", "s1")]
    cell = SearchCell(channels, 4, ops, "darts")
    module = nn.ModuleList([*inputs, cell]).double()
    slots = search_slots(cell)
    for i, preprocess in enumerate(inputs):
        slots.append(Slot(f"preprocess{i}.op.1.weight", preprocess.conv.weight))
        slots += norm_slots(f"preprocess{i}.op.2", preprocess.norm)
    mixing = []

    def run():
        mixing[:] = [activate(golden["alpha"])]
        return cell(inputs[0](golden["s0"]), inputs[1](golden["s1"]), mixing[0])

    leaves = {"gs0": golden["s0"], "gs1": golden["s1"], "galpha": golden["alpha"]}
    check(golden, module, run, leaves, slots)
    module.train()
    run()
    assert_close(mixing[0], golden["mix"], GOLDEN["forward"], "mix")


@pytest.mark.parametrize("case", prefixes("nas/darts_cell"))
def test_darts_cell(case):
    check_cell(sub("nas/darts_cell", case), OPS, softmax)


@pytest.mark.parametrize("case", [p for p in prefixes("nas/fair_mixed", 2) if p.endswith("cell")])
def test_fair_cell(case):
    check_cell(sub("nas/fair_mixed", case), OPS[1:], torch.sigmoid)


@pytest.mark.parametrize("case", prefixes("nas/chase_neck_search"))
def test_chase_search_neck(case):
    golden = sub("nas/chase_neck_search", case)
    layer2, layer3, alpha = golden["layer2"], golden["layer3"], golden["alpha"]
    neck = SearchNeck((layer2.shape[1], layer3.shape[1]), golden["y"].shape[1] // 4).double()
    leaves = {"glayer2": layer2, "glayer3": layer3, "galpha": alpha}
    slots = neck_slots(neck, search_slots(neck.cell))
    check(golden, neck, lambda: neck(layer2, layer3, softmax(alpha)), leaves, slots)


@pytest.mark.parametrize("case", prefixes("nas/chase_neck_final"))
def test_chase_derived_neck(case):
    golden = sub("nas/chase_neck_final", case)
    layer2, layer3 = golden["layer2"], golden["layer3"]
    neck = DerivedNeck((layer2.shape[1], layer3.shape[1]), CHASE, golden["y"].shape[1] // 4).double()
    slots = neck_slots(neck, derived_slots(neck.cell, "chase"))
    check(golden, neck, lambda: neck(layer2, layer3), {"glayer2": layer2, "glayer3": layer3}, slots)


def test_published_cell_is_the_golden_one():
    golden = load("nas/chase_neck_final")
    genes = [gene for node in CHASE.nodes for gene in node]
    assert [OPS.index(op) for op, _ in genes] == golden["genotype_ops"].tolist()
    assert [source for _, source in genes] == golden["genotype_src"].tolist()
