"""What follows a convolution of a network with fixed weights, in one pass over its output.

    out = f(y + bias + residual),    f = ReLU or nothing

By themselves these are three launches on a GPU and three passes over the map. NaN stays NaN.
Triton only; the definition is `reference`. Inference only: nothing is recorded for a gradient.
"""

import torch
from torch import Tensor

from .. import _dispatch

CAN_RUN = {
    "reference": _dispatch.always,
    "triton": _dispatch.triton(torch.float32, torch.bfloat16),
}


def reference(y: Tensor, bias: Tensor, residual: Tensor | None, relu: bool) -> Tensor:
    """The definition in plain torch, in the type of `bias` or `y`, whichever has more bits."""
    total = y + bias.view(-1, 1, 1)
    total = total if residual is None else total + residual
    return (total.relu() if relu else total).to(y.dtype)


def epilogue(
    y: Tensor, bias: Tensor, residual: Tensor | None = None, relu: bool = False, backend: str | None = None
) -> Tensor:
    """f(y + bias + residual).

    Args:
        y: [N, D, H, W], best in channels_last memory.
        bias: [D].
        residual: [N, D, H, W] or None.
        relu: apply it.
        backend: force `reference | triton`.

    Returns:
        [N, D, H, W], dtype of y; channels_last from Triton, which sums in float32.

    Raises:
        ValueError: shapes do not match.
        RuntimeError: the forced backend cannot run (why is in the text).
    """
    if y.dim() != 4 or bias.shape != y.shape[1:2]:
        raise ValueError(
            f"epilogue: y must be [N, D, H, W] and bias [D], not {list(y.shape)}, {list(bias.shape)}"
        )
    if residual is not None and residual.shape != y.shape:
        raise ValueError(f"epilogue: residual {list(residual.shape)} must be {list(y.shape)}")
    if _dispatch.resolve("conv3x3_epilogue", CAN_RUN, y, backend) == "reference":
        return reference(y, bias, residual, relu)
    from . import triton_epilogue

    return triton_epilogue.epilogue(y, bias, residual, relu)
