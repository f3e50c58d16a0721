"""The entropy of mixing weights, and the zero-one loss of Fair-DARTS (Chu et al. 2020)."""

from typing import Literal

import torch
from torch import Tensor

from chase_fast.nn.mixing import Mixing, mixing_weights

ZeroOne = Literal["l2", "l1"]


def mixing_entropy(alpha: Tensor, mixing: Mixing) -> float:
    """Mean entropy in nats: of each edge's softmax (log K when undecided), or of each sigmoid (log 2)."""
    p = mixing_weights(alpha.detach().double().cpu(), mixing)
    if mixing == "softmax":
        return float(torch.special.entr(p).sum(-1).mean())
    return float((torch.special.entr(p) + torch.special.entr(1 - p)).mean())


def zero_one_loss(alpha: Tensor, kind: ZeroOne = "l2") -> Tensor:
    """-mean(d^2) for l2, -mean(|d|) for l1, with d = sigmoid(alpha) - 0.5 over all entries of alpha: it
    drives sigmoid weights to 0 or 1."""
    distance = torch.sigmoid(alpha) - 0.5
    return -(distance.square() if kind == "l2" else distance.abs()).mean()
