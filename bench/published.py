"""The published structure of the search in plain torch: the baseline of bench/search_step.py.

Organised as a user of DARTS would write it: every edge is a module with a module per operation, a node adds
its edges in Python, the architect makes a new model in every step and moves the weights parameter by
parameter. Written from the papers and from facts about the public code, not from that code. Results equal
those of chase_fast (tests/test_bench_published.py); parameter names are those of tests/nas_names.py.
"""

import copy
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

OPS = (
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
NODES = 4


class Zero(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 0.0


class Skip(nn.Module):
    """Identity with dropout; the mask [N, C, h, w], which holds 1 / (1 - rate) or 0, is set from outside."""

    mask: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        return x if self.mask is None else x * self.mask


class Separable(nn.Module):
    """Stages of depthwise, pointwise, batch norm, with the activation before (darts) or after (chase)."""

    def __init__(self, channels: int, kernel: int, stages: int, dilation: int, flavour: str):
        super().__init__()
        padding = dilation * (kernel - 1) // 2
        layers: list[nn.Module] = []
        for _ in range(stages):
            block = [
                nn.Conv2d(channels, channels, kernel, 1, padding, dilation, groups=channels, bias=False),
                nn.Conv2d(channels, channels, 1, bias=False),
                nn.BatchNorm2d(channels, affine=flavour == "chase"),
            ]
            layers += [nn.ReLU(), *block] if flavour == "darts" else [*block, nn.LeakyReLU(0.01)]
        self.op = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


def operation(name: str, channels: int, flavour: str) -> nn.Module:
    if name == "none":
        return Zero()
    if name == "skip_connect":
        return Skip()
    if name == "max_pool_3x3":
        return nn.Sequential(nn.MaxPool2d(3, 1, 1), nn.BatchNorm2d(channels, affine=False))
    if name == "avg_pool_3x3":
        pool = nn.AvgPool2d(3, 1, 1, count_include_pad=False)
        return nn.Sequential(pool, nn.BatchNorm2d(channels, affine=False))
    kind, kernel = name[:3], int(name[-1])
    return Separable(channels, kernel, *((2, 1) if kind == "sep" else (1, 2)), flavour)


class Edge(nn.Module):
    """Weighted sum of all operations on one edge."""

    def __init__(self, channels: int, ops: Sequence[str], flavour: str):
        super().__init__()
        self._ops = nn.ModuleList([operation(name, channels, flavour) for name in ops])

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        return sum(w * op(x) for w, op in zip(weights, self._ops))


class Cell(nn.Module):
    """Four nodes, each the sum over the edges from all states before it."""

    def __init__(self, channels: int, flavour: str, ops: Sequence[str] = OPS, nodes: int = NODES):
        super().__init__()
        self.nodes = nodes
        count = nodes * (nodes + 3) // 2
        self._ops = nn.ModuleList([Edge(channels, ops, flavour) for _ in range(count)])

    def forward(self, input0: Tensor, input1: Tensor, weights: Tensor) -> Tensor:
        states, edge = [input0, input1], 0
        for _ in range(self.nodes):
            new = sum(self._ops[edge + j](state, weights[edge + j]) for j, state in enumerate(states))
            edge += len(states)
            states.append(new)
        return torch.cat(states[2:], 1)


class FactorizedReduce(nn.Module):
    def __init__(self, in_channels: int, channels: int):
        super().__init__()
        self.conv_1 = nn.Conv2d(in_channels, channels // 2, 1, 2, bias=False)
        self.conv_2 = nn.Conv2d(in_channels, channels - channels // 2, 1, 2, bias=False)
        self.bn = nn.BatchNorm2d(channels, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(x)
        return self.bn(torch.cat([self.conv_1(x), self.conv_2(x[:, :, 1:, 1:])], 1))


class ReluConvNorm(nn.Module):
    def __init__(self, in_channels: int, channels: int):
        super().__init__()
        conv = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.op = nn.Sequential(nn.ReLU(), conv, nn.BatchNorm2d(channels, affine=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


class Neck(nn.Module):
    """layer2 (of even size) and layer3 to C channels, then the cell."""

    def __init__(self, in_channels: tuple[int, int], channels: int, flavour: str, nodes: int = NODES):
        super().__init__()
        layer2, layer3 = in_channels
        if flavour == "chase":
            self.conv_match3 = nn.Conv2d(layer2, channels, 3, 2, 1)
            self.conv_match4 = nn.Conv2d(layer3, channels, 1)
            self.cells = nn.ModuleList([Cell(channels, flavour, nodes=nodes)])
        else:
            self.preprocess0 = FactorizedReduce(layer2, channels)
            self.preprocess1 = ReluConvNorm(layer3, channels)
            self.cells = nn.ModuleList([Cell(channels, flavour, nodes=nodes)])
        self.flavour = flavour

    def forward(self, layer2: Tensor, layer3: Tensor, weights: Tensor) -> Tensor:
        if self.flavour == "chase":
            return self.cells[0](self.conv_match3(layer2), self.conv_match4(layer3), weights)
        return self.cells[0](self.preprocess0(layer2), self.preprocess1(layer3), weights)


class Architect:
    """Second-order gradient of alpha, eta (dL_train(w + R v) - dL_train(w - R v)) / 2R by moving the weights.

    Args:
        loss: loss(model, alpha, batch); the batch as it comes from the loader.
        unrolled: name of the submodule whose weights are unrolled; "" for all.
    """

    def __init__(
        self,
        loss: Callable,
        unrolled: str = "",
        eta: float = 1e-3,
        weight_decay: float = 3e-4,
        r: float = 0.01,
    ):
        self._loss, self._unrolled = loss, unrolled
        self._eta, self._weight_decay, self._r = eta, weight_decay, r

    def _weights(self, model: nn.Module) -> list[nn.Parameter]:
        return [p for p in model.get_submodule(self._unrolled).parameters() if p.requires_grad]

    def step(self, model: nn.Module, alpha: Tensor, train, val) -> tuple[Tensor, Tensor]:
        """Puts the gradient into alpha.grad; (validation loss, implicit term)."""
        new, eta = self._unroll(model, alpha, train), self._eta
        loss = self._loss(new, alpha, val)
        alpha.grad = None
        loss.backward()
        direct = alpha.grad
        vector = [p.grad for p in self._weights(new)]
        implicit = self._implicit(model, alpha, train, vector)
        alpha.grad = direct - eta * implicit
        return loss.detach(), implicit

    def _unroll(self, model: nn.Module, alpha: Tensor, train) -> nn.Module:
        """A new model that holds w' = w - eta (g + weight decay w)."""
        weights = self._weights(model)
        gradients = torch.autograd.grad(self._loss(model, alpha, train), weights)
        theta = torch.cat([w.detach().flatten() for w in weights])
        theta = theta - self._eta * (torch.cat([g.flatten() for g in gradients]) + self._weight_decay * theta)
        new = copy.deepcopy(model)
        new.zero_grad()
        offset = 0
        with torch.no_grad():
            for w in self._weights(new):
                w.copy_(theta[offset : offset + w.numel()].view(w.shape))
                offset += w.numel()
        return new

    def _implicit(self, model: nn.Module, alpha: Tensor, train, vector: list[Tensor]) -> Tensor:
        weights = self._weights(model)
        radius = self._r / torch.cat([v.flatten() for v in vector]).norm()
        before = [w.detach().clone() for w in weights]

        def gradient(sign: float) -> Tensor:
            with torch.no_grad():
                for w, old, v in zip(weights, before, vector):
                    w.copy_(old + sign * radius * v)
            return torch.autograd.grad(self._loss(model, alpha, train), [alpha])[0]

        plus, minus = gradient(1.0), gradient(-1.0)
        with torch.no_grad():
            for w, old in zip(weights, before):
                w.copy_(old)
        return (plus - minus) / (2 * radius)
