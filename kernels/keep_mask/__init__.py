"""Dropout masks from counters: every value is a function of a seed and of its own place, drawn on the device.

    keep[e, n, y, x, c] = bits(seed, e F + i, (y W + x) C + c) >= rate 2^32

Images are ordered by group, then by frame, then by sequence: with S / G = s sequences in each of G groups,
frame i of F of sequence k is image n = (k // s) F s + i s + k % s, and a sequence has the same masks in
whichever group it is. bits(seed, frame, place) is word place % 4 of Philox4x32-10 with key (low, high half of
the seed) and counter (place // 4, frame, 0, 0), a 32-bit unsigned number. All is integer arithmetic, and
rate 2^32 is exact in float64: the backends agree bit for bit.
Source: Salmon et al., Parallel Random Numbers: As Easy as 1, 2, 3 (2011).

The rate and the seeds are read on the device, so a captured step may change them.
"""

import torch
from torch import Tensor

from chase_fast.lazy import front_door

from .. import _dispatch
from .._autograd import forward_only
from . import reference

front_door(__name__, call="keep_mask")
CAN_RUN = {
    "reference": _dispatch.always,
    "triton": _dispatch.triton(torch.int64),
}


def keep_mask(
    seeds: Tensor,
    rate: Tensor,
    edges: int,
    frames: int,
    size: tuple[int, int, int],
    groups: int = 1,
    backend: str | None = None,
) -> Tensor:
    """Which values dropout keeps.

    Args:
        seeds: int64 [S], one per sequence.
        rate: float64 [], the probability to drop, in [0, 1]; 0 keeps all. Not checked: it stays there.
        edges: E.
        frames: F, per sequence.
        size: (H, W, C) of a map.
        groups: G, divides S.
        backend: force `reference | triton`.

    Returns:
        bool [E, F S, H, W, C], True where the value is kept. Not differentiable.

    Raises:
        ValueError: wrong shape, dtype or device.
        RuntimeError: the forced backend cannot run (why is in the text).
    """
    if seeds.dim() != 1 or seeds.dtype != torch.int64:
        raise ValueError(f"keep_mask: seeds must be int64 [S], not {seeds.dtype} {list(seeds.shape)}")
    if rate.dim() or rate.dtype != torch.float64 or rate.device != seeds.device:
        raise ValueError(
            f"keep_mask: rate must be float64 [] on {seeds.device}, not {rate.dtype} {list(rate.shape)} on "
            f"{rate.device}"
        )
    if min(edges, frames, groups, len(seeds), *size) < 1 or len(seeds) % groups:
        raise ValueError(
            f"keep_mask: {edges} edges, {frames} frames, size {tuple(size)} must be positive, and {groups} "
            f"groups must divide {len(seeds)} sequences"
        )
    backend = _dispatch.resolve("keep_mask", CAN_RUN, seeds, backend)
    run = reference.keep_mask if backend == "reference" else _forced(backend)
    return run(seeds, rate, edges, frames, list(size), groups)


def _forced(backend: str):
    return lambda *arguments: _keep_mask(*arguments, backend)


@torch.library.custom_op("chase_fast::keep_mask", mutates_args=())
def _keep_mask(
    seeds: Tensor, rate: Tensor, edges: int, frames: int, size: list[int], groups: int, backend: str
) -> Tensor:
    arguments = (seeds, rate, edges, frames, size, groups)
    if backend == "reference":
        return reference.keep_mask(*arguments)
    return _dispatch.implementation("keep_mask", backend).keep_mask(*arguments)


@_keep_mask.register_fake
def _(seeds, rate, edges, frames, size, groups, backend):
    return seeds.new_empty((edges, frames * seeds.shape[0], *size), dtype=torch.bool)


forward_only(_keep_mask)
