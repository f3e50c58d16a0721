"""What follows a convolution of a network with fixed weights, in one pass over its output.

    out = f(y + bias + residual),    f = ReLU or nothing

By themselves these are three launches on a GPU and three passes over the map. NaN stays NaN. On a CPU
`conv3x3` does the same within the convolution.
Source: He et al., Deep Residual Learning for Image Recognition (2016), the end of a block.

Memory plan of the fast backend: maps are read as NHWC (`channels_last`; any other layout is copied to it
once), the output is NHWC.
"""

import torch
from torch import Tensor

from chase_fast.lazy import front_door

from .. import _dispatch
from .._autograd import recompute
from .._layout import channels_last
from . import reference

front_door(__name__, call="conv_epilogue")
CAN_RUN = {
    "reference": _dispatch.always,
    "triton": _dispatch.triton(torch.float32, torch.bfloat16),
}


def conv_epilogue(
    y: Tensor, bias: Tensor, residual: Tensor | None = None, relu: bool = False, backend: str | None = None
) -> Tensor:
    """f(y + bias + residual).

    Args:
        y: [N, D, H, W], floating; best in channels_last memory.
        bias: [D], floating.
        residual: [N, D, H, W] or None.
        relu: apply it.
        backend: force `reference | triton`.

    Returns:
        [N, D, H, W], dtype of y; channels_last from Triton, which sums in float32. Differentiable to y, bias
        and residual; backward recomputes through the reference.

    Raises:
        ValueError: shapes do not match.
        RuntimeError: the forced backend cannot run (why is in the text).
    """
    if y.dim() != 4 or bias.shape != y.shape[1:2]:
        raise ValueError(
            f"conv_epilogue: y must be [N, D, H, W] and bias [D], not {list(y.shape)}, {list(bias.shape)}"
        )
    if residual is not None and residual.shape != y.shape:
        raise ValueError(f"conv_epilogue: residual {list(residual.shape)} must be {list(y.shape)}")
    backend = _dispatch.resolve("conv_epilogue", CAN_RUN, y, backend)
    if backend == "reference":
        return reference.conv_epilogue(y, bias, residual, relu)
    if not torch.is_grad_enabled() and type(y) is Tensor and not torch.compiler.is_compiling():
        # nothing to record: the custom op would only add its overhead
        return _dispatch.implementation("conv_epilogue", backend).forward(y, bias, residual, relu)
    return _conv_epilogue(y, bias, residual, relu, backend)


@torch.library.custom_op("chase_fast::conv_epilogue", mutates_args=())
def _conv_epilogue(y: Tensor, bias: Tensor, residual: Tensor | None, relu: bool, backend: str) -> Tensor:
    if backend == "reference":
        return channels_last(reference.conv_epilogue(y, bias, residual, relu))
    return _dispatch.implementation("conv_epilogue", backend).forward(y, bias, residual, relu)


@_conv_epilogue.register_fake
def _(y, bias, residual, relu, backend):
    return torch.empty_like(y, memory_format=torch.channels_last)


def _setup_context(ctx, inputs, output):
    ctx.inputs = inputs[:4]


def _backward(ctx, grad):
    return *recompute(reference.conv_epilogue, ctx.inputs, ctx.needs_input_grad[:4], (grad,)), None


_conv_epilogue.register_autograd(_backward, setup_context=_setup_context)
