"""Search methods: PC-DARTS and DARTS- against plain-torch formulations of their papers, and the seam."""

import dataclasses
import json
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from chase_fast import imports
from chase_fast.errors import ChaseError
from chase_fast.fields import load_json
from chase_fast.kernels._dispatch import using
from chase_fast.nn.genotype import Genotype
from chase_fast.nn.search_cell import SearchCell, SkipMasks, first_edge
from chase_fast.nn.seeded import seeded
from chase_fast.nn.space import OPS
from chase_fast.recipes import SearchConfig, search_recipe
from chase_fast.runs.folder import CHECKPOINT, RunFolder
from chase_fast.search import (
    FlatParameters,
    Method,
    first_order,
    loop,
    methods,
    register_method,
    second_order,
)
from chase_fast.search import __main__ as cli
from chase_fast.search.mixing import mixing_weights
from chase_fast.train.__main__ import main as train
from tests.flags import changed
from tests.test_report import page
from tests.test_search import TINY, assert_same, rows
from tests.tolerances import KERNEL, assert_close

TOLERANCE = KERNEL[torch.float64]
DOUBLE = torch.float64


def config_of(method: str, **changes) -> SearchConfig:
    return dataclasses.replace(search_recipe("paper"), method=method, **changes)


# the operations of a search cell in plain torch, on our weights


def norm(y: Tensor, state, row: int) -> Tensor:
    return F.batch_norm(y, None, None, state.weight[row], state.bias[row], True)


