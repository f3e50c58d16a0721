"""Gradient ascent of boxes on the score of a two-branch head over pooled maps: box refinement in one call.

    score(box) = bias + sum over i of  out_i . relu(weight_i vec(modulation_i * pool_i(box)) + bias_i)

i are the two branches; pool_i is `prroi_pool` with bins_i x bins_i bins on the map of branch i. A step moves
every box by its own gradient g to the corners (x0, y0, x1, y1), with centre c, size s = (w, h) and, of the
first box, u = (w, h):

    relative   c <- c + a u^2 (g0 + g1),  s <- s exp(b s (g1 - g0) / 2)
    else       x0 <- x0 + a s (g0 + g1),  s <- s + b s g1

a and b may differ from step to step. Maps may have 16 bits; all arithmetic is float32.

Not differentiable: boxes and scores are results. Source: Danelljan et al., ATOM: Accurate Tracking by Overlap
Maximization (2019), section 3.2; the relative form is that of the published PrDiMP.

Memory plan of the fast backend: maps are read as NHWC (`channels_last`; any other layout is copied to it
once). A step is three launches. The first moves the boxes by the gradients of the step before, pools, and
differentiates the pooled values to the corners in the same pass over the cells; the second is the linear
layer, split over the bins; the third adds up its parts and goes back to the pooled values and the corners.
Sums have a fixed order.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from chase_fast.lazy import front_door

from .. import _dispatch
from .._autograd import forward_only
from . import reference

BINS = reference.BINS
front_door(__name__, call="box_ascent")
CAN_RUN = {
    "reference": _dispatch.always,
    "triton": _dispatch.triton(torch.float32, torch.bfloat16),
}


class Head(NamedTuple):
    """weight [H, (25 + 9) C], columns by branch, bin, channel; hidden_bias, out [2, H]; bias [1]."""

    weight: Tensor
    hidden_bias: Tensor
    out: Tensor
    bias: Tensor


def pack(layers: tuple[tuple[Tensor, Tensor], ...], outs: tuple[Tensor, ...], bias: Tensor) -> Head:
    """From linear layers on flattened maps, two (weight [H, C bins bins], bias [H]), and two [H], [1]."""
    hidden = layers[0][0].shape[0]
    by_bin = [
        w.view(hidden, -1, n * n).transpose(1, 2).reshape(hidden, -1) for (w, _), n in zip(layers, BINS)
    ]
    biases = torch.stack([b for _, b in layers])
    return Head(torch.cat(by_bin, 1).contiguous(), biases, torch.stack(tuple(outs)), bias)


def box_ascent(
    maps: Sequence[Tensor],
    modulation: Sequence[Tensor],
    head: Sequence[Tensor],
    boxes: Tensor,
    scales: Sequence[float],
    to_position: Sequence[float],
    to_size: Sequence[float],
    relative: bool,
    backend: str | None = None,
) -> tuple[Tensor, Tensor]:
    """Boxes after len(to_position) >= 1 steps, and the scores before the last one.

    Args:
        maps: two [K, C, h, w] of K images, floating; best in channels_last memory.
        modulation: two [K, C, 1, 1].
        head: a `Head`, or its four tensors in this order.
        boxes: [K, P, 4], x, y, w, h.
        scales: map cells per box unit, of the two maps.
        to_position, to_size: a and b of every step.
        relative: which form of the step.
        backend: force `reference | triton`.

    Returns:
        [K, P, 4] and [K, P], dtype of boxes. Not differentiable.

    Raises:
        ValueError: wrong shapes.
        RuntimeError: the forced backend cannot run (why is in the text).
    """
    head = Head(*head)
    _check(maps, modulation, head, boxes, to_position, to_size)
    backend = _dispatch.resolve("box_ascent", CAN_RUN, maps[0], backend)
    scales, to_position, to_size = ([float(n) for n in numbers] for numbers in (scales, to_position, to_size))
    if backend == "reference":
        return reference.box_ascent(maps, modulation, head, boxes, scales, to_position, to_size, relative)
    inputs = list(maps), list(modulation), *head, boxes
    return _box_ascent(*inputs, scales, to_position, to_size, relative, backend)


def _check(maps, modulation, head, boxes, to_position, to_size) -> None:
    k, c = boxes.shape[0], maps[0].shape[1]
    if boxes.dim() != 3 or boxes.shape[2] != 4:
        raise ValueError(f"box_ascent: boxes must be [K, P, 4], not {list(boxes.shape)}")
    if any(m.dim() != 4 or tuple(m.shape[:2]) != (k, c) for m in maps) or maps[0].dtype != maps[1].dtype:
        shapes = [list(m.shape) for m in maps]
        raise ValueError(f"box_ascent: maps must be two [{k}, {c}, h, w], not {shapes}")
    if any(tuple(m.shape) != (k, c, 1, 1) for m in modulation):
        raise ValueError(f"box_ascent: modulation must be two [{k}, {c}, 1, 1]")
    hidden = head.weight.shape[0]
    bins = sum(n * n for n in BINS)
    if tuple(head.weight.shape) != (hidden, bins * c) or tuple(head.out.shape) != (2, hidden):
        raise ValueError(f"box_ascent: weight must be [{hidden}, {bins * c}], not {list(head.weight.shape)}")
    if len(to_position) != len(to_size) or not to_position:
        raise ValueError(
            f"box_ascent: {len(to_position)} and {len(to_size)} steps must be as many, at least 1"
        )


@torch.library.custom_op("chase_fast::box_ascent", mutates_args=())
def _box_ascent(
    maps: list[Tensor],
    modulation: list[Tensor],
    weight: Tensor,
    hidden_bias: Tensor,
    out: Tensor,
    bias: Tensor,
    boxes: Tensor,
    scales: list[float],
    to_position: list[float],
    to_size: list[float],
    relative: bool,
    backend: str,
) -> tuple[Tensor, Tensor]:
    """Of fast backends: the reference needs autograd, which is off in here."""
    head, steps = Head(weight, hidden_bias, out, bias), (scales, to_position, to_size, relative)
    return _dispatch.implementation("box_ascent", backend).forward(maps, modulation, head, boxes, *steps)


@_box_ascent.register_fake
def _(maps, modulation, weight, hidden_bias, out, bias, boxes, *rest):
    return boxes.new_empty(boxes.shape), boxes.new_empty(boxes.shape[:2])


forward_only(_box_ascent)
