"""The cell that a genotype describes: chosen operations only, plain pools, no dropout."""

import torch
from torch import Tensor, nn

from chase_fast.kernels.mixed_op import KERNEL, POOLS, STAGES
from chase_fast.kernels.mixed_op.reference import pool
from chase_fast.kernels.sep_conv import sep_conv

from .containers import ModuleList
from .genotype import Genotype
from .norm import EPS, NormState, run_registered
from .operations import make_registered
from .preprocess import init_convolution
from .search_cell import SLOPE
from .space import CONVOLUTIONS
from .spec import check_flavour


class SepBlock(nn.Module):
    """One depthwise-pointwise-batch norm block with the activation of its flavour; [N, C, h, w] kept."""

    def __init__(self, channels: int, kernel: int, dilation: int, flavour: str):
        super().__init__()
        self.dilation, self.flavour = dilation, flavour
        self.depthwise = nn.Parameter(torch.empty(channels, kernel, kernel))
        self.pointwise = nn.Parameter(torch.empty(channels, channels))
        self.norm = NormState(channels, affine=True)
        init_convolution(self.depthwise, kernel * kernel, flavour)
        init_convolution(self.pointwise, channels, flavour)

    def forward(self, x: Tensor, groups: int, update_stats: bool) -> Tensor:
        norm = self.norm
        y, mean, var = sep_conv(
            x,
            self.depthwise,
            self.pointwise,
            norm.weight,
            norm.bias,
            *(() if self.training else (norm.running_mean, norm.running_var)),
            dilation=self.dilation,
            flavour=self.flavour,
            groups=groups,
            training=self.training,
            eps=EPS,
            slope=SLOPE,
        )
        if self.training and update_stats:
            norm.update(mean, var, y.numel() // (y.shape[1] * groups))
        return y


class Operation(nn.Module):
    """One gene's operation; [N, C, h, w] kept. Its weights, if any, are in `blocks` or `registered`."""

    def __init__(self, op: str, channels: int, flavour: str):
        super().__init__()
        self.op = op
        if op in CONVOLUTIONS:
            stages, dilation = STAGES[op], 1 if op.startswith("sep_conv") else 2
            self.blocks = nn.ModuleList(
                [SepBlock(channels, KERNEL[op], dilation, flavour) for _ in range(stages)],
            )
        elif op not in (*POOLS, "skip_connect"):
            self.registered = make_registered(op, channels)

    def forward(self, x: Tensor, groups: int, update_stats: bool) -> Tensor:
        if self.op == "skip_connect":
            return x
        if self.op in POOLS:
            return pool(x, self.op)
        if self.op not in CONVOLUTIONS:
            return run_registered(self.registered, x, groups, update_stats)
        for block in self.blocks:
            x = block(x, groups, update_stats)
        return x


class DerivedCell(nn.Module):
    """The discrete cell: node i is the sum of op(source) over its genes; `none` adds nothing."""

    def __init__(self, genotype: Genotype, channels: int, flavour: str = "chase"):
        super().__init__()
        check_flavour(flavour)
        self.genotype = genotype
        self.genes = [[(op, source) for op, source in genes if op != "none"] for genes in genotype.nodes]
        self.nodes = ModuleList(
            [ModuleList([Operation(op, channels, flavour) for op, _ in genes]) for genes in self.genes]
        )

    def forward(self, input0: Tensor, input1: Tensor, groups: int = 1, update_stats: bool = True) -> Tensor:
        """input0, input1 [N, C, h, w] -> [N, nodes * C, h, w]; groups and update_stats as in `SearchCell`."""
        states = [input0, input1]
        for genes, operations in zip(self.genes, self.nodes):
            maps = [run(states[source], groups, update_stats) for (_, source), run in zip(genes, operations)]
            states.append(sum(maps[1:], maps[0]) if maps else torch.zeros_like(input0))
        return torch.cat(states[2:], 1)
