"""Shapes of `target_filter` used by its tests and its bench. Paper sizes: CHASE (1024 channels), PrDiMP."""

from dataclasses import dataclass

import torch

from .._layout import channels_last
from ..kl_loss import label_density


@dataclass(frozen=True)
class Case:
    name: str
    n: int  # frames
    s: int  # sequences
    channels: int
    height: int
    width: int
    k: int
    iterations: int
    channels_last: bool = False  # memory order of the images; a neck's output is channels-last


TESTS = (
    Case("tiny", 2, 2, 3, 5, 4, 4, 2),
    Case("odd", 1, 1, 20, 17, 19, 3, 3),
    Case("one_tap", 2, 3, 5, 6, 5, 1, 2),
    Case("many_taps", 2, 1, 150, 8, 9, 5, 1),  # more than one group of taps, and of channels
    Case("many_frames", 11, 1, 70, 14, 15, 4, 1),
    Case("small_map", 17, 1, 100, 2, 3, 4, 1),  # fewer pixels than lanes, the filter larger
)
PAPER = (
    Case("paper_chase", 3, 10, 1024, 18, 18, 4, 5, channels_last=True),
    Case("paper_chase_nchw", 3, 10, 1024, 18, 18, 4, 5),
    Case("paper_prdimp50", 3, 10, 512, 18, 18, 4, 5, channels_last=True),
    Case("demo", 2, 4, 64, 8, 8, 4, 5, channels_last=True),
    Case("track_first", 13, 1, 1024, 22, 22, 4, 10),
    Case("track_memory", 50, 1, 512, 22, 22, 4, 2),
    Case("track_memory18", 50, 1, 256, 18, 18, 4, 1),
    Case("track_frame", 1, 1, 512, 22, 22, 4, 1),
)


ARGUMENTS = {
    "apply": ("features", "filters"),
    "apply_transpose": ("features", "residual"),
    "solve_prdimp": ("features", "filter", "label_density", "log_step_length", "filter_reg", "sample_weight"),
    "solve_dimp": (
        *("features", "filter", "label", "target_mask", "spatial_weight"),
        *("log_step_length", "filter_reg", "sample_weight"),
    ),
}  # tensors of each function, all differentiable
FUNCTIONS = tuple(ARGUMENTS)  # of the op, each with its own inputs


def inputs(op: str, case: Case, device="cpu", dtype=torch.float32, seed: int = 0) -> dict:
    """Keyword arguments of a function; features are scaled so that a filter window has norm about one."""
    rng = torch.Generator().manual_seed(seed)

    def randn(*shape):
        return torch.randn(*shape, generator=rng, dtype=torch.float64)

    n, s, c, k = case.n, case.s, case.channels, case.k
    size = (case.height + (k + 1) % 2, case.width + (k + 1) % 2)
    centre = torch.rand(n, s, 2, generator=rng, dtype=torch.float64) * torch.tensor(size)
    tensors = {
        "features": randn(n, s, c, case.height, case.width) / (c * k * k) ** 0.5,
        "filter": randn(s, c, k, k),
        "filters": randn(2, s, c, k, k),
        "residual": randn(n, s, *size),
        "label_density": label_density(centre, size, 0.9),
        "label": randn(n, s, *size),
        "target_mask": randn(n, s, *size).sigmoid(),
        "spatial_weight": 1 + 0.1 * randn(n, s, *size),
        "log_step_length": torch.tensor([-0.1], dtype=torch.float64),
        "filter_reg": torch.tensor([0.08], dtype=torch.float64),
        "sample_weight": torch.rand(n, s, generator=rng, dtype=torch.float64) + 0.1,
    }
    solver = {"iterations": case.iterations, "min_filter_reg": 0.05, "alpha_eps": 0.05}
    constants: dict[str, dict[str, float]] = {
        "apply": {},
        "apply_transpose": {"filter_size": k},
        "solve_prdimp": solver | {"softmax_reg": 0.5},
        "solve_dimp": solver,
    }
    found = {name: tensors[name].to(device, dtype) for name in ARGUMENTS[op]} | constants[op]
    if case.channels_last:
        images = channels_last(found["features"].flatten(0, 1))
        found["features"] = images.unflatten(0, (n, s))
    return found
