"""Architecture gradients, trajectories and derivation against arrays of the public implementations
(golden/nas)."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chase_fast.nn.losses import kl_grid_loss
from chase_fast.nn.mixing import mixing_weights
from chase_fast.nn.neck import SearchNeck
from chase_fast.nn.preprocess import ReluConvNorm
from chase_fast.nn.search_cell import SearchCell
from chase_fast.nn.space import OPS
from chase_fast.nn.target_classifier import InstanceL2Norm
from chase_fast.search.bilevel import FlatParameters, first_order, second_order, weight_gradient
from chase_fast.search.derive import derive
from chase_fast.search.mixing import zero_one_loss
from tests.golden import load, prefixes, sub
from tests.nas_names import Slot, load_weights, neck_slots, norm_slots, search_slots
from tests.tolerances import GOLDEN, assert_close

C = 8
SCORES = (0.3, 0.6, 1.0)  # iterates of the CHASE toy head


class Setting:
    """A toy network of the goldens: its slots, flat weights, alpha, and loss closures on a batch."""

    def __init__(self, golden: dict[str, Tensor], alpha: Tensor, weights: str, dtype=torch.float64):
        self.module = self.build(golden).to(dtype)
        self.slots = self.find_slots()  # `to` replaces buffers, so not before
        self.dtype = dtype
        load_weights(self.slots, {k: v for k, v in golden.items() if k.startswith(weights)}, weights)
        self.flat = FlatParameters(self.module.parameters())
        self.alpha = nn.Parameter(alpha.to(dtype, copy=True))

    def buffers(self) -> list[Slot]:
        return [s for s in self.slots if not isinstance(s.tensor, nn.Parameter)]

    def load_buffers(self, golden: dict[str, Tensor], prefix: str) -> None:
        for slot in self.buffers():
            if f"{prefix}{slot.key}" in golden:
                slot.part().copy_(golden[f"{prefix}{slot.key}"])

    def check_buffers(self, golden: dict[str, Tensor], prefix: str) -> None:
        for slot in self.buffers():
            if f"{prefix}{slot.key}" in golden:
                assert_close(slot.part(), golden[f"{prefix}{slot.key}"], GOLDEN["forward"], slot.key)

    def check_weights(self, flat: Tensor, golden: dict[str, Tensor], prefix: str, tolerance: float) -> None:
        """Values [P] laid out like the weights against the peer's arrays that are present."""
        views = {id(p): v for p, v in zip(self.flat.parameters, self.flat.split(flat))}
        for slot in self.slots:
            expected = golden.get(f"{prefix}{slot.key}")
            if expected is not None and id(slot.tensor) in views:
                got = slot.part(views[id(slot.tensor)])
                assert_close(got, expected.reshape(got.shape), tolerance, f"{prefix}{slot.key}")

    def momentum(self, golden: dict[str, Tensor], prefix: str) -> Tensor | None:
        if not any(k.startswith(prefix) for k in golden):
            return None
        flat = torch.zeros_like(self.flat.values)
        views = {id(p): v for p, v in zip(self.flat.parameters, self.flat.split(flat))}
        for slot in self.slots:
            if id(slot.tensor) in views:
                part = slot.part(views[id(slot.tensor)])
                part.copy_(golden[f"{prefix}{slot.key}"].reshape(part.shape))
        return flat


class Darts(Setting):
    """Tiny net of the DARTS goldens: preprocess, cell, linear classifier on the pooled output."""

    eta, weight_decay, mu = 0.025, 3e-4, 0.9
    ops, mixing = OPS, "softmax"

    def build(self, golden: dict[str, Tensor]) -> nn.Module:
        return nn.ModuleDict(
            {
                "preprocess0": ReluConvNorm(12, C, affine=False),
                "preprocess1": ReluConvNorm(16, C, affine=False),
                "cell": SearchCell(C, 4, self.ops, "darts"),
                "classifier": nn.Linear(4 * C, 5),
            }
        )

    def find_slots(self) -> list[Slot]:
        m = self.module
        slots = [Slot(f"cell.{s.key}", s.tensor, s.index) for s in search_slots(m["cell"])]
        for i in (0, 1):
            pre = m[f"preprocess{i}"]
            slots += [
                Slot(f"cell.preprocess{i}.op.1.weight", pre.conv.weight),
                *norm_slots(f"cell.preprocess{i}.op.2", pre.norm),
            ]
        return slots + [Slot(f"classifier.{n}", p) for n, p in m["classifier"].named_parameters()]

    def loss(self, batch: dict[str, Tensor]):
        def run(update_statistics: bool) -> Tensor:
            m = self.module
            inputs = [
                m[f"preprocess{i}"](batch[f"s{i}"].to(self.dtype), update_stats=update_statistics)
                for i in (0, 1)
            ]
            mixing = mixing_weights(self.alpha[: m["cell"].edges], self.mixing)
            y = m["cell"](*inputs, mixing, update_stats=update_statistics)
            logits = m["classifier"](y.mean((2, 3)))
            target = batch["target"]
            if target.is_floating_point():
                return F.mse_loss(logits, target.to(self.dtype))
            return F.cross_entropy(logits, target)

        return run


