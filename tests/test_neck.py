"""Necks and cells where the goldens do not reach: subsets, registered operations, groups, masks, errors."""

import copy
import json

import pytest
import torch
from torch import Tensor, nn

from chase_fast.errors import ChaseError
from chase_fast.nn import operations
from chase_fast.nn.derived_cell import DerivedCell
from chase_fast.nn.genotype import CHASE, CHASE_FD, CHASE_WO, PUBLISHED, Genotype
from chase_fast.nn.neck import DerivedNeck, PlainNeck, SearchNeck
from chase_fast.nn.operations import register_operation
from chase_fast.nn.search_cell import SearchCell, SkipMasks
from chase_fast.nn.space import OPS
from tests.nas_names import search_slots
from tests.tolerances import KERNEL, assert_close

F64 = KERNEL[torch.float64]
FLAVOURS = ("chase", "darts")


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture
def registry(monkeypatch):
    """Operations registered in a test are forgotten after it."""
    monkeypatch.setattr(operations, "_registered", {})


def maps(n=4, h=5, w=6, channels=(6, 10), odd=False) -> tuple[Tensor, Tensor]:
    layer2 = torch.randn(n, channels[0], 2 * h - odd, 2 * w - odd, dtype=torch.float64)
    return layer2, torch.randn(n, channels[1], h, w, dtype=torch.float64)


def mixing(neck) -> Tensor:
    return torch.rand(neck.edges, len(neck.ops), dtype=torch.float64)


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_parameter_counts_of_the_released_code():
    derived, search = DerivedNeck((512, 1024), CHASE), SearchNeck((512, 1024))
    assert count(derived.cell) == 354_048
    assert [f"{count(m) / 1e6:.2f}" for m in (derived, search.cell, search)] == ["1.80", "5.91", "7.36"]
    assert search.edges == 14 and search.out_channels == derived.out_channels == 1024


def test_initial_weights_chase():
    """Kaiming normal (fan_in, gain sqrt 2), biases 0."""
    neck = SearchNeck((64, 128), 64)
    expected = {(3, 3): 2 / 9, (5, 5): 2 / 25}
    for source in neck.cell.sources:
        for conv in source.convolutions.values():
            for dw, pw in zip(conv.depthwise, conv.pointwise):
                assert dw.var().item() == pytest.approx(expected[tuple(dw.shape[-2:])], rel=0.2)
                assert pw.var().item() == pytest.approx(2 / 64, rel=0.1)
    for conv, fan_in in zip(neck.preprocess, (64 * 9, 128)):
        assert conv.weight.var().item() == pytest.approx(2 / fan_in, rel=0.1)
        assert not conv.bias.any()


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("odd", (False, True))
def test_shapes_and_layout(flavour, odd):
    layer2, layer3 = (x.contiguous(memory_format=torch.channels_last) for x in maps(odd=odd))
    search = SearchNeck((6, 10), 3, nodes=2, flavour=flavour).double()
    genotype = Genotype(CHASE.nodes[:3])
    derived = DerivedNeck((6, 10), genotype, 3, flavour).double()
    for neck, arguments in ((search, (mixing(search),)), (derived, ())):
        y = neck(layer2, layer3, *arguments, groups=2)
        assert y.shape == (4, neck.out_channels, 5, 6)
        assert y.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_wrong_map_sizes(flavour):
    layer2, layer3 = maps()
    with pytest.raises(ValueError, match="twice its size"):
        DerivedNeck((6, 10), CHASE, 4, flavour).double()(layer2[:, :, :5], layer3)


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize(
    "ops",
    [
        ("none", "skip_connect"),
        ("max_pool_3x3", "avg_pool_3x3"),
        ("sep_conv_3x3",),
        ("dil_conv_5x5", "none", "avg_pool_3x3"),  # another order
        ("skip_connect", "sep_conv_5x5", "dil_conv_3x3"),
    ],
)
def test_subset_is_the_full_cell_with_zero_weights(ops, flavour):
    full = SearchCell(4, 2, OPS, flavour).double()
    part = SearchCell(4, 2, ops, flavour).double()
    named = {s.key: s for s in search_slots(full, lambda e, k: f"{e}.{OPS[k]}.")}
    slots = search_slots(part, lambda e, k: f"{e}.{ops[k]}.")
    with torch.no_grad():
        for slot in slots:
            slot.part().copy_(named[slot.key].part())
    inputs = torch.randn(2, 3, 4, 5, 6, dtype=torch.float64)
    weights = torch.rand(part.edges, len(ops), dtype=torch.float64)
    spread = torch.zeros(full.edges, len(OPS), dtype=torch.float64)
    spread[:, [OPS.index(op) for op in ops]] = weights
    for mode in (True, False):
        assert_close(part.train(mode)(*inputs, weights), full.train(mode)(*inputs, spread), F64)
    for slot in slots:
        assert_close(slot.part(), named[slot.key].part(), F64, slot.key)


