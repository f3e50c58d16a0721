"""The table that csrc/cpu/pooled_linear.cpp reads: what the layer makes of cells, bin by bin."""

from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor

from .._dispatch import native

_MARGIN = 1  # cells kept around those that the boxes need now


class Range(NamedTuple):
    """Cells begin ... end - 1 of an axis."""

    begin: int
    end: int

    def holds(self, part: "Range") -> bool:
        return part.begin == part.end or (self.begin <= part.begin and part.end <= self.end)

    def widened(self, cells: int) -> "Range":
        """With the margin, on an axis of so many cells; an empty one stays empty."""
        if self.begin == self.end:
            return self
        return Range(max(self.begin - _MARGIN, 0), min(self.end + _MARGIN, cells))


class Table:
    """Rows of D numbers for the cells that boxes needed so far; made anew when a box leaves them.

    Args:
        features: [C, H, W].
        weight: [bins bins, C, D].
        scale: feature cells per image pixel.
    """

    def __init__(self, features: Tensor, weight: Tensor, scale: float):
        self._map = features.permute(1, 2, 0).contiguous()  # [H, W, C]
        self._weight, self._scale = weight, scale
        self._bins = round(weight.shape[0] ** 0.5)
        self._ranges: list[Range] = []  # of the rows of bins, then of their columns
        self._values = features.new_empty(0)  # [cells, D]

    def values(self, rois: Tensor) -> Tensor:
        """rois [R, 5], contiguous -> [R, D]."""
        out = torch.empty((rois.shape[0], self._weight.shape[2]), dtype=rois.dtype)
        table = self._cover(rois)
        native().cpu_pooled_linear(*table, rois, self._scale, out, torch.get_num_threads())
        return out

    def rois_gradient(self, rois: Tensor, grad: Tensor) -> Tensor:
        """rois [R, 5], grad [R, D], contiguous -> [R, 5]."""
        out = torch.empty(rois.shape, dtype=rois.dtype)
        table = self._cover(rois)
        native().cpu_pooled_linear_backward_rois(
            *table, rois, self._scale, grad, out, torch.get_num_threads()
        )
        return out

    def _cover(self, rois: Tensor) -> tuple[Tensor, list[int]]:
        """The table with all cells that these boxes need, and where they are: ranges, then the map's size."""
        height, width = self._map.shape[:2]
        numbers = native().cpu_pooled_linear_ranges(rois, self._bins, self._scale, height, width)
        needed = [Range(*numbers[k : k + 2]) for k in range(0, 4 * self._bins, 2)]
        if not self._ranges or not all(r.holds(part) for r, part in zip(self._ranges, needed)):
            limits = [height] * self._bins + [width] * self._bins
            self._ranges = [part.widened(cells) for part, cells in zip(needed, limits)]
            self._values = self._tabulated(self._ranges[: self._bins], self._ranges[self._bins :])
        return self._values, [*chain(*self._ranges), height, width]

    def _tabulated(self, rows: list[Range], columns: list[Range]) -> Tensor:
        spans = [(slice(*r), slice(*c)) for r in rows for c in columns]
        pieces = [self._map[span].flatten(0, 1) for span in spans]  # [cells of a bin, C]
        table = self._map.new_empty(sum(map(len, pieces)), self._weight.shape[2])
        at = 0
        for piece, weight in zip(pieces, self._weight):
            torch.mm(piece, weight, out=table[at : at + len(piece)])
            at += len(piece)
        return table
