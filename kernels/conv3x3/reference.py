"""Definition of `conv3x3` in plain torch."""

import torch.nn.functional as F
from torch import Tensor


def conv3x3(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x [N, C, H, W], weight [K, C, 3, 3], bias [K] -> [N, K, H, W]."""
    return F.conv2d(x, weight, bias, padding=1)
