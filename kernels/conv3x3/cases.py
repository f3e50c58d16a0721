"""Shapes of `conv3x3` used by its tests and its bench: ResNet-18 on the demo's crops, ResNet-50 at 288 px."""

from dataclasses import dataclass

import torch

from . import transform


@dataclass(frozen=True)
class Case:
    name: str
    frames: int
    channels: int
    outputs: int
    height: int
    width: int


TESTS = (
    Case("tiny", 2, 3, 5, 4, 5),
    Case("odd", 1, 20, 17, 17, 19),
)
PAPER = (
    Case("demo_layer1", 10, 64, 64, 32, 32),
    Case("demo_layer2", 10, 128, 128, 16, 16),
    Case("demo_layer3", 10, 256, 256, 8, 8),
    Case("paper_layer1", 10, 64, 64, 72, 72),
    Case("paper_layer2", 10, 128, 128, 36, 36),
    Case("paper_layer3", 10, 256, 256, 18, 18),
    Case("track_layer1", 1, 64, 64, 72, 72),
    Case("track_layer2", 1, 128, 128, 36, 36),
    Case("track_layer3", 1, 256, 256, 18, 18),
)

DIFFERENTIABLE = ("x", "weight", "bias")


def inputs(case: Case, device="cpu", dtype=torch.float32, seed: int = 0) -> dict:
    """Keyword arguments of the op."""
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(case.frames, case.channels, case.height, case.width, generator=rng)
    weight = torch.randn(case.outputs, case.channels, 3, 3, generator=rng) / (9 * case.channels) ** 0.5
    bias = torch.randn(case.outputs, generator=rng)
    x = x.to(device, dtype).contiguous(memory_format=torch.channels_last)
    weight = weight.to(device, dtype)
    return {"x": x, "weight": weight, "bias": bias.to(device, dtype), "transformed": transform(weight)}
