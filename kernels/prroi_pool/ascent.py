"""Gradient ascent of boxes on the score of a two-branch head over pooled maps: box refinement in one call.

    score(box) = bias + sum over i of  out_i . relu(weight_i vec(modulation_i * pool_i(box)) + bias_i)

i are the two branches; pool_i is `prroi_pool` with bins_i x bins_i bins on the map of branch i. A step moves
every box by its own gradient g to the corners (x0, y0, x1, y1), with centre c, size s = (w, h) and, of the
first box, u = (w, h):

    relative   c <- c + a u^2 (g0 + g1),  s <- s exp(b s (g1 - g0) / 2)
    else       x0 <- x0 + a s (g0 + g1),  s <- s + b s g1

a and b may differ from step to step. Maps may have 16 bits; all arithmetic is float32.

Backends: `reference` (plain torch, the gradient by autograd) and `triton`: three launches per step. The first
moves the boxes by the gradients of the step before, pools, and differentiates the pooled values to the
corners in the same pass over the cells; the second is the linear layer, split over the bins; the third adds
up its parts and goes back to the pooled values and the corners. Sums have a fixed order.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import _dispatch
from .._autograd import not_differentiable
from . import reference as pooling

BINS = (5, 3)
CAN_RUN = {
    "reference": _dispatch.always,
    "triton": _dispatch.triton(torch.float32, torch.bfloat16),
}


@dataclass(frozen=True)
class Head:
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


def ascend(
    maps: tuple[Tensor, Tensor],
    modulation: tuple[Tensor, Tensor],
    head: Head,
    boxes: Tensor,
    scales: tuple[float, float],
    to_position: list[float],
    to_size: list[float],
    relative: bool,
    backend: str | None = None,
) -> tuple[Tensor, Tensor]:
    """Boxes after len(to_position) >= 1 steps, and the scores before the last one.

    Args:
        maps: two [K, C, h, w] of K images, floating; best in channels_last memory.
        modulation: two [K, C, 1, 1].
        boxes: [K, P, 4], x, y, w, h.
        scales: map cells per box unit.
        to_position, to_size: a and b of every step.

    Returns:
        [K, P, 4] and [K, P], dtype of boxes. Not differentiable.

    Raises:
        ValueError: wrong shapes.
        RuntimeError: the forced backend cannot run (why is in the text).
    """
    _check(maps, modulation, head, boxes, to_position, to_size)
    backend = _dispatch.resolve("prroi_pool_ascend", CAN_RUN, maps[0], backend)
    steps = [float(s) for s in scales], [float(s) for s in to_position], [float(s) for s in to_size], relative
    if backend == "reference":
        return reference(maps, modulation, head, boxes, *steps)
    tensors = head.weight, head.hidden_bias, head.out, head.bias, boxes
    return _ascend(list(maps), list(modulation), *tensors, *steps)


def _check(maps, modulation, head, boxes, to_position, to_size) -> None:
    k, c = boxes.shape[0], maps[0].shape[1]
    if boxes.dim() != 3 or boxes.shape[2] != 4:
        raise ValueError(f"ascend: boxes must be [K, P, 4], not {list(boxes.shape)}")
    if any(m.dim() != 4 or tuple(m.shape[:2]) != (k, c) for m in maps) or maps[0].dtype != maps[1].dtype:
        raise ValueError(f"ascend: maps must be two [{k}, {c}, h, w], not {[list(m.shape) for m in maps]}")
    if any(tuple(m.shape) != (k, c, 1, 1) for m in modulation):
        raise ValueError(f"ascend: modulation must be two [{k}, {c}, 1, 1]")
    hidden = head.weight.shape[0]
    bins = sum(n * n for n in BINS)
    if tuple(head.weight.shape) != (hidden, bins * c) or tuple(head.out.shape) != (2, hidden):
        raise ValueError(f"ascend: weight must be [{hidden}, {bins * c}], not {list(head.weight.shape)}")
    if len(to_position) != len(to_size) or not to_position:
        raise ValueError(f"ascend: {len(to_position)} and {len(to_size)} steps must be as many, at least 1")


def reference(
    maps: Sequence[Tensor],
    modulation: Sequence[Tensor],
    head: Head,
    boxes: Tensor,
    scales: list[float],
    to_position: list[float],
    to_size: list[float],
    relative: bool,
) -> tuple[Tensor, Tensor]:
    """The definition in plain torch."""
    k, p = boxes.shape[:2]
    index = torch.arange(k, device=boxes.device, dtype=boxes.dtype).view(k, 1, 1).expand(k, p, 1)
    channels = maps[0].shape[1]
    weights = [
        w.unflatten(1, (n * n, channels))
        for w, n in zip(head.weight.split([n * n * channels for n in BINS], 1), BINS)
    ]

    def scored(corners: Tensor) -> Tensor:
        rois = torch.cat((index, corners), -1).flatten(0, 1)
        total = head.bias
        for i, n in enumerate(BINS):
            pooled = pooling.prroi_pool(maps[i].to(boxes.dtype), rois, (n, n), scales[i])
            pooled = pooled.view(k, p, channels, n * n) * modulation[i].view(k, 1, channels, 1)
            hidden = torch.einsum("kpcb,hbc->kph", pooled, weights[i]) + head.hidden_bias[i]
            total = total + hidden.relu() @ head.out[i]
        return total

    centre, size = boxes[..., :2] + boxes[..., 2:] / 2, boxes[..., 2:]
    unit, score = size[:, :1], None
    for a, b in zip(to_position, to_size):
        corners = torch.cat((centre - size / 2, centre + size / 2), -1).detach().requires_grad_()
        with torch.enable_grad():
            score = scored(corners)
            (gradient,) = torch.autograd.grad(score.sum(), corners)
        low, high = gradient.split(2, -1)
        if relative:
            centre = centre + a * unit.square() * (low + high)
            size = size * (b * size * (high - low) / 2).exp()
        else:
            corner = centre - size / 2 + a * size * (low + high)
            size = size + b * size * high
            centre = corner + size / 2
    return torch.cat((centre - size / 2, size), -1).detach(), score.detach()


@torch.library.custom_op("chase_fast::prroi_pool_ascend", mutates_args=())
def _ascend(
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
) -> tuple[Tensor, Tensor]:
    from . import triton_ascent

    head, steps = Head(weight, hidden_bias, out, bias), (scales, to_position, to_size, relative)
    return triton_ascent.ascend(maps, modulation, head, boxes, *steps)


@_ascend.register_fake
def _(maps, modulation, weight, hidden_bias, out, bias, boxes, *rest):
    return boxes.new_empty(boxes.shape), boxes.new_empty(boxes.shape[:2])


not_differentiable(_ascend)