def test_gradient_of_none_is_zero():
    neck = SearchNeck((6, 10), 3, nodes=2).double()
    weights = mixing(neck).requires_grad_()
    (gradient,) = torch.autograd.grad(neck(*maps(), weights).square().sum(), weights)
    assert not gradient[:, 0].any() and gradient[:, 1:].all()


class Scaled(nn.Module):
    """A user's operation with a weight and a batch norm."""

    def __init__(self, channels: int):
        super().__init__()
        self.scale = nn.Parameter(torch.full((channels, 1, 1), 2.0))
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x):
        return self.norm(self.scale * x + x.square())


def test_registered_operation_in_both_cells(registry):
    register_operation("scaled", Scaled)
    cell = SearchCell(3, 1, ("scaled", "skip_connect")).double()
    x0, x1 = torch.randn(2, 4, 3, 5, 6, dtype=torch.float64)
    weights = torch.rand(2, 2, dtype=torch.float64)
    modules = [copy.deepcopy(cell.sources[s].registered["scaled"][0]) for s in (0, 1)]
    got = cell(x0, x1, weights, groups=2)
    expected = 0
    for x, module, (w, w_skip) in zip((x0, x1), modules, weights):
        expected = expected + w * torch.cat([module(part) for part in x.chunk(2)]) + w_skip * x
    assert_close(got, expected, F64)
    for s, module in enumerate(modules):
        assert_close(cell.sources[s].registered["scaled"][0].norm.running_var, module.norm.running_var, F64)

    before = copy.deepcopy(cell.state_dict())
    assert torch.equal(cell(x0, x1, weights, groups=2, update_stats=False), got)
    assert all(torch.equal(v, before[k]) for k, v in cell.state_dict().items())

    derived = DerivedCell(Genotype(((("scaled", 0),),)), 3).double()
    assert_close(derived(x0, x1), Scaled(3).double()(x0), F64)


def test_registered_operation_errors(registry):
    for name in ("skip_connect", "my-op", "half"):
        with pytest.raises(ChaseError, match="identifier"):
            register_operation(name, Scaled)
    register_operation("shrink", lambda channels: nn.MaxPool2d(2))
    cell = SearchCell(3, 1, ("shrink",)).double()
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    with pytest.raises(ChaseError, match="must keep the shape"):
        cell(x, x, torch.ones(2, 1, dtype=torch.float64))


def test_none_genes_and_empty_nodes():
    genotype = Genotype(((("none", 0), ("skip_connect", 1)), (("none", 1),), ()))
    x0, x1 = torch.randn(2, 2, 3, 4, 5)
    y = DerivedCell(genotype, 3)(x0, x1)
    assert torch.equal(y, torch.cat([x1, torch.zeros_like(x1), torch.zeros_like(x1)], 1))


def make_neck(name: str) -> nn.Module:
    if name == "plain":
        return PlainNeck(18).double()
    kind, flavour = name.split("_")
    if kind == "search":
        return SearchNeck((6, 10), 3, nodes=2, flavour=flavour).double()
    return DerivedNeck((6, 10), CHASE_WO, 3, flavour).double()


NECKS = ("search_chase", "search_darts", "derived_chase", "derived_darts", "plain")


def arguments(neck: nn.Module) -> tuple:
    channels = (128, 256) if isinstance(neck, PlainNeck) else (6, 10)
    return (*maps(channels=channels), *((mixing(neck),) if isinstance(neck, SearchNeck) else ()))


@pytest.mark.parametrize("name", NECKS)
def test_groups_are_separate_calls(name):
    """One call with two groups: outputs, gradients and running statistics of two calls in order."""
    neck, twin = make_neck(name), make_neck(name)
    twin.load_state_dict(neck.state_dict())
    layer2, layer3, *rest = arguments(neck)
    y = neck(layer2, layer3, *rest, groups=2)
    parts = [twin(a, b, *rest) for a, b in zip(layer2.chunk(2), layer3.chunk(2))]
    assert_close(y, torch.cat(parts), F64)
    assert_close(neck(layer2, layer3, *rest, groups=1), twin(layer2, layer3, *rest), F64)
    y.square().sum().backward()
    sum(p.square().sum() for p in parts).backward()
    for (key, p), q in zip(neck.named_parameters(), twin.parameters()):
        if p.grad is not None:
            assert_close(p.grad, q.grad, KERNEL[torch.float64] * 10, key)  # sums over twice the values
    for (key, a), b in zip(neck.state_dict().items(), twin.state_dict().values()):
        assert_close(a, b, F64, key)


