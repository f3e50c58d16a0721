"""Training losses of DiMP and PrDiMP. Score maps are [..., rows, columns], box scores [..., proposals].

Sources: Bhat et al. 2019 (DiMP), Danelljan et al. 2020 (PrDiMP); weights of the published training settings.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from chase_fast.kernels.kl_loss import kl_loss


@dataclass(frozen=True)
class LossWeights:
    """Weights of the box term and of the classification by the final, initial and mean middle iterate."""

    box: float
    final: float
    initial: float
    middle: float


PRDIMP_WEIGHTS = LossWeights(box=0.0025, final=0.25, initial=0.25, middle=1.0)
DIMP_WEIGHTS = LossWeights(box=1.0, final=100.0, initial=100.0, middle=400.0)


def kl_grid_loss(scores: torch.Tensor, density: torch.Tensor, grid_scale: float = 1.0) -> torch.Tensor:
    """Mean over frames of the grid KL; the minimum is the mean entropy of `density`, not 0."""
    return kl_loss(scores, density, grid_scale).mean()


def kl_box_loss(
    scores: torch.Tensor, sample_density: torch.Tensor, gt_density: torch.Tensor, eps: float = 0.0
) -> torch.Tensor:
    """Monte-Carlo KL of box scores: mean over frames of logsumexp(s - log q) - log P - mean(s p / q).

    Args:
        scores: s, [..., P] of the proposals.
        sample_density: q, [..., P], density the proposals were drawn from.
        gt_density: p, [..., P].
        eps: added to q.
    """
    q = sample_density + eps
    normaliser = (scores - q.log()).logsumexp(-1) - math.log(scores.shape[-1])
    return (normaliser - (scores * gt_density / q).mean(-1)).mean()


def lb_hinge_loss(
    scores: torch.Tensor, label: torch.Tensor, threshold: float = 0.05, clip: float | None = None
) -> torch.Tensor:
    """LBHinge: mean over all cells of (s - y)^2 where y >= threshold, else max(s, 0)^2; at most `clip`."""
    errors = torch.where(label >= threshold, scores - label, scores.clamp(min=0))
    loss = errors.square().mean()
    return loss if clip is None else loss.clamp(max=clip)


def prdimp_loss(
    scores: Sequence[torch.Tensor],
    density: torch.Tensor,
    box_scores: torch.Tensor | None = None,
    proposal_density: torch.Tensor | None = None,
    gt_density: torch.Tensor | None = None,
    weights: LossWeights = PRDIMP_WEIGHTS,
) -> dict[str, torch.Tensor]:
    """PrDiMP's training loss.

    Args:
        scores: maps [n, s, H', W'] of every filter iterate, the initial one first.
        density: label density [n, s, H', W'].
        box_scores, proposal_density, gt_density: [n, s, P]; without box scores the box term is left out.

    Returns: `total` and its unweighted terms `final`, `initial`, `middle` and, with box scores, `box`.
    """
    iterates = kl_loss(torch.stack(tuple(scores)), density).flatten(1).mean(1)  # [iterates]
    box = None
    if box_scores is not None:
        assert proposal_density is not None and gt_density is not None
        box = kl_box_loss(box_scores, proposal_density, gt_density)
    return _total(iterates, box, weights)


def dimp_loss(
    scores: Sequence[torch.Tensor],
    label: torch.Tensor,
    box_scores: torch.Tensor | None = None,
    box_target: torch.Tensor | None = None,
    weights: LossWeights = DIMP_WEIGHTS,
) -> dict[str, torch.Tensor]:
    """DiMP's training loss.

    Args:
        scores: maps [n, s, H', W'] of every filter iterate, the initial one first.
        label: Gaussian of peak 1, [n, s, H', W'].
        box_scores, box_target: [n, s, P], the target is 2 IoU - 1; without box scores there is no box term.

    Returns: as `prdimp_loss`.
    """
    iterates = torch.stack([lb_hinge_loss(s, label) for s in scores])
    box = None
    if box_scores is not None:
        assert box_target is not None
        box = (box_scores - box_target).square().mean()
    return _total(iterates, box, weights)


def _total(iterates: torch.Tensor, box: torch.Tensor | None, weights: LossWeights) -> dict[str, torch.Tensor]:
    terms = {"final": iterates[-1], "initial": iterates[0]}
    total = weights.final * iterates[-1] + weights.initial * iterates[0]
    if len(iterates) > 2:
        terms["middle"] = iterates[1:-1].mean()
        total = total + weights.middle * terms["middle"]
    if box is not None:
        terms["box"] = box
        total = total + weights.box * box
    return {"total": total, **terms}
