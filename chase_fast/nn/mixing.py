"""From alpha to the weights that mix the operations of an edge. Free of torch's import: reports read it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

Mixing = Literal["softmax", "sigmoid"]


def mixing_weights(alpha: "Tensor", mixing: Mixing) -> "Tensor":
    """Mixing weights of the operations [..., K] from alpha [..., K]: softmax over K (DARTS), or sigmoid
    (Fair-DARTS)."""
    return alpha.softmax(dim=-1) if mixing == "softmax" else alpha.sigmoid()


def mixing_table(alpha: Sequence[Sequence[float]], mixing: Mixing) -> list[list[float]]:
    """`mixing_weights` of a table [edges][operations] of numbers."""
    table = np.asarray(alpha, np.float64)
    if mixing == "sigmoid":
        return np.exp(-np.logaddexp(0.0, -table)).tolist()
    powers = np.exp(table - table.max(-1, keepdims=True))
    return (powers / powers.sum(-1, keepdims=True)).tolist()
