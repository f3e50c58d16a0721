"""Shapes of `box_ascent` used by its tests and its bench. Paper sizes: a frame of PrDiMP-50 and -18."""

from dataclasses import dataclass

import torch

from .._layout import channels_last
from . import BINS, pack

SCALES = (1 / 8, 1 / 16)


@dataclass(frozen=True)
class Case:
    name: str
    k: int
    boxes: int  # per image
    channels: int
    hidden: int
    low: tuple[int, int]  # height, width of the maps
    high: tuple[int, int]
    relative: bool
    steps: tuple[tuple[float, float], ...]  # a, b


TESTS = (
    Case("tiny", 1, 1, 4, 3, (10, 11), (5, 6), True, ((2e-3, 3e-3),)),
    Case("two_boxes", 1, 2, 6, 5, (12, 14), (6, 8), True, ((2e-3, 3e-3), (1e-3, 2e-3))),
    Case("two_images", 2, 1, 6, 5, (12, 14), (6, 8), False, ((1e-2, 2e-2), (2e-2, 1e-2))),
    Case("odd", 1, 9, 20, 17, (17, 19), (9, 10), False, ((1e-3, 1e-3),)),
)
PAPER = (
    Case("track_50", 1, 10, 256, 256, (44, 44), (22, 22), True, ((2.5e-3, 2.5e-3),) * 10),
    Case("track_18", 1, 10, 256, 256, (36, 36), (18, 18), True, ((2.5e-3, 2.5e-3),) * 10),
)
DIFFERENTIABLE = ()


def inputs(case: Case, device="cpu", dtype=torch.float32, seed: int = 0) -> dict:
    """Keyword arguments of the op; boxes of about a third of the map, one overhangs."""
    rng = torch.Generator().manual_seed(seed + case.k + case.boxes)
    channels, hidden = case.channels, case.hidden

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=rng, dtype=torch.float64).to(device, dtype)

    maps = [channels_last(random(case.k, channels, *size)) for size in (case.low, case.high)]
    modulation = [random(case.k, channels, 1, 1) for _ in range(2)]
    layers = tuple((random(hidden, channels * n * n) / 3, random(hidden) / 3) for n in BINS)
    head = pack(layers, (random(hidden), random(hidden)), random(1))
    boxes = torch.rand(case.k, case.boxes, 4, generator=rng, dtype=torch.float64) * 30
    boxes = boxes + torch.tensor([10.0, 12, 25, 20])
    boxes[0, -1, 0] = -20
    to_position, to_size = map(list, zip(*case.steps))
    return {
        "maps": maps,
        "modulation": modulation,
        "head": head,
        "boxes": boxes.to(device, dtype),
        "scales": list(SCALES),
        "to_position": to_position,
        "to_size": to_size,
        "relative": case.relative,
    }
