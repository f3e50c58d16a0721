"""Winograd F(4x4, 3x3): transforms of csrc/cpu/conv3x3.cpp, and one batch of matrix products between them."""

import threading

import torch
from torch import Tensor

from .._dispatch import native

_OUT = 4  # pixels per tile and axis
_CHUNK = 4 << 20  # values of a transformed map at a time: what fits a cache beside the weights
_G = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)


def pack(weight: Tensor) -> Tensor:
    """G w G', [D, C, 3, 3] -> [36, C, D]; computed in float64."""
    g = torch.tensor(_G, dtype=torch.float64, device=weight.device)
    packed = torch.einsum("ia,dcab,jb->ijcd", g, weight.double(), g).flatten(0, 1)
    return packed.to(weight.dtype).contiguous()


_kept = threading.local()


def _scratch(name: str, shape: tuple[int, int, int], like: Tensor) -> Tensor:
    """Uninitialised, kept by this thread between calls: fresh memory costs a page fault per 4 KiB. At most
    _CHUNK values are kept."""
    count = shape[0] * shape[1] * shape[2]
    buffer = getattr(_kept, name, None)
    if buffer is None or buffer.dtype != like.dtype or buffer.numel() < count:
        with torch.inference_mode(False):  # else later calls outside that mode could not write into it
            buffer = torch.empty(count, dtype=like.dtype)
        if count <= _CHUNK:
            setattr(_kept, name, buffer)
    return buffer[:count].view(shape)


def forward(x: Tensor, packed: Tensor, bias: Tensor, residual: Tensor | None, relu: bool) -> Tensor:
    x = x.contiguous(memory_format=torch.channels_last)
    images, channels, height, width = x.shape
    points, _, outputs = packed.shape
    out = torch.empty(
        (images, outputs, height, width), dtype=x.dtype, memory_format=torch.channels_last, device=x.device
    )
    if residual is not None:
        residual = residual.contiguous(memory_format=torch.channels_last)
    bias, threads = bias.contiguous(), torch.get_num_threads()
    tiles = -(-height // _OUT) * -(-width // _OUT)
    step = max(1, _CHUNK // (points * tiles * max(channels, outputs)))  # images at a time
    for i in range(0, images, step):
        part, into = x[i : i + step], out[i : i + step]
        rows = tiles * part.shape[0]
        transformed = _scratch("input", (points, rows, channels), x)
        native().cpu_conv3x3_input(part, transformed, threads)
        product = _scratch("output", (points, rows, outputs), x)
        torch.bmm(transformed, packed, out=product)
        added = bias[:0] if residual is None else residual[i : i + step]
        native().cpu_conv3x3_output(product, bias, added, into, relu, threads)
    return out
