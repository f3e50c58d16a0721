"""Shapes of `skip_drop` used by its tests and its bench. CHASE: sources with 4, 4, 3, 2 and 1 edges."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Case:
    name: str
    n: int
    channels: int
    height: int
    width: int
    edges: int
    rate: float = 0.6


TESTS = (
    Case("tiny", 2, 8, 5, 7, 3),
    Case("tiny_one", 2, 3, 4, 3, 1, rate=0.0),
    Case("odd", 1, 20, 17, 19, 4, rate=0.25),
)
PAPER = (
    Case("paper_source0", 60, 256, 18, 18, 4),
    Case("paper_source4", 60, 256, 18, 18, 1),
)
DIFFERENTIABLE = ("x",)


def inputs(case: Case, device="cpu", dtype=torch.float32, seed: int = 0) -> dict:
    """Keyword arguments of the op, maps and masks in channels_last memory."""
    rng = torch.Generator().manual_seed(seed)
    shape = case.n, case.channels, case.height, case.width
    x = torch.randn(shape, generator=rng).to(device, dtype)
    keep = [torch.rand(shape, generator=rng).to(device) >= case.rate for _ in range(case.edges)]
    scale = torch.tensor(1 / (1 - case.rate), dtype=torch.float64, device=device)
    layout = {"memory_format": torch.channels_last}
    return {"x": x.contiguous(**layout), "keep": [k.contiguous(**layout) for k in keep], "scale": scale}
