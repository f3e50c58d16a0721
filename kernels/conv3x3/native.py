"""Winograd F(4x4, 3x3) of csrc/cpu/conv3x3.cpp, and the weights as it reads them."""

import torch
from torch import Tensor

from .._dispatch import native
from .._layout import channels_last

_G = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
_COLUMNS = 32  # outputs of a panel


def packed_shape(outputs: int, inputs: int) -> tuple[int, int, int, int]:
    return -(-outputs // _COLUMNS), len(_G) ** 2, inputs, _COLUMNS


def pack(weight: Tensor) -> Tensor:
    """G w G' in panels of outputs, [D, C, 3, 3] -> [ceil(D / 32), 36, C, 32]; computed in float64."""
    outputs, inputs = weight.shape[:2]
    panels, points, *_ = shape = packed_shape(outputs, inputs)
    g = torch.tensor(_G, dtype=torch.float64, device=weight.device)
    wide = weight.new_zeros(panels * _COLUMNS, inputs, 3, 3, dtype=torch.float64)
    wide[:outputs] = weight
    packed = torch.einsum("ia,dcab,jb->ijcd", g, wide, g).reshape(points, inputs, panels, _COLUMNS)
    return packed.permute(2, 0, 1, 3).to(weight.dtype).contiguous().view(shape)


def forward(x: Tensor, packed: Tensor, bias: Tensor, residual: Tensor | None, relu: bool) -> Tensor:
    x = channels_last(x)
    images, _, height, width = x.shape
    bias = bias.contiguous()
    out = torch.empty(
        (images, bias.shape[0], height, width),
        dtype=x.dtype,
        memory_format=torch.channels_last,
        device=x.device,
    )
    added = bias[:0] if residual is None else channels_last(residual)
    if packed.data_ptr() % 64 or not packed.is_contiguous():
        packed = packed.clone(memory_format=torch.contiguous_format)
    native().cpu_conv3x3(x, packed, bias, added, out, relu, torch.get_num_threads())
    return out
