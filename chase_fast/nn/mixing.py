"""From alpha to the weights that mix the operations of an edge."""

from typing import Literal

import torch
from torch import Tensor

Mixing = Literal["softmax", "sigmoid"]


def mixing_weights(alpha: Tensor, mixing: Mixing) -> Tensor:
    """Mixing weights of the operations [..., K] from alpha [..., K]: softmax over K (DARTS), or sigmoid
    (Fair-DARTS)."""
    return torch.softmax(alpha, dim=-1) if mixing == "softmax" else torch.sigmoid(alpha)
