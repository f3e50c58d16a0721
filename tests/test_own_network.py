"""The bilevel step on a network of a user, against the exact gradient through the unrolled step."""

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from chase_fast.nn.seeded import seeded
from chase_fast.search import (
    FlatParameters,
    closure,
    first_order,
    frozen_statistics,
    second_order,
    weight_gradient,
)
from tests.tolerances import UNROLL, assert_close

ETA, DECAY, SEED = 2.5, 0.01, 3


class Classifier(nn.Module):
    """Chooses between three convolutions by softmax(alpha); smooth, with batch norm and dropout."""

    def __init__(self):
        super().__init__()
        self.alpha = nn.Parameter(torch.tensor([0.3, -0.2, 0.1]))
        self.convolutions = nn.ModuleList([nn.Conv2d(3, 6, k, padding=k // 2) for k in (1, 3, 5)])
        self.norm, self.other = nn.BatchNorm2d(6), nn.InstanceNorm2d(6, affine=True, track_running_stats=True)
        self.dropout, self.out = nn.Dropout(0.3), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        mixed = sum(w * conv(x) for w, conv in zip(self.alpha.softmax(0), self.convolutions))
        return self.out(self.dropout(torch.tanh(self.other(self.norm(mixed)))).mean((2, 3)))


@pytest.fixture
def net() -> Classifier:
    with seeded(0):
        return Classifier().double()


def batch(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(6, 3, 7, 7, generator=generator, dtype=torch.float64)
    return x, torch.randint(4, (6,), generator=generator)


def setting(net: Classifier):
    """alpha, weights and the two losses, as a user writes them."""
    weights = FlatParameters(p for p in net.parameters() if p is not net.alpha)
    (x, y), (x_val, y_val) = batch(1), batch(2)
    loss_train = closure(net, lambda: F.cross_entropy(net(x), y), SEED)
    loss_val = closure(net, lambda: F.cross_entropy(net(x_val), y_val), SEED + 1)
    return net.alpha, weights, loss_train, loss_val


def exact(net: Classifier, eta: float) -> Tensor:
    """d L_val(w - eta (d L_train / d w + DECAY w), alpha) / d alpha by double backward."""
    tensors = {name: p.detach().clone().requires_grad_() for name, p in net.named_parameters()}
    alpha = tensors.pop("alpha")

    def loss(w: dict[str, Tensor], data: tuple[Tensor, Tensor], seed: int) -> Tensor:
        with seeded(seed), frozen_statistics(net):
            return F.cross_entropy(functional_call(net, w | {"alpha": alpha}, data[0]), data[1])

    gradients = torch.autograd.grad(loss(tensors, batch(1), SEED), [*tensors.values()], create_graph=True)
    moved = {name: p - eta * (g + DECAY * p) for (name, p), g in zip(tensors.items(), gradients)}
    return torch.autograd.grad(loss(moved, batch(2), SEED + 1), [alpha])[0]


def test_first_order_to_the_last_digit(net):
    expected = exact(net, 0.0)
    alpha, weights, _, loss_val = setting(net)
    assert torch.equal(first_order(loss_val, alpha, weights).galpha, expected)


def test_second_order_is_the_exact_unroll(net):
    expected, first = exact(net, ETA), exact(net, 0.0)
    alpha, weights, loss_train, loss_val = setting(net)
    before = [t.clone() for t in net.state_dict().values()]
    found = second_order(loss_train, loss_val, alpha, weights, eta=ETA, weight_decay=DECAY, r=1e-4)
    assert_close(found.galpha, expected, UNROLL, "galpha")
    assert (first - expected).norm() > 0.1 * expected.norm()  # the implicit term is no detail here
    for a, b in zip(net.state_dict().values(), before, strict=True):
        assert torch.equal(a, b)  # weights, alpha, running statistics


def test_weights_step_on_the_flat_buffer(net):
    alpha, weights, loss_train, _ = setting(net)
    running = net.norm.running_mean.clone()
    value, (gradient,) = weight_gradient(loss_train, alpha, weights)
    assert not torch.equal(net.norm.running_mean, running)  # this pass updates them
    expected = torch.autograd.grad(loss_train(False), weights.parameters)
    assert torch.equal(gradient, torch.cat([g.flatten() for g in expected]))
    optimizer = torch.optim.SGD([weights.values], lr=0.1, momentum=0.9)
    for _ in range(3):
        weights.values.grad = weight_gradient(loss_train, alpha, weights)[1][0]
        optimizer.step()
    assert loss_train(False) < value


def test_a_pass_repeats_its_dropout_and_gives_the_generator_back(net):
    x, y = batch(1)
    torch.manual_seed(5)
    loss = closure(net, lambda: F.cross_entropy(net(x), y))
    other = closure(net, lambda: F.cross_entropy(net(x), y))
    state = torch.get_rng_state()
    assert loss(False) == loss(False) != other(False)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(5)
    assert closure(net, lambda: F.cross_entropy(net(x), y))(False) == loss(False)


@pytest.mark.parametrize("kind", (nn.BatchNorm1d, nn.InstanceNorm1d))
@pytest.mark.parametrize("options", ({}, {"momentum": None}, {"track_running_stats": True}), ids=str)
def test_frozen_statistics(kind, options):
    if kind is nn.InstanceNorm1d and "momentum" in options:
        options = {"momentum": 0.3, "track_running_stats": True}
    layer, x = kind(3, **options), torch.randn(4, 3, 5)
    expected = kind(3, **options)(x)
    before = {name: t.clone() for name, t in layer.state_dict().items()}
    with pytest.raises(RuntimeError), frozen_statistics(layer):
        assert torch.equal(layer(x), expected)
        raise RuntimeError
    assert all(torch.equal(t, before[name]) for name, t in layer.state_dict().items())
    layer(x)
    changed = [name for name, t in layer.state_dict().items() if not torch.equal(t, before[name])]
    assert bool(changed) == bool(before)  # as ever afterwards
    layer.eval()
    evaluated = layer(x)
    with frozen_statistics(layer):
        assert torch.equal(layer(x), evaluated)


def test_alpha_among_the_weights_is_refused(net):
    weights = FlatParameters(net.parameters())
    for call in (
        lambda: first_order(lambda _: net(batch(1)[0]).sum(), net.alpha, weights),
        lambda: second_order(*[lambda _: net(batch(1)[0]).sum()] * 2, net.alpha, weights, eta=0.1),
    ):
        with pytest.raises(ValueError, match="alpha is one of the weights"):
            call()


def test_the_package_is_free_of_torch_until_a_name_is_used():
    code = (
        "import sys, chase_fast.search as search\n"
        "dir(search), search.CELL\n"
        "assert 'torch' not in sys.modules\n"
        "search.second_order\n"
        "assert 'torch' in sys.modules and 'chase_fast.data' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
