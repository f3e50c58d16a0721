"""keep_mask in Triton: a program draws 4 BLOCK values of one image of one edge."""

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 512  # quads: 4 bytes of output per thread and word


@triton.jit
def keep_mask_kernel(
    seeds, threshold, keep, frames, sequences, group_size, values, BLOCK: tl.constexpr
):  # fmt: skip
    """grid (blocks of quads, edge x image); values: of an image; threshold: ceil(rate 2^32), int64 [1]."""
    image = tl.program_id(1) % (frames * sequences)
    edge = tl.program_id(1) // (frames * sequences)
    in_group = image % (frames * group_size)
    k = image // (frames * group_size) * group_size + in_group % group_size
    quad = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    frame = edge * frames + in_group // group_size
    zero = quad * 0
    w0, w1, w2, w3 = tl.philox(tl.load(seeds + k), quad, zero + frame, zero, zero)
    bits = tl.interleave(tl.interleave(w0, w2), tl.interleave(w1, w3))  # w0 w1 w2 w3 of every quad
    place = tl.program_id(0) * (4 * BLOCK) + tl.arange(0, 4 * BLOCK)
    first = tl.program_id(1).to(tl.int64) * values
    kept = bits.to(tl.uint32).to(tl.int64) >= tl.load(threshold)  # [4 BLOCK]
    tl.store(keep + first + place, kept.to(tl.int8), mask=place < values)


def keep_mask(seeds: Tensor, rate: Tensor, edges: int, frames: int, size: list[int], groups: int) -> Tensor:
    sequences, values = seeds.shape[0], size[0] * size[1] * size[2]
    threshold = (rate * 2.0**32).ceil().long()
    keep = torch.empty((edges, frames * sequences, *size), dtype=torch.bool, device=seeds.device)
    grid = (triton.cdiv(values, 4 * BLOCK), edges * frames * sequences)
    keep_mask_kernel[grid](
        seeds.contiguous(), threshold, keep.view(torch.int8), frames, sequences, sequences // groups, values,
        BLOCK=BLOCK,
    )  # fmt: skip
    return keep
