"""What a tracked frame does with a score map and with refined boxes, in one launch each, without a wait.

`start`    softmax where asked for, the two highest peaks, their comparison, the target's new position, the
           boxes that refinement starts from
`outcome`  the mean of the best refined boxes of acceptable shape, back in the frame

Rules and formulas are those of plain torch in chase_fast/track (localize.py, refine.py, step.py), which runs
wherever these do not and which they are tested against. Triton only: on a CPU nothing is launched.
"""

from typing import Protocol

import torch
from torch import Tensor

from .. import _dispatch

CAN_RUN = {"reference": _dispatch.always, "triton": _dispatch.triton(torch.float32)}


class Rules(Protocol):
    """Constants; what they mean: chase_fast/track/settings.py."""

    image_size: int
    softmax: bool
    lost_below: float
    distractor_above: float
    hard_negative_above: float
    neighbourhood: float
    displacement: float
    inside_ratio: float
    position_jitter: float
    size_jitter: float
    best_boxes: int
    max_aspect: float
    half_pixel_offset: bool


def fused(scores: Tensor) -> bool:
    """Whether a frame with these scores is made by the functions below: on a GPU, unless the plain ones are
    forced (CHASE_FAST_BACKEND=localize=reference)."""
    return scores.is_cuda and _dispatch.resolve("localize", CAN_RUN, scores) == "triton"


def start(
    scores: Tensor, geometry: Tensor, noise: Tensor, rules: Rules, stride: int, extra: float | None
) -> tuple[Tensor, Tensor]:
    """Where K targets are by their score maps.

    Args:
        scores: [K, S, S].
        geometry: [K, 9]: position, size and window centre (2 each), frame px per patch px, frame size (2).
        noise: [K, R, 4], uniform.
        stride: patch px per cell.
        extra: additional logit of the softmax, or None.

    Returns:
        found [K, 4]: position (row, column), state code, highest score; boxes [K, 1 + R, 4] in the patch.
    """
    from . import triton_localize

    return triton_localize.start(scores, geometry, noise, rules, stride, extra)


def outcome(boxes: Tensor, scores: Tensor, found: Tensor, geometry: Tensor, rules: Rules) -> Tensor:
    """boxes [K, P, 4] and their scores [K, P], found of `start` -> [K, 7]: position (2), size (2), 1 if they
    come from the boxes, state code, score."""
    from . import triton_localize

    return triton_localize.outcome(boxes, scores, found, geometry, rules)