class Fair(Darts):
    ops, mixing = OPS[1:], "sigmoid"


class Chase(Setting):
    """CHASE neck with the toy head of the goldens (README: toy head)."""

    weight_decay, mu = 3e-4, 0.0

    def build(self, golden: dict[str, Tensor]) -> nn.Module:
        self.eta, self.u = float(golden["eta"]), golden["u"]
        self.norm = InstanceL2Norm(1.0)
        return SearchNeck((12, 20), C)

    def find_slots(self) -> list[Slot]:
        return neck_slots(self.module, search_slots(self.module.cell))

    def loss(self, batch: dict[str, Tensor]):
        maps = [
            torch.cat([batch[f"{part}_{name}"] for part in ("train", "test")])
            for name in ("layer2", "layer3")
        ]
        maps = [m.to(self.dtype) for m in maps]
        density = batch["test_label_density"].to(self.dtype)
        box = 0.0
        if "test_proposals" in batch:  # constant in weights and alpha
            s, q, p = (batch[k].to(self.dtype) for k in ("test_proposals", "proposal_density", "gt_density"))
            normaliser = (s - q.log()).logsumexp(-1) - torch.tensor(float(s.shape[-1])).log()
            box = 0.0025 * (normaliser - (s * p / q).mean(-1)).mean()

        def run(update_statistics: bool) -> Tensor:
            mixing = torch.softmax(self.alpha, -1)
            y = self.norm(self.module(*maps, mixing, groups=2, update_stats=update_statistics))
            train, test = y.unflatten(0, (2, *density.shape[:2]))  # [images, sequences, 32, h, w]
            f = train.mean((0, 3, 4)) + self.u.to(self.dtype)  # [sequences, 32]
            score = torch.einsum("ischw,sc->ishw", test, f)
            first, middle, last = (kl_grid_loss(k * score, density) for k in SCORES)
            return 0.25 * last + 0.25 * first + middle + box

        return run


def architect_step(setting: Setting, golden: dict[str, Tensor], **options):
    """Second-order gradient on the batches of a case, BatchNorm updated in every pass as the public code
    does."""
    return second_order(
        setting.loss(part(golden, "train/")),
        setting.loss(part(golden, "valid/")),
        setting.alpha,
        setting.flat,
        eta=setting.eta,
        weight_decay=setting.weight_decay,
        momentum=setting.mu,
        every_pass_updates=True,
        **options,
    )


def part(golden: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in golden.items() if k.startswith(prefix)}


def adam(alpha: nn.Parameter, lr: float = 3e-4, betas=(0.5, 0.999)) -> torch.optim.Adam:
    return torch.optim.Adam([alpha], lr=lr, betas=betas, weight_decay=1e-3, foreach=False)


