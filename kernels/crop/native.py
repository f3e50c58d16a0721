"""Allocates the output, calls csrc/cpu/crop.cpp: one thread, without the GIL."""

from collections.abc import Sequence

import torch

from .._dispatch import native


def crop_into(
    out: torch.Tensor,
    frame: torch.Tensor,
    window: Sequence[float],
    gain: float,
    mean: Sequence[float],
    std: Sequence[float],
) -> None:
    """Writes the crop into `out` [size, size, 3], contiguous; frame as in the contract, on the CPU."""
    if frame.stride(2) != 1 or frame.stride(1) != 3:
        frame = frame.contiguous()
    native().cpu_crop(frame, list(window), gain, list(mean), list(std), out)


def crop(
    frame: torch.Tensor,
    window: Sequence[float],
    size: int,
    gain: float,
    mean: Sequence[float],
    std: Sequence[float],
) -> torch.Tensor:
    dtype = torch.float32 if frame.dtype == torch.uint8 else frame.dtype
    out = torch.empty((size, size, 3), dtype=dtype)
    crop_into(out, frame, window, gain, mean, std)
    return out.permute(2, 0, 1)
