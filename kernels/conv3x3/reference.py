"""Definition of `conv3x3` in plain torch."""

import torch.nn.functional as F
from torch import Tensor


def conv3x3(
    x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor | None = None, relu: bool = False
) -> Tensor:
    """Shapes and meaning: `chase_fast.kernels.conv3x3`."""
    y = F.conv2d(x, weight, bias, padding=1)
    y = y if residual is None else y + residual
    return F.relu(y) if relu else y
