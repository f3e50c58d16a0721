"""Shapes of `sep_conv` for its tests and its bench. CHASE: C = 256, 18 x 18; tracking: 22 x 22, one frame."""

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
    kernel: int = 3
    dilation: int = 1
    stride: int = 1
    out_channels: int | None = None
    flavour: str = "chase"
    groups: int = 1
    training: bool = True


TESTS = (
    Case("tiny", 4, 4, 5, 6, groups=2),
    Case("tiny_darts", 4, 4, 5, 6, kernel=5, dilation=2, flavour="darts", groups=2),
    Case("tiny_eval", 2, 4, 5, 6, training=False, groups=2),
    Case("tiny_stride", 2, 4, 6, 5, kernel=5, stride=2, out_channels=6, flavour="darts"),
    Case("odd", 1, 20, 17, 19, kernel=5, dilation=2),
    Case("odd_eval", 1, 20, 17, 19, kernel=5, flavour="darts", training=False),
)
PAPER = (
    Case("paper_sep5", 60, 256, 18, 18, kernel=5, groups=2),
    Case("paper_dil5", 60, 256, 18, 18, kernel=5, dilation=2, groups=2),
    Case("track_sep5", 1, 256, 22, 22, kernel=5, training=False),
)
# |y| below this may be on either side of the leaky ReLU after rounding in float32: no gradient in the bench
KINK = 1e-5
DIFFERENTIABLE = ("x", "depthwise", "pointwise", "gamma", "beta")


def inputs(case: Case, device="cpu", dtype=torch.float32, seed: int = 0) -> dict:
    """Keyword arguments of the op; x is channels_last, weights are float32 with bfloat16 maps."""
    rng = torch.Generator().manual_seed(seed)

    def randn(*shape):
        return torch.randn(*shape, generator=rng, dtype=torch.float64)

    def tensor(t):
        return t.to(device, torch.float32 if dtype == torch.bfloat16 else dtype)

    c, d = case.channels, case.out_channels or case.channels
    x = randn(case.n, c, case.height, case.width)
    return {
        "x": channels_last(x.to(device, dtype)),
        "depthwise": tensor(randn(c, case.kernel, case.kernel) / case.kernel),
        "pointwise": tensor(randn(d, c) / c**0.5),
        "gamma": tensor(1 + 0.3 * randn(d)),
        "beta": tensor(0.3 * randn(d)),
        "mean": tensor(0.3 * randn(d)),
        "var": tensor(randn(d).square() + 0.5),
        "stride": case.stride,
        "dilation": case.dilation,
        "flavour": case.flavour,
        "groups": case.groups,
        "training": case.training,
    }
