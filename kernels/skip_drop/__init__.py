"""Dropout on the skip connections of all edges that leave one source node.

    y_e = x keep_e scale,        dx = sum_e g_e scale keep_e

Pure arithmetic on maps: x is read once for all edges, and so is its gradient written. Masks come from
`keep_mask`, or from anywhere else.
Source: the released CHASE code drops behind the identity, element by element, a mask per edge.

Memory plan of the fast backend: maps and masks are read as NHWC (`channels_last`; any other layout is copied
to it once), outputs are NHWC; nothing is stored for the gradient but masks and scale.
"""

import torch
from torch import Tensor

from chase_fast.lazy import front_door

from .. import _dispatch
from .._autograd import not_differentiable, recompute
from .._layout import channels_last
from . import reference

front_door(__name__, call="skip_drop")
CAN_RUN = {
    "reference": _dispatch.always,
    "triton": _dispatch.triton(torch.float32, torch.float64, torch.bfloat16),
}


def skip_drop(x: Tensor, keep: list[Tensor], scale: Tensor, backend: str | None = None) -> list[Tensor]:
    """A source's map behind the dropout of each of its E edges.

    Args:
        x: [N, C, H, W], floating, best in channels_last memory.
        keep: E masks, bool [N, C, H, W], likewise.
        scale: float64 [], 1 / (1 - rate), on the device of x.
        backend: force `reference | triton`.

    Returns:
        E maps like x. Products are float32 with bfloat16 maps. Differentiable to x.

    Raises:
        ValueError: wrong shape, dtype or device.
        RuntimeError: the forced backend cannot run (why is in the text).
    """
    if x.dim() != 4 or not x.is_floating_point():
        raise ValueError(f"skip_drop: x must be floating [N, C, H, W], not {x.dtype} {list(x.shape)}")
    if not keep or any((k.shape, k.dtype, k.device) != (x.shape, torch.bool, x.device) for k in keep):
        raise ValueError(
            f"skip_drop: masks must be bool {list(x.shape)} on {x.device}, at least one, not "
            f"{[(k.dtype, list(k.shape), str(k.device)) for k in keep]}"
        )
    if scale.dim() or scale.dtype != torch.float64 or scale.device != x.device:
        raise ValueError(f"skip_drop: scale must be float64 [] on {x.device}, not {scale.dtype}")
    backend = _dispatch.resolve("skip_drop", CAN_RUN, x, backend)
    if backend == "reference":
        return reference.skip_drop(x, keep, scale)
    return _skip_drop(x, list(keep), scale, backend)


@torch.library.custom_op("chase_fast::skip_drop", mutates_args=())
def _skip_drop(x: Tensor, keep: list[Tensor], scale: Tensor, backend: str) -> list[Tensor]:
    if backend == "reference":
        return [channels_last(y) for y in reference.skip_drop(x, keep, scale)]
    return _dispatch.implementation("skip_drop", backend).forward(x, keep, scale)


@_skip_drop.register_fake
def _(x, keep, scale, backend):
    return [torch.empty_like(x, memory_format=torch.channels_last) for _ in keep]


@torch.library.custom_op("chase_fast::skip_drop_backward", mutates_args=())
def _backward_op(grads: list[Tensor], keep: list[Tensor], scale: Tensor, backend: str) -> Tensor:
    """Gradient of x from those of the edges that have one, and their masks."""
    return _dispatch.implementation("skip_drop", backend).backward(grads, keep, scale)


@_backward_op.register_fake
def _(grads, keep, scale, backend):
    return torch.empty_like(grads[0], memory_format=torch.channels_last)


not_differentiable(_backward_op)


def _setup_context(ctx, inputs, output):
    x, keep, scale, ctx.backend = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(scale, *keep, *([x] if ctx.backend == "reference" else []))


def _backward(ctx, grads):
    scale, *keep = ctx.saved_tensors
    if ctx.backend == "reference":
        *keep, x = keep
        needed = (True, [False] * len(keep), False)
        return *recompute(reference.skip_drop, (x, keep, scale), needed, grads), None
    pairs = [(g, k) for g, k in zip(grads, keep) if g is not None]
    to_x = _backward_op(*map(list, zip(*pairs)), scale, ctx.backend) if pairs else None
    return to_x, [None] * len(keep), None, None


_skip_drop.register_autograd(_backward, setup_context=_setup_context)
