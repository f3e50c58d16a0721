"""Shapes of `kl_loss` used by its tests and its bench. Paper size: 6 iterates of 30 test frames."""

from dataclasses import dataclass

import torch

from . import label_density


@dataclass(frozen=True)
class Case:
    name: str
    iterates: int
    frames: int
    height: int
    width: int


TESTS = (
    Case("tiny", 2, 3, 4, 5),
    Case("odd", 1, 1, 17, 19),
)
PAPER = (
    Case("paper", 6, 30, 19, 19),
    Case("demo", 6, 8, 9, 9),
)


DIFFERENTIABLE = ("scores", "density")


def inputs(case: Case, device="cpu", dtype=torch.float32, seed: int = 0) -> dict:
    """Keyword arguments of the op; the iterates share the density of their frame."""
    rng = torch.Generator().manual_seed(seed)
    size = (case.height, case.width)
    scores = torch.randn(case.iterates, case.frames, *size, generator=rng, dtype=torch.float64)
    centre = torch.rand(case.frames, 2, generator=rng, dtype=torch.float64) * torch.tensor(size)
    density = label_density(centre, size, 0.9)
    return {"scores": (3 * scores).to(device, dtype), "density": density.to(device, dtype), "grid_scale": 0.5}
