"""Shapes of `keep_mask` used by its tests and its bench. CHASE: 14 edges, 60 frames of 18x18x256."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Case:
    name: str
    sequences: int
    edges: int
    frames: int
    size: tuple[int, int, int]
    groups: int = 1
    rate: float = 0.6


TESTS = (
    Case("tiny", 2, 3, 2, (5, 7, 4)),
    Case("tiny_groups", 4, 2, 2, (3, 3, 5), groups=2),
    Case("odd", 1, 2, 1, (17, 19, 20), rate=0.25),
)
PAPER = (Case("paper", 10, 14, 6, (18, 18, 256)),)
DIFFERENTIABLE = ()


def inputs(case: Case, device="cpu", dtype=torch.float64, seed: int = 0) -> dict:
    """Keyword arguments of the op; the dtype is that of nothing here."""
    rng = torch.Generator().manual_seed(seed)
    seeds = torch.randint(2**63 - 1, (case.sequences,), generator=rng)
    return {
        "seeds": seeds.to(device),
        "rate": torch.tensor(case.rate, dtype=torch.float64, device=device),
        "edges": case.edges,
        "frames": case.frames,
        "size": case.size,
        "groups": case.groups,
    }
