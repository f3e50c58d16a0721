"""Shapes of `conv_epilogue` used by its tests and its bench. Paper sizes: a tracked frame of PrDiMP-50."""

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
    relu: bool


TESTS = (
    Case("tiny", 2, 20, 5, 7, True),
    Case("tiny_linear", 2, 3, 4, 3, False),
    Case("odd", 1, 20, 17, 19, True),
    Case("wide", 1, 300, 3, 4, True),  # more channels than a tile has
)
PAPER = (
    Case("conv1_50", 1, 64, 176, 176, True),
    Case("layer1_50", 1, 256, 88, 88, True),
    Case("layer3_50", 1, 1024, 22, 22, True),
    Case("first_frame_18", 13, 128, 36, 36, True),
)
DIFFERENTIABLE = ("y", "bias", "residual")


def inputs(case: Case, device="cpu", dtype=torch.float32, seed: int = 0) -> dict:
    """Keyword arguments of the op, maps in channels_last memory."""
    rng = torch.Generator().manual_seed(seed)
    shape = case.n, case.channels, case.height, case.width

    y, bias, residual = (
        torch.randn(s, generator=rng, dtype=torch.float64) for s in (shape, shape[1:2], shape)
    )
    y = y + 0.1 * (y + bias.view(-1, 1, 1) + residual).sign()  # off the ReLU's kink, where rounding decides
    y, bias, residual = (t.to(device, dtype) for t in (y, bias, residual))
    return {"y": channels_last(y), "bias": bias, "residual": channels_last(residual), "relu": case.relu}