def check_architect(kind: type[Setting], golden: dict[str, Tensor]) -> None:
    setting = kind(golden, golden["alpha"], "before/w/")
    setting.load_buffers(golden, "before/buf/")

    first = first_order(setting.loss(part(golden, "valid/")), setting.alpha, setting.flat)
    assert_close(first.galpha, golden["first/galpha"], GOLDEN["gradient"], "first order")

    before = setting.flat.values.clone()
    result = architect_step(setting, golden, momentum_buffer=setting.momentum(golden, "before/mom/"))
    assert torch.equal(setting.flat.values, before)  # exact restore
    setting.check_weights(result.unrolled, golden, "second/unrolled/w/", GOLDEN["gradient"])
    setting.check_weights(result.v, golden, "second/v/", GOLDEN["gradient"])
    assert_close(result.v.norm(), golden["second/v_norm"], GOLDEN["gradient"], "|v|")
    assert_close(result.loss_val, golden["second/loss_valid_unrolled"], GOLDEN["forward"], "validation loss")
    assert_close(result.dalpha, golden["second/dalpha"], GOLDEN["gradient"], "dalpha")
    assert_close(result.implicit, golden["second/implicit_fd"], GOLDEN["alpha_2nd_order"], "implicit term")
    assert_close(result.galpha, golden["second/galpha"], GOLDEN["alpha_2nd_order"], "galpha")
    setting.check_buffers(golden, "after/buf/")

    setting.alpha.grad = result.galpha
    adam(setting.alpha).step()
    assert_close(setting.alpha, golden["second/alpha_after"], GOLDEN["alpha_2nd_order"], "alpha")


@pytest.mark.parametrize("case", prefixes("nas/darts_architect"))
def test_darts_architect(case):
    golden = sub("nas/darts_architect", case)
    check_architect(Darts, golden)
    if "f32/galpha" in golden:
        setting = Darts(golden, golden["alpha"], "before/w/", torch.float32)
        buffer = setting.momentum(golden, "before/mom/")
        result = architect_step(setting, golden, momentum_buffer=buffer)
        assert_close(
            result.implicit, golden["f32/implicit_fd"], GOLDEN["float32_implicit"], "fp32 implicit term"
        )
        assert_close(result.galpha, golden["f32/galpha"], GOLDEN["float32_implicit"], "float32 galpha")


@pytest.mark.parametrize("case", prefixes("nas/chase_architect"))
def test_chase_architect(case):
    golden = sub("nas/chase_architect", case)
    setting = Chase(golden, golden["alpha"], "before/w/")
    with torch.no_grad():
        loss = setting.loss(part(golden, "train/"))(False)
        assert_close(loss, golden["loss_train"], GOLDEN["forward"], "training loss")
    check_architect(Chase, golden)


def iterations(name: str) -> list[dict[str, Tensor]]:
    """Batches and results of it1, it2, ... as far as this copy has them."""
    steps = []
    while f"it{len(steps) + 1}/galpha" in load(name):
        steps.append(sub(name, f"it{len(steps) + 1}"))
    return steps


def check_trajectory(kind: type[Setting], name: str, optimizer, clip: float | None) -> None:
    golden = sub(name, "it0") | {k: torch.from_numpy(load(name)[k]) for k in ("u", "eta") if k in load(name)}
    setting = kind(golden, torch.from_numpy(load(name)["alpha0"]), "w/")
    setting.load_buffers(golden, "buf/")
    weights, alphas = optimizer(setting), adam(setting.alpha)
    steps = iterations(name)
    for step in steps:
        buffer = weights.state[setting.flat.values].get("momentum_buffer")
        result = architect_step(setting, step, momentum_buffer=buffer)
        assert_close(result.galpha, step["galpha"], GOLDEN["alpha_2nd_order"], "galpha")
        setting.alpha.grad = result.galpha
        alphas.step()
        assert_close(setting.alpha, step["alpha"], GOLDEN["alpha_2nd_order"], "alpha")
        loss, (gradient,) = weight_gradient(setting.loss(part(step, "train/")), setting.alpha, setting.flat)
        assert_close(loss, step["loss_train"], GOLDEN["alpha_2nd_order"], "training loss")
        if clip is not None:
            assert_close(gradient.norm(), step["grad_norm"], GOLDEN["alpha_2nd_order"], "gradient norm")
            gradient *= (clip / (gradient.norm() + 1e-6)).clamp(max=1)
        setting.flat.values.grad = gradient
        weights.step()
    final = sub(name, "final")
    if final:
        setting.check_weights(setting.flat.values, final, "w/", GOLDEN["alpha_2nd_order"])
        setting.check_buffers(final, "buf/")


def test_darts_trajectory():
    def sgd(setting):
        return torch.optim.SGD(
            [setting.flat.values], lr=0.025, momentum=0.9, weight_decay=3e-4, foreach=False
        )

    check_trajectory(Darts, "nas/darts_trajectory", sgd, clip=5.0)


def test_chase_trajectory():
    check_trajectory(
        Chase,
        "nas/chase_trajectory",
        lambda setting: torch.optim.Adam([setting.flat.values], lr=1e-3, foreach=False),
        clip=None,
    )


