"""Shapes of `conv3x3` used by its tests and its bench. Paper sizes: a tracked frame of PrDiMP-18 and -50;
a batch of the demo's search."""

from dataclasses import dataclass

import torch

from .._layout import channels_last
from . import pack


@dataclass(frozen=True)
class Case:
    name: str
    n: int
    inputs: int
    outputs: int
    height: int
    width: int
    relu: bool


TESTS = (
    Case("tiny", 2, 5, 6, 4, 7, True),
    Case("odd", 1, 20, 20, 17, 19, False),
    Case("wide", 3, 33, 18, 9, 6, True),
    Case("plain", 1, 16, 32, 3, 2, False),
)
PAPER = (
    Case("layer1_18", 1, 64, 64, 72, 72, True),
    Case("layer3_18", 1, 256, 256, 18, 18, True),
    Case("layer2_50", 1, 128, 128, 44, 44, True),
    Case("boxes_layer2_18", 1, 256, 256, 36, 36, True),
    Case("boxes_layer2_50", 1, 512, 256, 44, 44, True),
    Case("classifier_50", 1, 1024, 512, 22, 22, False),
    Case("first_frame_18", 13, 128, 128, 36, 36, True),
    Case("layer1_50", 1, 64, 64, 88, 88, True),
    Case("layer3_50", 1, 256, 256, 22, 22, True),
    Case("demo_layer1", 32, 64, 64, 32, 32, True),
    Case("demo_layer2", 32, 128, 128, 16, 16, True),
    Case("demo_layer3", 32, 256, 256, 8, 8, True),
)
DIFFERENTIABLE = ("x", "weight", "bias", "residual")


def inputs(case: Case, device="cpu", dtype=torch.float32, seed: int = 0) -> dict:
    """Keyword arguments of the op."""
    rng = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=rng, dtype=torch.float64).to(device, dtype)

    size = (case.height, case.width)
    x, residual = normal(case.n, case.inputs, *size), normal(case.n, case.outputs, *size)
    return {
        "x": channels_last(x),
        "weight": normal(case.outputs, case.inputs, 3, 3) / (3 * case.inputs**0.5),
        "bias": normal(case.outputs),
        "residual": channels_last(residual),
        "relu": case.relu,
    }


def once(inputs: dict) -> dict:
    """What the cpu backend reads of fixed weights, made once by a caller."""
    return {"packed": pack(inputs["weight"])}
