"""Fair-DARTS (Chu et al. 2020): the zero-one loss that drives its sigmoid mixing weights to 0 or 1."""

from typing import Literal

import torch
from torch import Tensor

ZeroOne = Literal["l2", "l1"]


def zero_one_loss(alpha: Tensor, kind: ZeroOne = "l2") -> Tensor:
    """-mean(d^2) for l2, -mean(|d|) for l1, with d = sigmoid(alpha) - 0.5 over all entries of alpha."""
    distance = torch.sigmoid(alpha) - 0.5
    return -(distance.square() if kind == "l2" else distance.abs()).mean()
