"""Score map -> where the target is and how sure that is: peaks, rivals, hard negatives. K targets at once.

Everything is a tensor operation without a data-dependent branch: nothing waits for the device.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from chase_fast.track.settings import STRIDE, TrackSettings

STATES = ("tracked", "uncertain", "hard_negative", "lost")  # index = code
TRACKED, UNCERTAIN, HARD_NEGATIVE, LOST = range(4)


@dataclass(frozen=True)
class Geometry:
    """Targets and search windows of one frame in frame pixels, (row, column): positions [K, 2], sizes [K, 2]
    (h, w), window centres [K, 2], frame px per patch px [K, 1], frame sizes [K, 2] (h, w)."""

    position: Tensor
    size: Tensor
    window: Tensor
    scale: Tensor
    frame: Tensor


def localize(scores: Tensor, geometry: Geometry, settings: TrackSettings) -> tuple[Tensor, Tensor, Tensor]:
    """Compares the two highest peaks.

    scores: [K, S, S], after the softmax where the settings ask for it. A map with NaN is lost.

    Returns:
        movement [K, 2] from the window's centre to the peak chosen, frame px (row, column);
        state [K], code; highest score [K].
    """
    side = scores.shape[-1]
    cell = STRIDE * geometry.scale  # frame px per cell, [K, 1]
    first, peak = _highest(scores)
    extent = settings.neighbourhood * geometry.size / cell  # cells, [K, 2]
    second, other = _highest(scores.masked_fill(_rectangle(peak, extent, side), 0))
    middle = (side - 1) / 2
    move, other_move = peak - middle, other - middle  # cells
    before = (geometry.position - geometry.window) / cell
    far = settings.displacement * side / 2
    distance, other_distance = (torch.linalg.vector_norm(m - before, dim=-1) for m in (move, other_move))

    rival = second > settings.distractor_above * first
    first_is_it = (other_distance > far) & (distance < far)
    second_is_it = (other_distance < far) & (distance > far)
    similar = (second > settings.hard_negative_above * first) & (second > settings.lost_below)
    negative = torch.where(rival, first_is_it | second_is_it, similar)
    state = torch.where(negative, HARD_NEGATIVE, torch.where(rival, UNCERTAIN, TRACKED))
    state = torch.where(first >= settings.lost_below, state, LOST)  # NaN compares false: lost
    move = torch.where((rival & second_is_it)[:, None], other_move, move)
    return move * cell, state, first


def clipped(position: Tensor, geometry: Geometry, settings: TrackSettings) -> Tensor:
    """Positions [K, 2] kept so near the frame that a share `inside_ratio` of the target is inside."""
    outside = (settings.inside_ratio - 0.5) * geometry.size
    return torch.maximum(torch.minimum(position, geometry.frame - outside), outside)


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
