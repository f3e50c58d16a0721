"""What brings layer2 and layer3 to the width and size of a cell, and how convolutions are initialised."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .norm import GroupBatchNorm


@torch.no_grad()
def init_convolution(weight: Tensor, fan_in: int, flavour: str) -> None:
    """chase: Kaiming normal, gain sqrt(2), as the released code; darts: U(-1, 1) / sqrt(fan_in), as torch."""
    if flavour == "chase":
        weight.normal_(0.0, math.sqrt(2.0 / fan_in))
    else:
        weight.uniform_(-1.0 / math.sqrt(fan_in), 1.0 / math.sqrt(fan_in))


def convolve(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """The convolution in the dtype of x [N, D, H, W], whatever that of its weights."""
    bias = None if conv.bias is None else conv.bias.to(x.dtype)
    return F.conv2d(x, conv.weight.to(x.dtype), bias, conv.stride, conv.padding, conv.dilation, conv.groups)


def make_preprocess(in_channels: tuple[int, int], channels: int, flavour: str, affine: bool) -> nn.ModuleList:
    """Modules for layer2 (to half its size) and layer3 (size kept): module(x, groups, update_stats)."""
    layer2, layer3 = in_channels
    if flavour == "chase":
        return nn.ModuleList(
            [ConvInput(layer2, channels, 3, stride=2, padding=1), ConvInput(layer3, channels, 1)],
        )
    return nn.ModuleList([FactorizedReduce(layer2, channels, affine), ReluConvNorm(layer3, channels, affine)])


class ConvInput(nn.Conv2d):
    """Input of the chase cell: a convolution with bias, no norm. Shapes as nn.Conv2d."""

    def reset_parameters(self) -> None:
        init_convolution(self.weight, self.weight[0].numel(), "chase")
        assert self.bias is not None
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor, groups: int = 1, update_stats: bool = True) -> Tensor:
        return convolve(self, x)


class ReluConvNorm(nn.Module):
    """Input of the darts cell, size kept: ReLU, 1x1 convolution, batch norm. [N, D, h, w] -> [N, C, h, w]."""

    def __init__(self, in_channels: int, channels: int, affine: bool):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.norm = GroupBatchNorm(channels, affine=affine)

    def forward(self, x: Tensor, groups: int = 1, update_stats: bool = True) -> Tensor:
        return self.norm(convolve(self.conv, F.relu(x)), groups, update_stats)


class FactorizedReduce(nn.Module):
    """Input of the darts cell at twice its size. [N, D, H, W] -> [N, C, ceil(H / 2), ceil(W / 2)].

    ReLU, then two 1x1 convolutions of stride 2, each to half the channels, the second on the map shifted by
    one pixel in both directions; concatenated, batch norm. An odd size is continued by zeros (DARTS takes
    even sizes only).
    """

    def __init__(self, in_channels: int, channels: int, affine: bool):
        super().__init__()
        self.even = nn.Conv2d(in_channels, channels // 2, 1, stride=2, bias=False)
        self.shifted = nn.Conv2d(in_channels, channels - channels // 2, 1, stride=2, bias=False)
        self.norm = GroupBatchNorm(channels, affine=affine)

    def forward(self, x: Tensor, groups: int = 1, update_stats: bool = True) -> Tensor:
        x = F.relu(x)
        height, width = x.shape[2:]
        shifted = F.pad(x, (-1, width % 2, -1, height % 2))
        halves = convolve(self.even, x), convolve(self.shifted, shifted)
        return self.norm(torch.cat(halves, 1), groups, update_stats)
