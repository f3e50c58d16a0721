"""Definition of `conv_epilogue` in plain torch."""

from torch import Tensor


def conv_epilogue(y: Tensor, bias: Tensor, residual: Tensor | None = None, relu: bool = False) -> Tensor:
    """Shapes and meaning: `chase_fast.kernels.conv_epilogue`. Sums in the type of `bias` or `y`, whichever
    has more bits."""
    total = y + bias.view(-1, 1, 1)
    total = total if residual is None else total + residual
    return (total.relu() if relu else total).to(y.dtype)
