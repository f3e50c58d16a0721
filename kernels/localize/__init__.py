"""What a tracked frame does with score maps and with refined boxes, K targets at once.

    start     scores, made a density p by a softmax (with one more logit, which is dropped) if `softmax`
              -> p1 and p2, the two highest peaks, the second outside a rectangle about the first
              -> state:  lost            p1 < lost_below, or there is a NaN
                         (a rival)       p2 > distractor_above p1: hard_negative if one peak is farther than
                                         displacement S / 2 cells from the last place and the other one is
                                         not, which is taken; else uncertain
                         hard_negative   p2 > hard_negative_above p1 and p2 > lost_below
                         tracked         else
              -> position, so near the frame that a share inside_ratio of the target is inside
              -> boxes that refinement starts from: the target's there, copies moved and resized by noise
    outcome   the mean of the best_boxes refined boxes of acceptable aspect, back in the frame

Frames are in pixels (row, column), boxes in pixels of the search patch (x, y, w, h), whose score map has a
cell per `stride` pixels. Ties of peaks go to the first column, in it to the first row. What the rules mean:
`Rules`. Not differentiable.
Sources: the published PrDiMP and DiMP; Danelljan et al., Probabilistic Regression for Visual Tracking (2020);
Bhat et al., Learning Discriminative Model Prediction for Tracking (2019).

Memory plan of the fast backend: a launch each, a program per target, its score map in registers. Nothing
waits for the device.
"""

import torch
from torch import Tensor

from .. import _dispatch
from .._autograd import forward_only
from . import reference
from .reference import HARD_NEGATIVE, LOST, STATES, TRACKED, UNCERTAIN, Geometry, Rules, State

__all__ = [
    "CAN_RUN",
    "GEOMETRY",
    "HARD_NEGATIVE",
    "LOST",
    "STATES",
    "TRACKED",
    "UNCERTAIN",
    "Geometry",
    "Rules",
    "State",
    "outcome",
    "start",
]

CAN_RUN = {"reference": _dispatch.always, "triton": _dispatch.triton(torch.float32)}
GEOMETRY = 9  # columns


def start(
    scores: Tensor,
    geometry: Tensor,
    noise: Tensor,
    rules: Rules,
    stride: int,
    extra: float | None = None,
    backend: str | None = None,
) -> tuple[Tensor, Tensor]:
    """Where K targets are by their score maps.

    Args:
        scores: [K, S, S], floating.
        geometry: [K, 9], the columns of `Geometry`: position, size and window centre (2 each), frame px per
            patch px, frame size (2); dtype of scores, like the noise.
        noise: [K, R, 4], uniform in 0..1.
        stride: patch px per cell.
        extra: additional logit of the softmax, or None.
        backend: force `reference | triton`.

    Returns:
        found [K, 4]: position (row, column), state code, highest score; boxes [K, 1 + R, 4] in the patch.

    Raises:
        ValueError: wrong shapes.
        RuntimeError: the forced backend cannot run (why is in the text).
    """
    k = scores.shape[0]
    if scores.dim() != 3 or scores.shape[1] != scores.shape[2]:
        raise ValueError(f"localize: scores must be [K, S, S], not {list(scores.shape)}")
    if noise.dim() != 3 or noise.shape[0] != k or noise.shape[2] != 4:
        raise ValueError(f"localize: noise must be [{k}, R, 4], not {list(noise.shape)}")
    _check_geometry(geometry, k)
    backend = _dispatch.resolve("localize", CAN_RUN, scores, backend)
    if backend == "reference":
        return reference.start(scores, geometry, noise, rules, stride, extra)
    numbers = [
        *(rules.lost_below, rules.distractor_above, rules.hard_negative_above, rules.neighbourhood),
        *(rules.displacement, rules.inside_ratio, rules.position_jitter, rules.size_jitter),
    ]
    numbers = [float(n) for n in numbers]  # a whole number would compile the kernel anew
    return _start(scores, geometry, noise, numbers, rules.image_size, rules.softmax, stride, extra, backend)


def outcome(
    boxes: Tensor, scores: Tensor, found: Tensor, geometry: Tensor, rules: Rules, backend: str | None = None
) -> Tensor:
    """Where K targets are by their refined boxes.

    Args:
        boxes: [K, P, 4], x, y, w, h in the patch.
        scores: [K, P] of the boxes, dtype of boxes, like the rest.
        found, geometry: [K, 4] and [K, 9], of `start`.
        backend: force `reference | triton`.

    Returns:
        [K, 7]: position (2), size (2), 1 if they come from the boxes, state code, score.

    Raises:
        ValueError: wrong shapes.
        RuntimeError: the forced backend cannot run (why is in the text).
    """
    k, p = boxes.shape[:2]
    if boxes.dim() != 3 or boxes.shape[2] != 4 or tuple(scores.shape) != (k, p):
        shapes = f"{list(boxes.shape)} and {list(scores.shape)}"
        raise ValueError(f"localize: boxes must be [K, P, 4] and scores [K, P], not {shapes}")
    if tuple(found.shape) != (k, 4):
        raise ValueError(f"localize: found must be [{k}, 4], not {list(found.shape)}")
    _check_geometry(geometry, k)
    backend = _dispatch.resolve("localize", CAN_RUN, boxes, backend)
    if backend == "reference":
        return reference.outcome(boxes, scores, found, geometry, rules)
    best, aspect = min(rules.best_boxes, p), float(rules.max_aspect)
    numbers = rules.image_size, best, aspect, rules.half_pixel_offset
    return _outcome(boxes, scores, found, geometry, *numbers, backend)


def _check_geometry(geometry: Tensor, k: int) -> None:
    if tuple(geometry.shape) != (k, GEOMETRY):
        raise ValueError(f"localize: geometry must be [{k}, {GEOMETRY}], not {list(geometry.shape)}")


@torch.library.custom_op("chase_fast::localize_start", mutates_args=())
def _start(
    scores: Tensor,
    geometry: Tensor,
    noise: Tensor,
    numbers: list[float],
    image_size: int,
    softmax: bool,
    stride: int,
    extra: float | None,
    backend: str,
) -> tuple[Tensor, Tensor]:
    """numbers: the rules in the order of `start`."""
    run = _dispatch.implementation("localize", backend).start
    return run(scores, geometry, noise, numbers, image_size, softmax, stride, extra)


@_start.register_fake
def _(scores, geometry, noise, *rest):
    k, boxes = noise.shape[:2]
    return scores.new_empty(k, 4), scores.new_empty(k, 1 + boxes, 4)


@torch.library.custom_op("chase_fast::localize_outcome", mutates_args=())
def _outcome(
    boxes: Tensor,
    scores: Tensor,
    found: Tensor,
    geometry: Tensor,
    image_size: int,
    best_boxes: int,
    max_aspect: float,
    half_pixel_offset: bool,
    backend: str,
) -> Tensor:
    run = _dispatch.implementation("localize", backend).outcome
    return run(boxes, scores, found, geometry, image_size, best_boxes, max_aspect, half_pixel_offset)


@_outcome.register_fake
def _(boxes, *rest):
    return boxes.new_empty(boxes.shape[0], 7)


forward_only(_start)
forward_only(_outcome)