def convolution(cell: SearchCell, op: str, x: Tensor, node: int, source: int) -> Tensor:
    chase = cell.sources[source].flavour == "chase"
    conv, row = cell.sources[source].convolutions[op], node - max(0, source - 1)
    dilation = 2 if op.startswith("dil") else 1
    for stage, (depthwise, pointwise) in enumerate(zip(conv.depthwise, conv.pointwise)):
        x = x if chase else F.relu(x)
        k, c = depthwise.shape[-1], x.shape[1]
        x = F.conv2d(x, depthwise[row].unsqueeze(1), padding=dilation * (k // 2), dilation=dilation, groups=c)
        x = F.conv2d(x, pointwise[row][:, :, None, None])
        if stage < len(conv.depthwise) - 1:
            x = norm(x, conv.norm, row)
        else:
            x = norm(x, cell.nodes[node].norm, cell.nodes[node].rows.index((source, op)))
        x = F.leaky_relu(x, 0.01) if chase else x
    return x


def operation(cell: SearchCell, op: str, x: Tensor, node: int, source: int, masks: SkipMasks) -> Tensor:
    if op == "none":
        return torch.zeros_like(x)
    if op == "skip_connect":
        return x * masks.keep[first_edge(node) + source] * masks.scale
    if op == "max_pool_3x3":
        return norm(F.max_pool2d(x, 3, 1, 1), cell.sources[source].pools[op], 0)
    if op == "avg_pool_3x3":
        y = F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        return norm(y, cell.sources[source].pools[op], 0)
    return convolution(cell, op, x, node, source)


def mixed(cell: SearchCell, alpha: Tensor, x: Tensor, node: int, source: int, masks: SkipMasks) -> Tensor:
    """sum_o softmax(alpha)_o o(x), eq. 2 of DARTS."""
    weights = alpha.exp() / alpha.exp().sum()
    return sum(w * operation(cell, op, x, node, source, masks) for w, op in zip(weights, cell.ops))


def shuffle(x: Tensor, groups: int) -> Tensor:
    """The channel shuffle of ShuffleNet, as PC-DARTS uses it."""
    n, c, h, w = x.shape
    return x.view(n, groups, c // groups, h, w).transpose(1, 2).reshape(n, c, h, w)


def pc_darts(cell: SearchCell, alpha: Tensor, inputs: list[Tensor], masks: SkipMasks, beta: float) -> Tensor:
    """Eq. 2 and 3 of PC-DARTS, K = 4; the last column of alpha is its beta."""
    states = list(inputs)
    for node in range(len(cell.nodes)):
        first, total = first_edge(node), 0
        edge = alpha[first : first + node + 2, -1]
        for source, x in enumerate(states):
            taken, past = x[:, : x.shape[1] // 4], x[:, x.shape[1] // 4 :]
            y = mixed(cell, alpha[first + source, :-1], taken, node, source, masks)
            total = total + edge[source].exp() / edge.exp().sum() * shuffle(torch.cat([y, past], 1), 4)
        states.append(total)
    return torch.cat(states[2:], 1)


def darts_minus(
    cell: SearchCell, alpha: Tensor, inputs: list[Tensor], masks: SkipMasks, beta: float
) -> Tensor:
    """Eq. 6 of DARTS-: beta x beside the mixed operation of every edge."""
    states = list(inputs)
    for node in range(len(cell.nodes)):
        edges = enumerate(states)
        first = first_edge(node)
        states.append(sum(beta * x + mixed(cell, alpha[first + s], x, node, s, masks) for s, x in edges))
    return torch.cat(states[2:], 1)


PAPERS = {"pc_darts": pc_darts, "darts_minus": darts_minus}


class Setting:
    """A cell of three nodes, its inputs, masks and alpha; ours, and as the paper has it."""

    def __init__(self, name: str, flavour: str, ops=OPS, channels: int = 8):
        with seeded(0):
            self.method = methods.make_method(config_of(name, ops=ops))
            self.cell = self.method.cell(channels, 3, ops, flavour).double().train()
            columns = len(ops) + self.method.edge_columns
            self.alpha = torch.randn(self.cell.edges, columns, dtype=DOUBLE)
            self.inputs = [torch.randn(3, channels, 6, 5, dtype=DOUBLE) for _ in range(4)]
            self.masks = self.cell.sample_masks(3, 6, 5, 0.4)
            self.probe = torch.randn(3, 3 * channels, 6, 5, dtype=DOUBLE)
        self.paper, self.beta = PAPERS[name], 0.7
        self.weights = FlatParameters(self.cell.parameters())
        self.reference = False

    def forward(self, inputs: list[Tensor]) -> Tensor:
        if self.reference:
            return self.paper(self.cell, self.alpha, inputs, self.masks, self.beta)
        mixing = self.method.mixing(self.alpha, torch.tensor(self.beta, dtype=DOUBLE))
        return self.cell(*inputs, mixing, masks=self.masks, update_stats=False)

    def losses(self):
        """Of a training and a validation batch."""
        return [
            lambda _, pair=self.inputs[k : k + 2]: (self.probe * self.forward(pair).tanh()).mean()
            for k in (0, 2)
        ]


@pytest.mark.parametrize("backend", ("reference", "cpu"))
@pytest.mark.parametrize("flavour", ("chase", "darts"))
@pytest.mark.parametrize("name", PAPERS)
def test_forward_and_every_gradient_are_those_of_the_paper(name, flavour, backend):
    setting, found = Setting(name, flavour), []
    leaves = [setting.alpha, *setting.inputs[:2], *setting.cell.parameters()]
    for leaf in leaves:
        leaf.requires_grad_(True)
    for setting.reference in (False, True):
        with using(backend):
            y = setting.forward(setting.inputs[:2])
        found.append([y, *torch.autograd.grad((y * setting.probe).sum(), leaves, allow_unused=True)])
    for k, (ours, paper) in enumerate(zip(*found, strict=True)):
        paper = torch.zeros_like(leaves[k - 1]) if paper is None else paper
        assert_close(torch.zeros_like(paper) if ours is None else ours, paper, TOLERANCE, f"{k}")
    assert found[1][1].norm() > 1e-3


@pytest.mark.parametrize("name", PAPERS)
def test_both_orders_of_the_alpha_gradient(name):
    setting = Setting(name, "chase")
    found = []
    for setting.reference in (False, True):
        train_loss, val_loss = setting.losses()
        second = second_order(train_loss, val_loss, setting.alpha, setting.weights, 0.5, weight_decay=1e-3)
        first = first_order(val_loss, setting.alpha, setting.weights)
        found.append([first.galpha, second.galpha, second.implicit, second.v])
    for ours, paper in zip(*found, strict=True):
        assert_close(ours, paper, 1e3 * TOLERANCE)  # a difference divided by 2R
    if setting.method.edge_columns:
        assert found[1][2][:, -1].norm() > 0  # beta has its implicit part, too


@pytest.mark.parametrize("name", PAPERS)
@pytest.mark.parametrize("ops", (OPS[4:], ("none", "skip_connect"), OPS[1:4]))
def test_any_set_of_operations(name, ops):
    setting = Setting(name, "chase", ops)
    if setting.masks is None:
        setting.masks = SkipMasks(torch.ones(1), 1.0)
    ours = setting.forward(setting.inputs[:2])
    setting.reference = True
    assert_close(ours, setting.forward(setting.inputs[:2]), TOLERANCE)


# what alpha stands for


@pytest.mark.parametrize("decay, expected", [("linear", (1, 1, 0.75, 0.5, 0.25)), ("cosine", (1, 1))])
def test_beta_of_darts_minus_fades(decay, expected):
    method = methods.make_method(config_of("darts_minus", epochs=4, auxiliary_decay=decay))
    found = [method.schedule(epoch) for epoch in range(5)]
    if decay == "cosine":
        expected += tuple((1 + math.cos(math.pi * e / 4)) / 2 for e in (1, 2, 3))
    assert found == pytest.approx(expected) and sorted(found, reverse=True) == found
    assert method.numbers(2) == {"auxiliary_skip": found[2]}


def best_two(table: list[list[float]], ops) -> list[list[tuple[str, int]]]:
    """Per node the two edges whose best operation but none weighs most, with that operation."""
    nodes, rest = [], list(table)
    while rest:
        here, rest = rest[: len(nodes) + 2], rest[len(nodes) + 2 :]
        found = [(max((w, op) for w, op in zip(row, ops) if op != "none"), s) for s, row in enumerate(here)]
        nodes.append([(op, s) for (_, op), s in sorted(found, reverse=True)[:2]])
    return nodes


@pytest.mark.parametrize("name", PAPERS)
def test_derivation(name):
    method = methods.make_method(config_of(name, none_counts=False))
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        alpha = torch.randn(14, len(OPS) + method.edge_columns, generator=generator)
        table = torch.stack([row.exp() / row.exp().sum() for row in alpha[:, :8].double()])
        if name == "pc_darts":
            for first, count in ((0, 2), (2, 3), (5, 4), (9, 5)):
                edge = alpha[first : first + count, -1].double().exp()
                table[first : first + count] *= (edge / edge.sum())[:, None]
        expected = Genotype(tuple(map(tuple, best_two(table.tolist(), OPS))))
        assert method.derive(alpha) == expected


def test_edges_decide_in_pc_darts_and_not_in_darts():
    alpha = torch.zeros(5, 9)
    alpha[:, 4] = 1.0
    alpha[2:5, -1] = torch.tensor([-3.0, 2.0, 1.0])  # of the second node: sources 1 and 2
    method = methods.make_method(config_of("pc_darts"))
    assert [source for _, source in method.derive(alpha).nodes[1]] == [1, 2]
    darts = methods.make_method(config_of("darts1"))
    assert [source for _, source in darts.derive(alpha[:, :8]).nodes[1]] == [0, 1]


def test_the_first_three_and_what_the_flags_replace():
    alpha = torch.randn(14, 8)
    for name, order, mix in (("darts1", 1, "softmax"), ("darts2", 2, "softmax"), ("fair", 1, "sigmoid")):
        method = methods.make_method(config_of(name))
        assert (method.order, method.mix, method.passes) == (order, mix, 2.0 * order)
        assert torch.equal(method.mixing(alpha, 0.0), mixing_weights(alpha, mix))
        assert method.regulariser(alpha, 0.0) is None
    other = methods.make_method(config_of("darts1", order=2, mixing="sigmoid", zero_one_weight=10.0))
    assert (other.order, other.mix) == (2, "sigmoid")
    weight, value = other.regulariser(alpha, 0.0)
    assert weight == 10 and float(value) == pytest.approx(
        -float((torch.sigmoid(alpha) - 0.5).square().mean())
    )


def test_partial_channels_need_a_multiple_of_four():
    with pytest.raises(ChaseError, match="--channels 6: partial channels need a multiple of 4"):
        methods.make_method(config_of("pc_darts")).cell(6)


# whole runs


def search(recipe: str, out, *flags: str) -> int:
    return cli.main([recipe, *changed(TINY, "--iterations", "1", "--out", str(out), *flags)])


def stop_at(patch: pytest.MonkeyPatch, iteration: int) -> None:
    """A run stops with a checkpoint in its n-th iteration."""
    original, steps = loop.Search._run_iteration, 0

    def step(self, *arguments):
        nonlocal steps
        steps += 1
        self.interrupted = steps == iteration
        return original(self, *arguments)

    patch.setattr(loop.Search, "_run_iteration", step)


FIRST_LINES = {
    "pc_darts": "second-order (one unrolled weight step) gradient, softmax mixing, operations on 1 of 4",
    "darts_minus": "first-order gradient, softmax mixing, an auxiliary skip on every edge fades from 1 to 0",
}


@pytest.mark.parametrize("recipe, flags", [("pc_darts", ("--order", "2")), ("darts_minus", ())])
def test_a_run_its_resume_its_page_and_a_training_of_its_cell(recipe, flags, tmp_path, monkeypatch, capsys):
    whole, out = tmp_path / "whole", tmp_path / "run"
    assert search(recipe, whole, *flags) == 0
    said = capsys.readouterr().out
    assert (
        f"method {recipe}: {FIRST_LINES[recipe]}" in said and "backends: mixed_op cpu, node_sum cpu" in said
    )
    with monkeypatch.context() as patch:
        stop_at(patch, 2)
        assert search(recipe, out, *flags) == 130
        assert cli.main(["--out", str(out), "--resume", "--quiet"]) == 0
    assert_same(whole, out)
    alphas, history = rows(whole, "alphas.jsonl"), rows(whole)
    width = {"pc_darts": 9, "darts_minus": 8}[recipe]
    first, last = (torch.tensor(alphas[k]["alpha"]) for k in (0, -1))
    assert first.shape == (5, width) and bool((first != last).any(0)[-1])
    if recipe == "pc_darts":
        weights = torch.tensor(alphas[-1]["weights"], dtype=DOUBLE)
        assert weights.shape == (5, 8)
        sums = [float(weights[edges].sum()) for edges in (slice(0, 2), slice(2, 5))]
        assert sums == pytest.approx([1, 1])
    else:
        assert [row["auxiliary_skip"] for row in history] == pytest.approx([1, 1, 2 / 3, 1 / 3])
    found = page(whole)
    assert len(found.find("figure", class_="edge")) == 5 and f"method {recipe}" in found.words()
    lines = json.loads(found.find("svg", class_="small")[0]["data-chart"])["series"]
    assert [name for name, _, _ in lines] == list(OPS)
    chosen = load_json((whole / "cell.json").read_text(), "cell")
    assert all(op != "none" for node in chosen["genotype"]["nodes"] for op, _ in node)
    tiny = "--epochs 1 --iterations 1 --val-batches 1 --calibration-batches 1 --image-size 64 --batch 2"
    tiny += " --train-frames 1 --test-frames 1 --backbone resnet18 --backbone-weights random --quiet"
    command = ["demo", *tiny.split(), "--cell", str(whole / "cell.json"), "--channels", "0"]
    assert train([*command, "--threads", "1", "--out", str(tmp_path / "tracker")]) == 0
    spec = json.loads((tmp_path / "tracker" / "result.json").read_text())["spec"]
    assert spec["cell"] == chosen["genotype"] and spec["channels"] == 4


SHARP = """
import torch
from chase_fast.search import Method, register_method

@register_method("sharp")
class Sharp(Method):
    order = 1

    def schedule(self, epoch):
        return 1 / (1 + epoch)

    def mixing(self, alpha, scheduled):
        return torch.softmax(alpha / scheduled, -1)

    def regulariser(self, alpha, scheduled):
        return 1e3 * scheduled, alpha[:, 0].sum()  # drives out `none`

    def ranking(self, alpha):
        return torch.softmax(10 * alpha, -1)
"""


def test_a_method_of_a_user(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(imports.VARIABLE, "")
    for module, name in ((methods, "_registered"), (methods, "_files")):
        monkeypatch.setattr(module, name, dict(getattr(module, name)))
    monkeypatch.setattr(imports, "_loaded", set())
    own, out = tmp_path / "my_method.py", tmp_path / "run"
    own.write_text(SHARP)
    assert search("paper", out, "--method", "sharp", "--epochs", "2", "--import", str(own)) == 0
    row = rows(out, "alphas.jsonl")[-1]
    expected = torch.softmax(10 * torch.tensor(row["alpha"], dtype=DOUBLE), -1)
    assert_close(torch.tensor(row["weights"], dtype=DOUBLE), expected, TOLERANCE)
    before, after = (torch.tensor(rows(out, "alphas.jsonl")[k]["alpha"]) for k in (1, 2))
    assert bool((after < before)[:, 0].all()) and not bool((after < before)[:, 1:].all())
    assert "method sharp" in page(out).words()
    monkeypatch.setenv(imports.VARIABLE, "")
    del methods._registered["sharp"], methods._files["sharp"]
    capsys.readouterr()
    assert cli.main(["--out", str(out), "--resume"]) == 2
    assert (
        "method sharp was registered by my_method.py: give --import my_method.py" in capsys.readouterr().err
    )
    assert search("paper", tmp_path / "no", "--method", "sharp") == 2
    assert "unknown search method 'sharp': use one of darts1, darts2" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()
    assert search("pc_darts", tmp_path / "no", "--channels", "6") == 2
    assert "multiple of 4" in capsys.readouterr().err
    for name in ("fair", "two words"):
        with pytest.raises(ChaseError, match=f"cannot register search method '{name}'"):
            register_method(name)(Method)


def test_a_run_folder_from_before_methods_had_names_goes_on(tmp_path, monkeypatch):
    whole, out = tmp_path / "whole", tmp_path / "run"
    assert search("chase_fd", whole) == 0
    with monkeypatch.context() as patch:
        stop_at(patch, 2)
        assert search("chase_fd", out) == 130

    def older(config: dict) -> dict:
        kept = {k: v for k, v in config.items() if k not in ("method", "auxiliary_decay")}
        return kept | {"order": 1, "mixing": "sigmoid"}

    about = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps(about | {"config": older(about["config"])}))
    state = torch.load(out / CHECKPOINT, weights_only=True)
    RunFolder(out, begun=True).save_checkpoint(state | {"config": older(state["config"])})
    assert cli.main(["--out", str(out), "--resume", "--quiet"]) == 0
    assert (out / "history.jsonl").read_bytes() == (whole / "history.jsonl").read_bytes()
