"""Shapes of `pooled_linear` used by its tests. Paper sizes: the two maps of PrDiMP-50's box regressor."""

from dataclasses import dataclass

import torch

# px of a map of 17 x 19 cells of 8 px: inside, overhanging on all sides, without area, inverted, outside,
# smaller than a cell
BOXES = (
    (10.0, 12.0, 90.0, 70.0),
    (-30.0, -20.0, 200.0, 160.0),
    (40.0, 40.0, 40.0, 80.0),
    (60.0, 20.0, 30.0, 80.0),
    (500.0, 500.0, 600.0, 620.0),
    (33.3, 20.1, 39.0, 26.5),
)


@dataclass(frozen=True)
class Case:
    name: str
    bins: int
    channels: int = 20
    outputs: int = 33
    height: int = 17
    width: int = 19
    scale: float = 1 / 8


TESTS = (Case("tiny", 2, 3, 4), Case("one_bin", 1), Case("three_bins", 3), Case("odd", 5))
PAPER = (Case("track_layer2", 5, 256, 256, 44, 44), Case("track_layer3", 3, 256, 256, 22, 22, 1 / 16))
DIFFERENTIABLE = ("rois",)


def inputs(case: Case, device="cpu", dtype=torch.float32, seed: int = 0) -> dict:
    """features, weight and scale of a `PooledLinear`, and the boxes it is asked for."""
    rng = torch.Generator().manual_seed(seed)
    features = torch.randn(case.channels, case.height, case.width, generator=rng, dtype=torch.float64)
    weight = torch.randn(case.bins**2, case.channels, case.outputs, generator=rng, dtype=torch.float64)
    rois = torch.nn.functional.pad(torch.tensor(BOXES, dtype=torch.float64), (1, 0))
    features, weight, rois = (t.to(device, dtype) for t in (features, weight, rois))
    return {"features": features, "weight": weight, "rois": rois, "scale": case.scale}
