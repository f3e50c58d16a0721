"""Definition of `skip_drop` in plain torch; its gradient is autograd's."""

import torch
from torch import Tensor


def skip_drop(x: Tensor, keep: list[Tensor], scale: Tensor | float) -> list[Tensor]:
    """Shapes and meaning: `chase_fast.kernels.skip_drop`; the scale may also be a number."""
    wide = x.float() if x.dtype == torch.bfloat16 else x
    return [(wide * k * scale).to(x.dtype) for k in keep]