def genes(alpha: Tensor, mixing: str = "softmax", **rule) -> list[list[int]]:
    ops = OPS if alpha.shape[1] == len(OPS) else OPS[1:]
    genotype = derive(mixing_weights(alpha, mixing), ops, **rule)
    return [[ops.index(op), i + 2, source] for i, node in enumerate(genotype.nodes) for op, source in node]


def without_destination(rows: list[list[int]]) -> list[list[int]]:
    return [[op, source] for op, _, source in rows]


@pytest.mark.parametrize("case", prefixes("nas/darts_genotype"))
def test_darts_genotype(case):
    golden = sub("nas/darts_genotype", case)
    for alpha, gene in (("alpha", "gene"), ("alpha_f32", "gene_f32")):
        found = genes(golden[alpha], none_counts=False)
        assert without_destination(found) == golden[gene].tolist(), alpha


@pytest.mark.parametrize("case", prefixes("nas/chase_genotype"))
def test_chase_genotype(case):
    golden = sub("nas/chase_genotype", case)
    assert without_destination(genes(golden["alpha"])) == golden["gene"].tolist()


@pytest.mark.parametrize("case", prefixes("nas/fair_genotype"))
def test_fair_genotype(case):
    golden = sub("nas/fair_genotype", case)
    found = {
        rule: genes(golden["alpha"], mixing="sigmoid", rule=rule)
        for rule in ("threshold_sparse", "threshold_edge")
    }
    assert without_destination(genes(golden["alpha"], mixing="sigmoid")) == golden["darts"].tolist()
    for rule, rows in found.items():
        assert rows == golden[rule].reshape(-1, 3).tolist(), rule


@pytest.mark.parametrize("case", prefixes("nas/fair_loss"))
def test_fair_loss(case):
    golden = sub("nas/fair_loss", case)
    normal, reduce = golden["alpha_normal"], golden["alpha_reduce"]
    ce = F.cross_entropy(golden["logits"], golden["target"])
    assert_close(mixing_weights(normal, "sigmoid"), golden["sigmoid_normal"], GOLDEN["forward"], "sigmoid")
    records = sorted({k.split("/")[0] for k in golden if "/" in k})
    assert records
    for record in records:
        kind, weight, which = record.split("_")
        expected = part(golden, f"{record}/")
        alpha = (torch.cat([normal, reduce]) if which == "both" else normal).clone().requires_grad_()
        zero_one = zero_one_loss(alpha, kind)
        total = ce + float(weight[1:]) * zero_one
        (gradient,) = torch.autograd.grad(total, [alpha])
        assert_close(zero_one, expected["zero_one"], GOLDEN["forward"], record)
        assert_close(total, expected["total"], GOLDEN["forward"], record)
        galpha = torch.cat([expected[f"galpha_{k}"] for k in ("normal", "reduce")[: len(alpha) // 14]])
        assert_close(gradient, galpha, GOLDEN["gradient"], record)


@pytest.mark.parametrize("case", prefixes("nas/fair_architect"))
def test_fair_architect(case):
    golden = sub("nas/fair_architect", case)
    alpha = torch.cat([golden["alpha_normal"], golden["alpha_reduce"]])
    setting = Fair(golden, alpha, "before/w/")
    data_loss = setting.loss(golden)
    with torch.no_grad():
        assert_close(data_loss(False), golden["ce"], GOLDEN["forward"], "cross entropy")
        assert_close(zero_one_loss(alpha, case), golden["zero_one"], GOLDEN["forward"], "zero-one loss")

    def loss(update_statistics: bool) -> Tensor:
        return data_loss(update_statistics) + 10 * zero_one_loss(setting.alpha, case)

    result = first_order(loss, setting.alpha, setting.flat)
    for name, rows in (("normal", slice(14)), ("reduce", slice(14, 28))):
        assert_close(result.galpha[rows], golden[f"galpha_{name}"], GOLDEN["gradient"], name)
    setting.alpha.grad = result.galpha
    adam(setting.alpha, lr=3e-3, betas=(0.9, 0.999)).step()
    for name, rows in (("normal", slice(14)), ("reduce", slice(14, 28))):
        assert_close(setting.alpha[rows], golden[f"alpha_{name}_after"], GOLDEN["gradient"], name)
