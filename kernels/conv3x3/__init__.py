"""3x3 convolution of stride 1 and padding 1 for inference, with what follows it in a residual network.

    y = f(conv(x, weight) + bias + residual),    f = ReLU or nothing

The cpu backend computes it by Winograd's minimal filtering F(4x4, 3x3): every 4x4 outputs take 36 products
per channel pair instead of 144. Weights are transformed once, by `pack`. In float32 its rounding error is a
few times that of a direct convolution, about 2e-6 of the output's RMS against 5e-7.
Source: Lavin and Gray, Fast Algorithms for Convolutional Neural Networks (2016), section 4.
"""

import torch
from torch import Tensor

from chase_fast.lazy import front_door

from .. import _dispatch
from .._autograd import recompute
from .._layout import channels_last
from . import native, reference

front_door(__name__, call="conv3x3")
CAN_RUN = {"reference": _dispatch.always, "cpu": _dispatch.native_cpu(torch.float32, torch.float64)}


def pack(weight: Tensor) -> Tensor:
    """Weights [D, C, 3, 3] as the cpu backend reads them (`packed`): [ceil(D / 32), 36, C, 32]."""
    return native.pack(weight)


def conv3x3(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    residual: Tensor | None = None,
    relu: bool = False,
    packed: Tensor | None = None,
    backend: str | None = None,
) -> Tensor:
    """The convolution, the sum and the activation in one call.

    Args:
        x: [N, C, H, W], floating; best in channels_last memory.
        weight: [D, C, 3, 3].
        bias: [D].
        residual: [N, D, H, W], added before the activation.
        relu: apply it.
        packed: `pack(weight)`, made in this call if None; a backend without use for it ignores it.
        backend: force `reference | cpu`.

    Returns:
        [N, D, H, W], dtype of x, channels_last from the cpu backend. Differentiable to x, weight, bias and
        residual; backward recomputes through the reference.

    Raises:
        ValueError: wrong shapes or dtypes.
        RuntimeError: the forced backend cannot run (why is in the text).
    """
    _check(x, weight, bias, residual, packed)
    backend = _dispatch.resolve("conv3x3", CAN_RUN, x, backend)
    if backend == "reference":
        return reference.conv3x3(x, weight, bias, residual, relu)
    return _conv3x3(x, weight, bias, residual, relu, packed, backend)


def _check(x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor | None, packed: Tensor | None) -> None:
    if x.dim() != 4 or not x.is_floating_point():
        raise ValueError(f"conv3x3: x must be floating [N, C, H, W], not {x.dtype} {list(x.shape)}")
    if weight.dim() != 4 or weight.shape[1:] != (x.shape[1], 3, 3):
        raise ValueError(f"conv3x3: weight {list(weight.shape)} must be [D, {x.shape[1]}, 3, 3]")
    outputs = weight.shape[0]
    if bias.shape != (outputs,):
        raise ValueError(f"conv3x3: bias {list(bias.shape)} must be [{outputs}]")
    wanted = (x.shape[0], outputs, *x.shape[2:])
    if residual is not None and tuple(residual.shape) != wanted:
        raise ValueError(f"conv3x3: residual {list(residual.shape)} must be {list(wanted)}")
    if packed is not None and tuple(packed.shape) != native.packed_shape(outputs, x.shape[1]):
        raise ValueError(f"conv3x3: packed {list(packed.shape)} must be pack(weight)")
    if any(t is not None and t.dtype != x.dtype for t in (weight, bias, residual, packed)):
        raise ValueError(f"conv3x3: all tensors must be {x.dtype}, the type of x")


@torch.library.custom_op("chase_fast::conv3x3", mutates_args=())
def _conv3x3(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    residual: Tensor | None,
    relu: bool,
    packed: Tensor | None,
    backend: str,
) -> Tensor:
    if backend == "reference":
        return reference.conv3x3(x, weight, bias, residual, relu)
    return native.forward(x, native.pack(weight) if packed is None else packed, bias, residual, relu)


@_conv3x3.register_fake
def _(x, weight, bias, residual, relu, packed, backend):
    out = x.new_empty(x.shape[0], weight.shape[0], *x.shape[2:])
    return out if backend == "reference" else channels_last(out)


def _setup_context(ctx, inputs, output):
    ctx.inputs = inputs[:5]


def _backward(ctx, grad):
    return *recompute(reference.conv3x3, ctx.inputs, ctx.needs_input_grad[:5], (grad,)), None, None


_conv3x3.register_autograd(_backward, setup_context=_setup_context)
