"""Shapes of `prroi_pool` used by its tests and its bench. Paper sizes: box regressor of PrDiMP at 288 px."""

from dataclasses import dataclass

import torch

from .._layout import channels_last


@dataclass(frozen=True)
class Case:
    name: str
    n: int
    channels: int
    height: int
    width: int
    boxes: int  # per image
    output_size: tuple[int, int]
    scale: float


TESTS = (
    Case("tiny", 2, 6, 5, 4, 2, (2, 2), 1 / 8),
    Case("odd", 1, 20, 17, 19, 9, (4, 4), 1 / 16),
    Case("one_bin", 2, 70, 5, 6, 3, (1, 1), 1 / 16),
)
PAPER = (
    Case("paper_layer2", 30, 256, 36, 36, 128, (5, 5), 1 / 8),
    Case("paper_layer3", 30, 256, 18, 18, 128, (3, 3), 1 / 16),
    Case("paper_filter", 30, 1024, 18, 18, 1, (4, 4), 1 / 16),
    Case("track_layer2", 1, 256, 44, 44, 10, (5, 5), 1 / 8),
    Case("track_layer3", 1, 256, 22, 22, 10, (3, 3), 1 / 16),
)
DIFFERENTIABLE = ("features", "rois")


def inputs(case: Case, device="cpu", dtype=torch.float32, seed: int = 0) -> dict:
    """Keyword arguments of the op. Per image: a box around the whole image, an inverted one, one far
    outside, and at least one random one that may overhang the border; images come in mixed order."""
    rng = torch.Generator().manual_seed(seed)
    width, height = case.width / case.scale, case.height / case.scale
    size = torch.tensor([width, height, width, height], dtype=torch.float64)
    boxes = torch.rand(case.n, case.boxes, 4, generator=rng, dtype=torch.float64)
    boxes[..., :2] = 1.1 * boxes[..., :2] - 0.2  # corner, then size, as shares of the image
    boxes[..., 2:] = boxes[..., :2] + 0.05 + 0.6 * boxes[..., 2:]
    special = torch.tensor(
        [[-0.31, -0.22, 1.27, 1.45], [0.6, 0.2, 0.4, 0.7], [1.5, 1.6, 2.0, 2.1]], dtype=torch.float64
    )
    kept = min(len(special), case.boxes - 1)
    boxes[:, :kept] = special[:kept]
    index = torch.arange(case.n, dtype=torch.float64)[:, None, None].expand(-1, case.boxes, 1)
    rois = torch.cat([index, boxes * size], -1).transpose(0, 1).reshape(-1, 5)
    features = torch.randn(case.n, case.channels, case.height, case.width, generator=rng, dtype=torch.float64)
    box_dtype = torch.float64 if dtype == torch.float64 else torch.float32
    return {
        "features": channels_last(features.to(device, dtype)),
        "rois": rois.to(device, box_dtype),
        "output_size": case.output_size,
        "scale": case.scale,
    }
