"""Shapes of `localize` used by its tests and its bench. Paper sizes: a tracked frame of PrDiMP-50 and -18."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Constants:
    """`Rules`: those published with PrDiMP-50."""

    image_size: int = 352
    softmax: bool = True
    lost_below: float = 0.04
    distractor_above: float = 0.8
    hard_negative_above: float = 0.5
    neighbourhood: float = 2.2
    displacement: float = 0.8
    inside_ratio: float = 0.2
    position_jitter: float = 0.1
    size_jitter: float = 0.5
    best_boxes: int = 3
    max_aspect: float = 6.0
    half_pixel_offset: bool = True


PRDIMP = Constants()
DIMP = Constants(image_size=288, softmax=False, lost_below=0.25, half_pixel_offset=False)


@dataclass(frozen=True)
class Case:
    name: str
    k: int
    side: int
    boxes: int  # random ones
    rules: Constants
    extra: float | None


TESTS = (
    Case("tiny", 12, 7, 5, PRDIMP, None),
    Case("tiny_extra", 5, 8, 9, PRDIMP, 1.5),
    Case("tiny_dimp", 12, 7, 2, DIMP, None),
    Case("tiny_one", 1, 18, 0, PRDIMP, None),
    Case("odd", 30, 23, 9, DIMP, None),
)
PAPER = (Case("track_50", 1, 23, 9, PRDIMP, None), Case("track_18", 1, 19, 9, PRDIMP, None))
FUNCTIONS = ("start", "outcome")
ARGUMENTS = {"start": (), "outcome": ()}  # nothing is differentiable
STRIDE = 16


def inputs(function: str, case: Case, device="cpu", dtype=torch.float32, seed: int = 0) -> dict:
    """Keyword arguments of a function. start: score maps with two peaks of random height and place. outcome:
    boxes of which some are too small or too long."""
    rng = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float, *shape: int) -> torch.Tensor:
        return low + (high - low) * torch.rand(shape, generator=rng, dtype=torch.float64)

    k, side = case.k, case.side
    position, size = uniform(-20, 400, k, 2), uniform(20, 120, k, 2)
    window, scale = position + uniform(-30, 30, k, 2), uniform(0.5, 3, k, 1)
    frame = torch.tensor([[360.0, 380.0]], dtype=torch.float64).expand(k, 2)
    geometry = torch.cat((position, size, window, scale, frame), 1)
    if function == "start":
        scores, height = uniform(0, 0.05, k, side * side), uniform(0.1, 1, k, 2)
        scores.scatter_(1, torch.randint(side * side, (k, 2), generator=rng), height)
        scores = scores.view(k, side, side) * (12 if case.rules.softmax else 1)
        tensors = {"scores": scores, "geometry": geometry, "noise": uniform(0, 1, k, case.boxes, 4)}
        rest = {"rules": case.rules, "stride": STRIDE, "extra": case.extra}
    else:
        boxes = uniform(30, 90, k, 1 + case.boxes, 4)
        boxes[0, -1, 2:] = 0.2  # clamped to one pixel
        boxes[k // 2, -1, 3] = 1e4
        boxes[k // 3, 0, 2] = 1e4  # shapes that are not acceptable
        state = torch.randint(4, (k, 1), generator=rng).double()
        found = torch.cat((position + uniform(-9, 9, k, 2), state, uniform(0, 1, k, 1)), 1)
        scores = torch.randn(k, 1 + case.boxes, generator=rng, dtype=torch.float64)
        tensors = {"boxes": boxes, "scores": scores, "found": found, "geometry": geometry}
        rest = {"rules": case.rules}
    return {name: t.to(device, dtype) for name, t in tensors.items()} | rest
