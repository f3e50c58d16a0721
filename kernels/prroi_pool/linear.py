"""A linear layer on what `prroi_pool` gives, for many nearby boxes on one map, and its gradient to the boxes.

    out[r] = sum over bins b and channels c of weight[b, c] pooled[r, c, b]

Pooling and layer are both linear in the map, so the layer is applied to the cells first: one matrix product
per bin for the cells that boxes near the given ones need there. After that a box costs a weighted sum of
some rows of D numbers instead of bins^2 C D products: made for gradient steps over boxes, where the same
boxes come again and again, slightly moved. CPU only (csrc/cpu/prroi_linear.cpp); a table is built again when
a box leaves it.
"""

import torch
from torch import Tensor

from .. import _dispatch

CAN_RUN = _dispatch.native_cpu(torch.float32, torch.float64)
_MARGIN = 1  # cells kept around those that the boxes need now


class PooledLinear:
    """The layer on one map.

    Args:
        features: [C, H, W], any layout; float32 or float64, on the CPU.
        weight: [bins * bins, C, D].
        scale: feature cells per image pixel.
    """

    def __init__(self, features: Tensor, weight: Tensor, scale: float):
        self._map = features.permute(1, 2, 0).contiguous()  # [H, W, C]
        self._weight, self._scale = weight, scale
        self._bins = round(weight.shape[0] ** 0.5)
        self._ranges: list[int] = []
        self._table = features.new_empty(0)

    def values(self, rois: Tensor) -> Tensor:
        """rois [R, 5] as in `prroi_pool`, image 0 (not read) -> [R, D]."""
        self._cover(rois)
        out = torch.empty((rois.shape[0], self._weight.shape[2]), dtype=rois.dtype)
        native = _dispatch.native()
        arguments = self._table, self._ranges, rois, self._scale, out
        native.cpu_prroi_linear(*arguments, torch.get_num_threads())
        return out

    def rois_gradient(self, rois: Tensor, grad: Tensor) -> Tensor:
        """Gradient of sum(grad * values(rois)) to the boxes, [R, 5]; grad [R, D]."""
        self._cover(rois)
        out = torch.empty(rois.shape, dtype=rois.dtype)
        native = _dispatch.native()
        grad = grad.contiguous()
        arguments = self._table, self._ranges, rois, self._scale, grad, out
        native.cpu_prroi_linear_backward_rois(*arguments, torch.get_num_threads())
        return out

    def _cover(self, rois: Tensor) -> None:
        """Builds the table if these boxes need cells that it does not have."""
        size = self._map.shape[:2]
        needed = _dispatch.native().cpu_prroi_linear_ranges(rois, self._bins, self._scale, *size)
        if self._ranges and _inside(needed, self._ranges):
            return
        n = 2 * self._bins
        self._ranges = [
            value
            if begin == end
            else max(value - _MARGIN, 0)
            if k % 2 == 0
            else min(value + _MARGIN, size[k >= n])
            for k, (value, begin, end) in enumerate(
                (needed[k], needed[k - k % 2], needed[k - k % 2 + 1]) for k in range(2 * n)
            )
        ] + needed[2 * n :]
        spans = [slice(*self._ranges[k : k + 2]) for k in range(0, 2 * n, 2)]
        pieces = [
            self._map[rows, columns].flatten(0, 1)
            for rows in spans[: self._bins]
            for columns in spans[self._bins :]
        ]
        self._table = torch.empty((sum(map(len, pieces)), self._weight.shape[2]), dtype=rois.dtype)
        at = 0
        for piece, weight in zip(pieces, self._weight):
            torch.mm(piece, weight, out=self._table[at : at + len(piece)])
            at += len(piece)


def _inside(needed: list[int], ranges: list[int]) -> bool:
    """Whether every range needed is empty or part of the one there; the last two are the map's size."""
    pairs = zip(needed[:-2:2], needed[1:-2:2], ranges[:-2:2], ranges[1:-2:2])
    return all(begin == end or (low <= begin and end <= high) for begin, end, low, high in pairs)
