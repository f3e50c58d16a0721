"""Definition of `localize` in plain torch, K targets at once.

Everything is a tensor operation without a data-dependent branch: nothing waits for the device.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from .._states import HARD_NEGATIVE, LOST, STATES, TRACKED, UNCERTAIN, State

__all__ = ["HARD_NEGATIVE", "LOST", "STATES", "TRACKED", "UNCERTAIN", "State"]


class Rules(Protocol):
    """Constants of a tracker.

    image_size: side of the search patch in pixels.
    softmax: scores are made a density before they are compared with thresholds.
    lost_below, distractor_above, hard_negative_above: a target is lost below this score; a second peak above
        this share of the first is a rival; above this share, a hard negative.
    neighbourhood: side of the area about the peak that belongs to it, over the target's.
    displacement: how far a target moves in one frame, as a share of half the score map.
    inside_ratio: share of the target that stays in the frame.
    position_jitter, size_jitter: spread of the random boxes.
    best_boxes, max_aspect: boxes averaged, and the aspect that they may have.
    half_pixel_offset: a box goes back to the frame half a patch pixel right of and below where it is.
    """

    @property
    def image_size(self) -> int: ...
    @property
    def softmax(self) -> bool: ...
    @property
    def lost_below(self) -> float: ...
    @property
    def distractor_above(self) -> float: ...
    @property
    def hard_negative_above(self) -> float: ...
    @property
    def neighbourhood(self) -> float: ...
    @property
    def displacement(self) -> float: ...
    @property
    def inside_ratio(self) -> float: ...
    @property
    def position_jitter(self) -> float: ...
    @property
    def size_jitter(self) -> float: ...
    @property
    def best_boxes(self) -> int: ...
    @property
    def max_aspect(self) -> float: ...
    @property
    def half_pixel_offset(self) -> bool: ...


@dataclass(frozen=True)
class Geometry:
    """Targets and search windows of one frame in frame pixels, (row, column): positions [K, 2], sizes [K, 2]
    (h, w), window centres [K, 2], frame px per patch px [K, 1], frame sizes [K, 2] (h, w)."""

    position: Tensor
    size: Tensor
    window: Tensor
    scale: Tensor
    frame: Tensor

    @staticmethod
    def of(table: Tensor) -> "Geometry":
        """From a table [K, 9] with these columns."""
        return Geometry(*table.split((2, 2, 2, 1, 2), 1))


def start(
    scores: Tensor, geometry: Tensor, noise: Tensor, rules: Rules, stride: int, extra: float | None
) -> tuple[Tensor, Tensor]:
    """Shapes and meaning: `chase_fast.kernels.localize.start`."""
    where = Geometry.of(geometry)
    if rules.softmax:
        scores = _softmax(scores, extra)
    movement, state, score = compare_peaks(scores, where, rules, stride)
    position = clipped(where.window + movement, where, rules)

    middle = (rules.image_size - 1) / 2
    extent = where.size / where.scale
    corner = (position - where.window) / where.scale + middle - (extent - 1) / 2
    box = torch.cat((corner.flip(1), extent.flip(1)), 1)  # x, y, w, h in the patch
    found = torch.cat((position, torch.stack((state.to(score), score), 1)), 1)
    return found, start_boxes(box, noise, rules)


def outcome(boxes: Tensor, scores: Tensor, found: Tensor, geometry: Tensor, rules: Rules) -> Tensor:
    """Shapes and meaning: `chase_fast.kernels.localize.outcome`."""
    where = Geometry.of(geometry)
    position, middle = found[:, :2], (rules.image_size - 1) / 2
    best, some = best_box(boxes, scores, rules)
    centre = (best[:, :2] + best[:, 2:] / 2).flip(1)
    if not rules.half_pixel_offset:
        centre = centre - 0.5
    refined = (centre - middle) * where.scale + where.window
    position = torch.where(some[:, None], refined, position)
    size = torch.where(some[:, None], best[:, 2:].flip(1) * where.scale, where.size)
    return torch.cat((position, size, some[:, None].to(size), found[:, 2:]), 1)


def compare_peaks(
    scores: Tensor, geometry: Geometry, rules: Rules, stride: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Compares the two highest peaks.

    scores: [K, S, S], after the softmax where the rules ask for it. A map with NaN is lost.

    Returns:
        movement [K, 2] from the window's centre to the peak chosen, frame px (row, column);
        state [K], code; highest score [K].
    """
    side = scores.shape[-1]
    cell = stride * geometry.scale  # frame px per cell, [K, 1]
    first, peak = _highest(scores)
    extent = rules.neighbourhood * geometry.size / cell  # cells, [K, 2]
    second, other = _highest(scores.masked_fill(_rectangle(peak, extent, side), 0))
    middle = (side - 1) / 2
    move, other_move = peak - middle, other - middle  # cells
    before = (geometry.position - geometry.window) / cell
    far = rules.displacement * side / 2
    distance, other_distance = (torch.linalg.vector_norm(m - before, dim=-1) for m in (move, other_move))

    rival = second > rules.distractor_above * first
    first_is_it = (other_distance > far) & (distance < far)
    second_is_it = (other_distance < far) & (distance > far)
    similar = (second > rules.hard_negative_above * first) & (second > rules.lost_below)
    negative = torch.where(rival, first_is_it | second_is_it, similar)
    state = torch.where(negative, HARD_NEGATIVE, torch.where(rival, UNCERTAIN, TRACKED))
    state = torch.where(first >= rules.lost_below, state, LOST)  # NaN compares false: lost
    move = torch.where((rival & second_is_it)[:, None], other_move, move)
    return move * cell, state, first