@pytest.mark.parametrize("name", NECKS)
def test_groups_must_divide_the_batch(name):
    neck = make_neck(name)
    with pytest.raises(ValueError, match="groups"):
        neck(*arguments(neck), groups=3)


@pytest.mark.parametrize("name", NECKS)
def test_update_stats_and_eval(name):
    neck = make_neck(name)
    inputs = arguments(neck)
    before = copy.deepcopy(neck.state_dict())
    y = neck(*inputs, groups=2, update_stats=False)
    assert all(torch.equal(v, before[k]) for k, v in neck.state_dict().items())
    assert torch.equal(neck(*inputs, groups=2), y)
    after = copy.deepcopy(neck.state_dict())
    moved = [k for k, v in after.items() if not torch.equal(v, before[k])]
    assert moved and all("running" in k or "tracked" in k for k in moved)
    neck.eval()
    assert torch.equal(neck(*inputs, groups=2), neck(*inputs))
    assert all(torch.equal(v, after[k]) for k, v in neck.state_dict().items())


@pytest.mark.parametrize("name", NECKS)
def test_state_dict_round_trip(name, tmp_path):
    neck, other = make_neck(name), make_neck(name)
    inputs = arguments(neck)
    neck(*inputs)
    torch.save(neck.state_dict(), tmp_path / "neck.pt")
    other.load_state_dict(torch.load(tmp_path / "neck.pt", weights_only=True))
    assert torch.equal(neck.eval()(*inputs), other.eval()(*inputs))


@pytest.mark.parametrize("name", ["search_chase", "derived_chase"])
def test_weights_are_never_cached(name):
    """Parameters may be views of one buffer that is changed in place."""
    neck = make_neck(name)
    inputs = arguments(neck)
    flat = torch.cat([p.detach().flatten() for p in neck.parameters()])
    for p, view in zip(neck.parameters(), flat.split([p.numel() for p in neck.parameters()])):
        p.data = view.view_as(p)
    first = neck(*inputs)
    flat.mul_(1.5)
    changed = neck(*inputs)
    twin = make_neck(name)
    twin.load_state_dict(neck.state_dict())
    assert not torch.equal(first, changed)
    assert_close(changed, twin(*inputs), F64)


def test_masks_drop_and_scale():
    """With skip alone, a node is the weighted sum of its masked inputs."""
    cell = SearchCell(3, 2, ("skip_connect",)).double()
    x0, x1 = torch.randn(2, 4, 3, 5, 6, dtype=torch.float64)
    weights = torch.rand(5, 1, dtype=torch.float64)
    masks = cell.sample_masks(4, 5, 6, 0.25, torch.Generator().manual_seed(1))
    kept = masks.keep.double() / 0.75
    node0 = weights[0] * x0 * kept[0] + weights[1] * x1 * kept[1]
    node1 = weights[2] * x0 * kept[2] + weights[3] * x1 * kept[3] + weights[4] * node0 * kept[4]
    assert_close(cell(x0, x1, weights, masks=masks), torch.cat([node0, node1], 1), F64)
    assert torch.equal(cell.eval()(x0, x1, weights, masks=masks), cell(x0, x1, weights))


def test_sampled_masks():
    neck = SearchNeck((6, 10), 8, nodes=3)
    first, again, other = (
        neck.sample_masks(4, 9, 9, 0.6, torch.Generator().manual_seed(s)) for s in (0, 0, 1)
    )
    assert isinstance(first, SkipMasks) and first.scale == pytest.approx(2.5)
    assert first.keep.shape == (9, 4, 8, 9, 9) and first.keep.dtype == torch.bool
    assert first.keep[0].is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(first.keep, again.keep) and not torch.equal(first.keep, other.keep)
    rates = 1 - first.keep.double().mean((1, 2, 3, 4))
    assert (rates - 0.6).abs().max() < 0.04
    assert not torch.equal(first.keep[0], first.keep[1])
    assert neck.sample_masks(4, 9, 9, 0.0) is None
    assert SearchNeck((6, 10), 8, ops=OPS[4:]).sample_masks(4, 9, 9, 0.6) is None
    with pytest.raises(ChaseError, match="dropout rate"):
        neck.sample_masks(4, 9, 9, 1.0)


