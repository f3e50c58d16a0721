"""Fair-DARTS (Chu et al. 2020): independent sigmoid mixing weights and the zero-one loss that drives them to
0 or 1."""

from typing import Literal

import torch
from torch import Tensor

Mixing = Literal["softmax", "sigmoid"]
ZeroOne = Literal["l2", "l1"]


def mixing_weights(alpha: Tensor, mixing: Mixing) -> Tensor:
    """Mixing weights of the operations [..., K] from alpha [..., K]: softmax over K (DARTS), or sigmoid
    (Fair-DARTS)."""
    return torch.softmax(alpha, dim=-1) if mixing == "softmax" else torch.sigmoid(alpha)


def zero_one_loss(alpha: Tensor, kind: ZeroOne = "l2") -> Tensor:
    """-mean(d^2) for l2, -mean(|d|) for l1, with d = sigmoid(alpha) - 0.5 over all entries of alpha."""
    distance = torch.sigmoid(alpha) - 0.5
    return -(distance.square() if kind == "l2" else distance.abs()).mean()
