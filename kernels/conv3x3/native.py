"""Both transforms in C++ (`csrc/cpu/conv3x3.cpp`) around a batched product, some rows of tiles at a time.

The pieces are small enough for what one stage writes to be in the cache when the next one reads it. The 36
matrices of a piece lie a cache line further apart than they are long, or their rows would evict one another.
"""

import torch
from torch import Tensor

from .._dispatch import native, view

TILE = 4
LINE = 64  # bytes
BYTES, LEAST = 1 << 20, 128  # of the 36 matrices of a piece; tiles of a piece, a matrix product needs rows


def conv3x3(x: Tensor, bias: Tensor, transformed: Tensor) -> Tensor:
    """x [N, C, H, W], bias [K], transformed [36, C, K] -> [N, K, H, W]."""
    x, bias = x.contiguous(memory_format=torch.channels_last), bias.contiguous()
    n, c, h, w = x.shape
    k = len(bias)
    out = torch.empty((n, k, h, w), dtype=x.dtype, memory_format=torch.channels_last)
    across, rows = -(-w // TILE), n * -(-h // TILE)
    piece = max(BYTES // (36 * max(c, k) * x.element_size()), LEAST)  # tiles
    pieces = max(1, round(rows * across / piece))
    most = -(-rows // pieces)  # rows of tiles
    line = LINE // x.element_size()
    tiles, products = (x.new_empty(36 * (most * across * width + line)) for width in (c, k))
    threads = torch.get_num_threads()
    for first in range(0, rows, most):
        count = min(most, rows - first) * across
        inputs = tiles.as_strided((36, count, c), (count * c + line, c, 1))
        sums = products.as_strided((36, count, k), (count * k + line, k, 1))
        native().cpu_conv3x3_input(view(x), first, view(inputs), threads)
        torch.bmm(inputs, transformed, out=sums)
        native().cpu_conv3x3_output(view(sums), view(bias), first, view(out), threads)
    return out