def test_second_derivative_on_the_reference(monkeypatch):
    monkeypatch.setenv("CHASE_FAST_BACKEND", "reference")
    neck = SearchNeck((6, 10), 2, nodes=1, ops=("sep_conv_3x3", "max_pool_3x3", "skip_connect")).double()
    inputs = maps(n=2, h=3, w=3)
    weights = mixing(neck).requires_grad_()
    (g,) = torch.autograd.grad(neck(*inputs, weights).pow(3).sum(), weights, create_graph=True)
    v, step = torch.randn_like(weights), 1e-6
    (exact,) = torch.autograd.grad((g * v).sum(), weights)

    def gradient(at):
        at = at.detach().requires_grad_()
        return torch.autograd.grad(neck(*inputs, at).pow(3).sum(), at)[0]

    difference = (gradient(weights + step * v) - gradient(weights - step * v)) / (2 * step)
    assert_close(exact, difference, 1e-6, "Hessian-vector product against central differences")


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_genotype_json_round_trip(name):
    genotype = PUBLISHED[name]
    assert Genotype.from_json(genotype.to_json()) == genotype
    assert Genotype.from_data(json.loads(genotype.to_json())) == genotype
    assert hash(genotype) == hash(Genotype.from_json(genotype.to_json()))
    assert genotype != (CHASE_FD if name == "chase" else CHASE)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "not valid JSON"),
        ("[]", "genotype must be"),
        ('{"nodes": 3}', "genotype must be"),
        ('{"nodes": [], "extra": 1}', "genotype must be"),
        ('{"nodes": []}', "no nodes"),
        ('{"nodes": [["skip_connect", 0]]}', "genotype must be"),
        ('{"nodes": [[["skip_connect"]]]}', "genotype must be"),
        ('{"nodes": [[["conv_7x7", 0]]]}', "unknown operation 'conv_7x7'"),
        ('{"nodes": [[[7, 0]]]}', "unknown operation 7"),
        ('{"nodes": [[[["a"], 0]]]}', "unknown operation"),
        ('{"nodes": [[["skip_connect", 2]]]}', "0..1"),
        ('{"nodes": [[["skip_connect", -1]]]}', "0..1"),
        ('{"nodes": [[["skip_connect", true]]]}', "0..1"),
        ('{"nodes": [[["skip_connect", 0.0]]]}', "0..1"),
    ],
)
def test_bad_genotype(text, why):
    with pytest.raises(ChaseError, match=why) as error:
        Genotype.from_json(text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"ops": ("skip_connect", "conv_7x7")}, "unknown operation"),
        ({"ops": ("skip_connect", "skip_connect")}, "name each once"),
        ({"ops": ("none",)}, "besides none"),
        ({"ops": ()}, "none given"),
        ({"nodes": 0}, "at least 1"),
        ({"flavour": "nas"}, "unknown cell flavour"),
    ],
)
def test_bad_neck(options, why):
    with pytest.raises(ChaseError, match=why):
        SearchNeck((6, 10), 4, **options)


def test_wrong_mixing_shape():
    neck = SearchNeck((6, 10), 3).double()
    with pytest.raises(ValueError, match=r"\[14, 8\]"):
        neck(*maps(), mixing(neck)[:, 1:])


@pytest.mark.parametrize(
    ("depth", "channels", "keys"),
    [
        (50, 1024, ["0.weight"]),
        (18, 256, ["0.conv1.weight", "0.bn1.weight", "0.conv2.weight", "0.bn2.weight", "1.weight"]),
    ],
)
def test_plain_neck(depth, channels, keys):
    neck = PlainNeck(depth).double()
    assert [k for k, _ in neck.named_parameters() if k.endswith("weight")] == keys
    assert count(neck) == {50: 4_718_592, 18: 1_770_496}[depth]
    for module in neck.modules():
        if isinstance(module, nn.Conv2d):
            assert module.weight.var().item() == pytest.approx(2 / (9 * module.out_channels), rel=0.02)
    x = torch.randn(2, channels, 4, 4, dtype=torch.float64)
    expected = x
    if depth == 18:
        block = neck[0]
        norms = [nn.BatchNorm2d(256).double() for _ in range(2)]
        y = norms[1](block.conv2(norms[0](block.conv1(x)).relu()))
        expected = (x + y).relu()
    assert_close(neck(None, x), neck[-1](expected), F64)


def test_plain_neck_depth():
    with pytest.raises(ChaseError, match="18 or 50"):
        PlainNeck(34)
