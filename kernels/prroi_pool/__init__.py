"""Precise RoI pooling: the exact mean of the bilinearly interpolated features over every bin of a box.

    F(y, x) = sum_ij f[i, j] hat(y - i) hat(x - j)        hat(u) = max(0, 1 - |u|), zero outside the grid
    out[r, c, p, q] = (integral of F over bin (p, q) of box r) / (area of the bin)

A box (image index, x0, y0, x1, y1) is given in image pixels and multiplied by `scale`; there is no half-pixel
shift and no + 1. It is split evenly into output_size bins. The integral is separable: with H the integral of
hat, the weight of f[i, j] is (H(y_{p+1} - i) - H(y_p - i)) (H(x_{q+1} - j) - H(x_q - j)).
A box of zero area, and one with x1 < x0 or y1 < y0, has value 0 and gradient 0. NaN coordinates give NaN
values. Source: Jiang et al., Acquisition of Localization Confidence for Accurate Object Detection (2018),
section 3.2.

Memory plan of the fast backends: features are read as NHWC (`channels_last`; any other layout is copied to it
once), vector lanes run along the channels. Gradients are gathered, each element written by one thread in a
fixed order.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from chase_fast.lazy import front_door

from .. import _dispatch
from .._autograd import not_differentiable, recompute
from . import reference

front_door(__name__, call="prroi_pool")
CAN_RUN = {
    "reference": _dispatch.always,
    "cpu": _dispatch.native_cpu(torch.float32, torch.float64),
    "triton": _dispatch.triton(torch.float32, torch.float64, torch.bfloat16),
    "cuda": _dispatch.native_cuda(torch.float32, torch.float64),
}


def prroi_pool(
    features: Tensor, rois: Tensor, output_size: tuple[int, int], scale: float, backend: str | None = None
) -> Tensor:
    """Exact average of the interpolated features over the bins of each box.

    Args:
        features: [N, C, H, W], floating; best in channels_last memory.
        rois: [R, 5], rows (image index in 0..N-1, x0, y0, x1, y1), image pixels; dtype of `features`, or
            float32 with 16-bit features. An index outside 0..N-1 raises IndexError on the CPU and gives
            NaN on a GPU, where raising would have to wait for the device.
        output_size: (rows, columns) of bins.
        scale: feature cells per image pixel, e.g. 1/16.
        backend: force `reference | cpu | triton | cuda`.

    Returns:
        [R, C, rows, columns], contiguous, dtype of `features`. Differentiable to `features` and `rois`
        (column 0: zero); twice differentiable on the reference backend.

    Raises:
        ValueError: wrong shape, dtype or output size.
        RuntimeError: the forced backend cannot run (why is in the text).
    """
    _check(features, rois, output_size, scale)
    backend = _dispatch.resolve("prroi_pool", CAN_RUN, features, backend)
    rows, columns = (int(n) for n in output_size)
    if backend == "reference":
        return reference.prroi_pool(features, rois, (rows, columns), float(scale))
    return _prroi_pool(features, rois, rows, columns, float(scale), backend)


def prroi_pool_rois_gradient(
    grad: Tensor,
    features: Tensor,
    rois: Tensor,
    pooled: Tensor,
    scale: float,
    backend: str | None = None,
) -> Tensor:
    """The gradient of sum(grad * pooled) to the boxes, without autograd: for gradient steps over boxes.

    Args:
        grad: [R, C, rows, columns].
        features, rois, scale, backend: as in `prroi_pool`.
        pooled: [R, C, rows, columns], what `prroi_pool` returned for them.

    Returns:
        [R, 5], column 0 zero, dtype of `rois`. Not differentiable again.

    Raises:
        ValueError: wrong shape, dtype or output size.
        RuntimeError: the forced backend cannot run (why is in the text).
    """
    size = tuple(pooled.shape[2:])
    _check(features, rois, size, scale)
    wanted = (rois.shape[0], features.shape[1], *size)
    if tuple(grad.shape) != wanted or tuple(pooled.shape) != wanted:
        raise ValueError(
            f"prroi_pool: grad {list(grad.shape)} and pooled {list(pooled.shape)} must be {list(wanted)}"
        )
    backend = _dispatch.resolve("prroi_pool", CAN_RUN, features, backend)
    if backend == "reference":
        inputs = (features.detach(), rois.detach(), size, float(scale))
        with torch.no_grad():
            return recompute(reference.prroi_pool, inputs, (False, True, False, False), (grad,))[1]
    return _backward_rois(grad, features, rois, pooled, float(scale), backend)


def _check(features: Tensor, rois: Tensor, output_size: Sequence[int], scale: float) -> None:
    if features.dim() != 4 or not features.is_floating_point():
        raise ValueError(f"prroi_pool: features must be floating [N, C, H, W], not {_describe(features)}")
    if rois.dim() != 2 or rois.shape[1] != 5:
        raise ValueError(
            f"prroi_pool: rois must be [R, 5] = (image index, x0, y0, x1, y1), not {_describe(rois)}"
        )
    wanted = torch.float32 if features.element_size() == 2 else features.dtype
    if rois.dtype != wanted or rois.device != features.device:
        raise ValueError(f"prroi_pool: rois must be {wanted} on {features.device}, not {_describe(rois)}")
    if len(output_size) != 2 or min(output_size) < 1 or not scale > 0:
        raise ValueError(f"prroi_pool: output_size {output_size} and scale {scale} must be positive")


def _describe(t: Tensor) -> str:
    return f"{t.dtype} {list(t.shape)} on {t.device}"


@torch.library.custom_op("chase_fast::prroi_pool", mutates_args=())
def _prroi_pool(
    features: Tensor, rois: Tensor, rows: int, columns: int, scale: float, backend: str
) -> Tensor:
    if backend == "reference":
        return reference.prroi_pool(features, rois, (rows, columns), scale)
    return _dispatch.implementation("prroi_pool", backend).forward(features, rois, rows, columns, scale)


@_prroi_pool.register_fake
def _(features, rois, rows, columns, scale, backend):
    return features.new_empty(rois.shape[0], features.shape[1], rows, columns)


@torch.library.custom_op("chase_fast::prroi_pool_backward_features", mutates_args=())
def _backward_features(grad: Tensor, features: Tensor, rois: Tensor, scale: float, backend: str) -> Tensor:
    return _dispatch.implementation("prroi_pool", backend).backward_features(
        grad, features.shape, rois, scale
    )


@_backward_features.register_fake
def _(grad, features, rois, scale, backend):
    return torch.empty_like(features, memory_format=torch.channels_last)


@torch.library.custom_op("chase_fast::prroi_pool_backward_rois", mutates_args=())
def _backward_rois(
    grad: Tensor, features: Tensor, rois: Tensor, out: Tensor, scale: float, backend: str
) -> Tensor:
    return _dispatch.implementation("prroi_pool", backend).backward_rois(grad, features, rois, out, scale)


@_backward_rois.register_fake
def _(grad, features, rois, out, scale, backend):
    return rois.new_empty(rois.shape)


not_differentiable(_backward_features)
not_differentiable(_backward_rois)


def _setup_context(ctx, inputs, output):
    features, rois, ctx.rows, ctx.columns, ctx.scale, ctx.backend = inputs
    ctx.save_for_backward(features, rois, output)


def _backward(ctx, grad):
    features, rois, out = ctx.saved_tensors
    to_features, to_rois = ctx.needs_input_grad[:2]
    if ctx.backend == "reference":
        inputs = (features, rois, (ctx.rows, ctx.columns), ctx.scale)
        gradients = recompute(reference.prroi_pool, inputs, (to_features, to_rois, False, False), (grad,))[:2]
    else:
        gradients = (
            _backward_features(grad, features, rois, ctx.scale, ctx.backend) if to_features else None,
            _backward_rois(grad, features, rois, out, ctx.scale, ctx.backend) if to_rois else None,
        )
    return *gradients, None, None, None, None


_prroi_pool.register_autograd(_backward, setup_context=_setup_context)
