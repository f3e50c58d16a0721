"""A linear layer on what `prroi_pool` gives, for many nearby boxes on one map, and its gradient to the boxes.

    out[r] = sum over bins b and channels c of weight[b, c] pooled[r, c, b]

Pooling and layer are both linear in the map, so the layer is applied to the cells first: one matrix product
per bin for the cells that boxes near the given ones need there. After that a box costs a weighted sum of
some rows of D numbers instead of bins^2 C D products: made for gradient steps over boxes, where the same
boxes come again and again, slightly moved.

features [C, H, W], weight [bins bins, C, D], rois [R, 5] in image pixels, as `prroi_pool` takes them; out
[R, D]. Source: `prroi_pool`; the order of the sums is ours.

The op is a class, since it keeps a table between calls, and has its gradient as a method, without autograd.
The cpu backend (csrc/cpu/pooled_linear.cpp) builds its table again when a box leaves it; the reference pools
anew in every call.
"""

import torch
from torch import Tensor

from .. import _dispatch
from .._autograd import recompute
from . import native, reference

CAN_RUN = {
    "reference": _dispatch.always,
    "cpu": _dispatch.native_cpu(torch.float32, torch.float64),
}


class PooledLinear:
    """The layer on one map.

    Args:
        features: [C, H, W], any layout, floating.
        weight: [bins * bins, C, D], dtype of features.
        scale: feature cells per image pixel.
        backend: force `reference | cpu`.

    Raises:
        ValueError: wrong shapes or dtypes.
        RuntimeError: the forced backend cannot run (why is in the text).
    """

    def __init__(self, features: Tensor, weight: Tensor, scale: float, backend: str | None = None):
        _check(features, weight)
        self._layer = features, weight, float(scale)
        backend = _dispatch.resolve("pooled_linear", CAN_RUN, features, backend)
        self._table = None if backend == "reference" else native.Table(*self._layer)

    def values(self, rois: Tensor) -> Tensor:
        """rois [R, 5], rows (0, x0, y0, x1, y1), dtype of features -> [R, D]."""
        if self._table is not None:
            return self._table.values(rois.contiguous())
        features, weight, scale = self._layer
        return reference.pooled_linear(features, weight, rois, scale)

    def rois_gradient(self, rois: Tensor, grad: Tensor) -> Tensor:
        """Gradient of sum(grad * values(rois)) to the boxes, [R, 5], column 0 zero; grad [R, D]."""
        if self._table is not None:
            return self._table.rois_gradient(rois.contiguous(), grad.contiguous())
        features, weight, scale = self._layer
        inputs, needed = (features, weight, rois.detach(), scale), (False, False, True, False)
        with torch.no_grad():
            return recompute(reference.pooled_linear, inputs, needed, (grad,))[2]


def worthwhile(features: Tensor) -> bool:
    """Whether a table would be kept for such a map: the reference pools anew, as `prroi_pool` does."""
    return _dispatch.resolve("pooled_linear", CAN_RUN, features) != "reference"


def _check(features: Tensor, weight: Tensor) -> None:
    if features.dim() != 3 or not features.is_floating_point():
        raise ValueError(f"pooled_linear: features must be floating [C, H, W], not {list(features.shape)}")
    bins = round(weight.shape[0] ** 0.5)
    if weight.dim() != 3 or bins**2 != weight.shape[0] or weight.shape[1] != features.shape[0]:
        raise ValueError(
            f"pooled_linear: weight must be [bins bins, {features.shape[0]}, D], not {list(weight.shape)}"
        )
    if weight.dtype != features.dtype:
        raise ValueError(f"pooled_linear: weight must be {features.dtype}, not {weight.dtype}")
