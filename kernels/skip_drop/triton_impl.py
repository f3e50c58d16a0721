"""skip_drop in Triton: a program holds BLOCK values of the flat map; its loop over the edges is unrolled."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from .._layout import channels_last

BLOCK = 1024


@triton.jit
def skip_drop_kernel(x, keeps, ys, scale, size, EDGES: tl.constexpr, WIDE: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(x + at, mask=at < size).to(WIDE)  # [BLOCK]
    factor = tl.load(scale).to(WIDE)
    for e in tl.static_range(EDGES):
        kept = tl.load(keeps[e] + at, mask=at < size).to(WIDE)
        tl.store(ys[e] + at, (value * kept * factor).to(ys[e].dtype.element_ty), mask=at < size)


@triton.jit
def skip_drop_backward_kernel(
    gs, keeps, dx, scale, size, EDGES: tl.constexpr, WIDE: tl.constexpr, BLOCK: tl.constexpr
):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    factor = tl.load(scale).to(WIDE)
    total = tl.zeros((BLOCK,), WIDE)
    for e in tl.static_range(EDGES):
        kept = tl.load(keeps[e] + at, mask=at < size).to(WIDE)
        total += tl.load(gs[e] + at, mask=at < size).to(WIDE) * factor * kept
    tl.store(dx + at, total.to(dx.dtype.element_ty), mask=at < size)


def _bytes(keep: list[Tensor]) -> tuple[Tensor, ...]:
    return tuple(channels_last(k).view(torch.int8) for k in keep)


def _options(t: Tensor, edges: int) -> dict:
    wide = tl.float64 if t.dtype == torch.float64 else tl.float32
    return {"EDGES": edges, "WIDE": wide, "BLOCK": BLOCK}


def forward(x: Tensor, keep: list[Tensor], scale: Tensor) -> list[Tensor]:
    x = channels_last(x)
    ys = [torch.empty_like(x, memory_format=torch.channels_last) for _ in keep]
    grid = (triton.cdiv(x.numel(), BLOCK),)
    skip_drop_kernel[grid](x, _bytes(keep), tuple(ys), scale, x.numel(), **_options(x, len(ys)))
    return ys


def backward(grads: list[Tensor], keep: list[Tensor], scale: Tensor) -> Tensor:
    gs = tuple(channels_last(g) for g in grads)
    dx = torch.empty_like(gs[0], memory_format=torch.channels_last)
    grid = (triton.cdiv(dx.numel(), BLOCK),)
    skip_drop_backward_kernel[grid](gs, _bytes(keep), dx, scale, dx.numel(), **_options(dx, len(gs)))
    return dx
