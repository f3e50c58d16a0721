"""conv_epilogue in Triton: a program per tile of [rows, channels] of the channels_last map."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from .._layout import channels_last

TILE = 2048  # elements of a program
MAX_CHANNELS = 256


@triton.jit
def conv_epilogue_kernel(
    y, bias, residual, out, rows, C,
    RESIDUAL: tl.constexpr, RELU: tl.constexpr, BM: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    r = tl.program_id(0).to(tl.int64) * BM + tl.arange(0, BM)
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    at = r[:, None] * C + c[None, :]  # [BM, BC]
    inside = (r < rows)[:, None] & (c < C)[None, :]
    total = tl.load(y + at, mask=inside, other=0.0).to(tl.float32)
    total += tl.load(bias + c, mask=c < C, other=0.0).to(tl.float32)[None, :]
    if RESIDUAL:
        total += tl.load(residual + at, mask=inside, other=0.0).to(tl.float32)
    if RELU:
        total = tl.where(total < 0, 0.0, total)  # NaN stays
    tl.store(out + at, total.to(out.dtype.element_ty), mask=inside)


def forward(y: Tensor, bias: Tensor, residual: Tensor | None, relu: bool) -> Tensor:
    y = channels_last(y)
    residual = None if residual is None else channels_last(residual)
    out = torch.empty_like(y, memory_format=torch.channels_last)
    channels = y.shape[1]
    rows = y.numel() // max(1, channels)
    if rows and channels:
        wide = min(MAX_CHANNELS, triton.next_power_of_2(channels))
        tall = TILE // wide
        conv_epilogue_kernel[(triton.cdiv(rows, tall), triton.cdiv(channels, wide))](
            y, bias.contiguous(), y if residual is None else residual, out, rows, channels,
            RESIDUAL=residual is not None, RELU=relu, BM=tall, BC=wide,
        )  # fmt: skip
    return out
