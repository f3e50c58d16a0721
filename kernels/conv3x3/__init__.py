"""3x3 convolution of stride 1 and zero padding 1 with fixed weights: the frozen backbone.

    y[k] = bias[k] + sum over c, a, b of weight[k, c, a, b] x[c, i + a - 1, j + b - 1]

The fast backend computes 4x4 tiles of the output with a quarter of the multiplications (minimal filtering);
its rounding differs from the direct sum by 1e-6 to 2e-6 of the result in float32. What depends on the weights
alone is computed once, by `transform`.
Source: Lavin and Gray, Fast Algorithms for Convolutional Neural Networks (2016), F(4x4, 3x3).
"""

import torch
from torch import Tensor

from .. import _dispatch
from .._autograd import recompute
from . import reference

CAN_RUN = {
    "reference": _dispatch.always,
    "cpu": _dispatch.native_cpu(torch.float32, torch.float64),
}


def conv3x3(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    transformed: Tensor | None = None,
    backend: str | None = None,
) -> Tensor:
    """The convolution.

    Args:
        x: [N, C, H, W], best in channels_last memory.
        weight: [K, C, 3, 3]. bias: [K].
        transformed: `transform(weight)`, kept by the caller; None computes it. Takes no gradient.

    Returns:
        [N, K, H, W]; from fast backends in channels_last memory. Differentiable to x, weight and bias (by the
        reference).

    Raises:
        ValueError: the shapes do not fit.
    """
    k, c = weight.shape[:2]
    if x.dim() != 4 or weight.shape != (k, x.shape[1], 3, 3) or bias.shape != (k,):
        raise ValueError(
            f"conv3x3: weight {list(weight.shape)} and bias {list(bias.shape)} do not fit x {list(x.shape)}"
        )
    if transformed is not None and transformed.shape != (36, c, k):
        raise ValueError(
            f"conv3x3: transformed weights must be [36, {c}, {k}], not {list(transformed.shape)}"
        )
    backend = _dispatch.resolve("conv3x3", CAN_RUN, x, backend)
    if backend == "reference":
        return reference.conv3x3(x, weight, bias)
    return _conv3x3(x, weight, bias, transform(weight) if transformed is None else transformed, backend)


@torch.no_grad()
def transform(weight: Tensor) -> Tensor:
    """Weights [K, C, 3, 3] as the fast backend multiplies with them: G w G^T, [36, C, K] contiguous."""
    g = [[1 / 4, 0, 0], [-1 / 6, -1 / 6, -1 / 6], [-1 / 6, 1 / 6, -1 / 6]]
    g += [[1 / 24, 1 / 12, 1 / 6], [1 / 24, -1 / 12, 1 / 6], [0, 0, 1]]
    matrix = torch.tensor(g, dtype=torch.float64, device=weight.device)
    tiles = matrix @ weight.double() @ matrix.T  # [K, C, 6, 6]
    return tiles.permute(2, 3, 1, 0).flatten(0, 1).to(weight.dtype).contiguous()


@torch.library.custom_op("chase_fast::conv3x3", mutates_args=())
def _conv3x3(x: Tensor, weight: Tensor, bias: Tensor, transformed: Tensor, backend: str) -> Tensor:
    if backend == "reference":
        return reference.conv3x3(x, weight, bias).contiguous(memory_format=torch.channels_last)
    from . import native

    return native.conv3x3(x, bias, transformed)


@_conv3x3.register_fake
def _(x, weight, bias, transformed, backend):
    shape = (x.shape[0], weight.shape[0], *x.shape[2:])
    return x.new_empty(shape).contiguous(memory_format=torch.channels_last)


def _setup_context(ctx, inputs, output):
    ctx.inputs = inputs[:3]


def _backward(ctx, grad):
    return *recompute(reference.conv3x3, ctx.inputs, ctx.needs_input_grad[:3], (grad,)), None, None


_conv3x3.register_autograd(_backward, setup_context=_setup_context)