def clipped(position: Tensor, geometry: Geometry, rules: Rules) -> Tensor:
    """Positions [K, 2] kept so near the frame that a share `inside_ratio` of the target is inside."""
    outside = (rules.inside_ratio - 0.5) * geometry.size
    return torch.maximum(torch.minimum(position, geometry.frame - outside), outside)


def start_boxes(box: Tensor, noise: Tensor, rules: Rules) -> Tensor:
    """The boxes that are refined: `box` and copies moved and resized at random.

    box: [K, 4] x, y, w, h; noise [K, P, 4], uniform in 0..1: (x, y, w, h).  -> [K, 1 + P, 4].
    """
    centre, size = box[:, None, :2] + box[:, None, 2:] / 2, box[:, None, 2:]
    spread = size.prod(-1, keepdim=True).sqrt() * (noise - 0.5)
    smallest = size.amin(-1, keepdim=True) / 3
    sizes = (size + rules.size_jitter * spread[..., 2:]).clamp(min=smallest)
    centres = centre + rules.position_jitter * spread[..., :2]
    return torch.cat((box[:, None], torch.cat((centres - sizes / 2, sizes), -1)), 1)


def best_box(boxes: Tensor, scores: Tensor, rules: Rules) -> tuple[Tensor, Tensor]:
    """Mean of the best boxes of acceptable shape: boxes [K, P, 4], scores [K, P] -> [K, 4], any found [K]."""
    size = boxes[..., 2:].clamp(min=1)
    boxes = torch.cat((boxes[..., :2], size), -1)
    aspect = size[..., 0] / size[..., 1]
    valid = (aspect < rules.max_aspect) & (aspect > 1 / rules.max_aspect)
    valid &= boxes.isfinite().all(-1) & scores.isfinite()
    ranked, index = scores.masked_fill(~valid, -torch.inf).topk(min(rules.best_boxes, scores.shape[1]))
    used = (ranked > -torch.inf)[..., None]  # [K, best, 1]
    best = boxes.gather(1, index[..., None].expand(-1, -1, 4))
    count = used.sum(1)  # [K, 1]
    return best.where(used, 0).sum(1) / count.clamp(min=1), count[:, 0] > 0


def _softmax(scores: Tensor, extra: float | None) -> Tensor:
    """Softmax of maps [K, S, S] with an additional logit, if there is one."""
    flat = scores.flatten(1)
    normaliser = flat.logsumexp(1, keepdim=True)
    if extra is not None:
        normaliser = torch.logaddexp(normaliser, torch.full_like(normaliser, extra))
    return (flat - normaliser).exp().view_as(scores)


def _highest(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Value [K] and (row, column) [K, 2] of the maximum; ties: the first column, in it the first row."""
    value, index = scores.transpose(-2, -1).flatten(1).max(-1)
    side = scores.shape[-2]
    return value, torch.stack((index % side, index // side), -1).to(scores.dtype)


def _rectangle(peak: Tensor, extent: Tensor, side: int) -> Tensor:
    """True in a rectangle of `extent` cells about `peak`, [K, S, S]."""
    cells = torch.arange(side, device=peak.device)
    low, high = (peak - extent / 2).round(), (peak + extent / 2 + 1).round()  # [K, 2], high exclusive
    inside = (cells >= low[..., None]) & (cells < high[..., None])  # [K, 2, S]
    return inside[:, 0, :, None] & inside[:, 1, None, :]
