"""Definition of `pooled_linear` in plain torch."""

import torch
from torch import Tensor

from ..prroi_pool.reference import prroi_pool


def pooled_linear(features: Tensor, weight: Tensor, rois: Tensor, scale: float) -> Tensor:
    """Shapes and meaning: `chase_fast.kernels.pooled_linear`; [R, D]."""
    bins = round(weight.shape[0] ** 0.5)
    pooled = prroi_pool(features[None], rois, (bins, bins), scale)  # [R, C, bins, bins]
    return torch.einsum("rcb,bcd->rd", pooled.flatten(2), weight)
