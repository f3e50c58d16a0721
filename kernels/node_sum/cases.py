"""Shapes of `node_sum` used by its tests and its bench. A CHASE node has 2 to 5 edges of 7 branches."""

from dataclasses import dataclass

import torch

from .._layout import channels_last
from .reference import IDENTITY, NORM, NORM_LRELU


@dataclass(frozen=True)
class Case:
    name: str
    n: int
    channels: int
    height: int
    width: int
    kinds: tuple[int, ...]
    groups: int = 1
    training: bool = True


POOLS_AND_SKIP = (NORM, NORM, IDENTITY)
CHASE_EDGE = (*POOLS_AND_SKIP, *[NORM_LRELU] * 4)
DARTS_EDGE = (*POOLS_AND_SKIP, *[NORM] * 4)

TESTS = (
    Case("tiny", 2, 8, 5, 7, (NORM, IDENTITY, NORM_LRELU), groups=2),
    Case("tiny_eval", 2, 8, 5, 6, (NORM, IDENTITY, NORM_LRELU), training=False),
    Case("edge", 4, 8, 5, 6, CHASE_EDGE, groups=2),
    Case("edge_darts", 6, 8, 5, 6, DARTS_EDGE, groups=3),
    Case("odd", 1, 20, 17, 19, (*CHASE_EDGE, NORM_LRELU)),
    Case("odd_eval", 1, 20, 17, 19, (*DARTS_EDGE, NORM_LRELU), training=False),
    Case("identity_only", 2, 3, 4, 3, (IDENTITY,)),
)
PAPER = (
    Case("paper_node2", 60, 256, 18, 18, CHASE_EDGE * 2, groups=2),
    Case("paper_node5", 60, 256, 18, 18, CHASE_EDGE * 5, groups=2),
    Case("paper_node2_darts", 60, 256, 18, 18, DARTS_EDGE * 2, groups=2),
    Case("paper_eval", 30, 256, 18, 18, CHASE_EDGE * 2, training=False),
    Case("track_node2", 1, 256, 22, 22, CHASE_EDGE * 2, training=False),
)
DIFFERENTIABLE = ("branches", "weights", "gamma", "beta")


def inputs(case: Case, device="cpu", dtype=torch.float32, seed: int = 0) -> dict:
    """Keyword arguments of the op. Branches are channels_last, with means and scales far from 0 and 1.

    No element lies within 1e-3 of the kink of its leaky ReLU, where rounding would decide on the derivative.
    """
    rng = torch.Generator().manual_seed(seed)
    parameter_dtype = torch.float64 if dtype == torch.float64 else torch.float32
    c, kinds = case.channels, list(case.kinds)

    def randn(*shape):
        return torch.randn(*shape, generator=rng, dtype=torch.float64)

    def parameter(t):
        return t.to(device, parameter_dtype)

    affine = torch.tensor([float(k == NORM_LRELU) for k in kinds])[:, None]  # not after a pool
    sizes = 1 + affine * (0.6 * torch.rand(len(kinds), c, generator=rng, dtype=torch.float64) - 0.3)
    gamma = torch.where((affine > 0) & (randn(len(kinds), c) > 1), -sizes, sizes)
    beta = 0.3 * affine * randn(len(kinds), c)
    mean, var = randn(len(kinds), c), randn(len(kinds), c).square() + 0.5
    branches = []
    for b, kind in enumerate(kinds):
        noise = torch.randn(case.n, c, case.height, case.width, generator=rng)
        y = randn(1, c, 1, 1) * 2 + (randn(1, c, 1, 1).abs() + 0.5) * noise
        if kind == NORM_LRELU:
            y = _off_the_kink(y, gamma[b], beta[b], None if case.training else (mean[b], var[b]), case.groups)
        branches.append(channels_last(y.to(device, dtype)))
    return {
        "branches": branches,
        "weights": parameter(torch.softmax(randn(len(kinds)), 0)),
        "gamma": parameter(gamma),
        "beta": parameter(beta),
        "mean": parameter(mean),
        "var": parameter(var),
        "kinds": kinds,
        "groups": case.groups,
        "training": case.training,
    }


def _off_the_kink(y, gamma, beta, running, groups: int, distance: float = 1e-3):
    """y [N, C, H, W] with every |gamma yhat + beta| >= distance."""
    parts = []
    for part in y.chunk(groups):
        mean, var = running or (part.mean((0, 2, 3)), part.var((0, 2, 3), correction=0))
        scale = (gamma / (var + 1e-5).sqrt())[:, None, None]
        z = (part - mean[:, None, None]) * scale + beta[:, None, None]
        move = torch.where(z < 0, -distance, distance) - z
        parts.append(part + torch.where(z.abs() < distance, move / scale, 0.0))
    return torch.cat(parts)
