"""Definition of `prroi_pool` in plain torch: two small matrix products per box; gradients are autograd's."""

import torch
from torch import Tensor


def hat_integral(u: Tensor) -> Tensor:
    """H(u), the integral of hat(t) = max(0, 1 - |t|) from minus infinity to u."""
    v = u.clamp(-1, 1)
    return 0.5 + v - 0.5 * v * v.abs()


def axis_weights(start: Tensor, size: Tensor, bins: int, cells: int) -> Tensor:
    """Integral of every cell's hat over every bin of an axis.

    Args:
        start, size: [R] begin and length of each box on this axis, in feature cells.

    Returns:
        [R, bins, cells]
    """
    fractions = torch.arange(bins + 1, dtype=start.dtype, device=start.device) / bins
    edges = start[:, None] + size[:, None] * fractions  # [R, bins + 1]
    centres = torch.arange(cells, dtype=start.dtype, device=start.device)
    return hat_integral(edges[:, :, None] - centres).diff(dim=1)


def prroi_pool(features: Tensor, rois: Tensor, output_size: tuple[int, int], scale: float) -> Tensor:
    """Shapes and meaning: `chase_fast.kernels.prroi_pool`. Computes in the dtype of `rois`."""
    rows, columns = output_size
    height, width = features.shape[2:]
    x0, y0, x1, y1 = (rois[:, 1:] * scale).unbind(1)
    box_width, box_height = (x1 - x0).clamp(min=0), (y1 - y0).clamp(min=0)
    area = box_width * box_height / (rows * columns)  # [R] of one bin
    empty = area == 0
    per_area = torch.where(empty, 0.0, 1 / torch.where(empty, 1.0, area))

    weights_y = axis_weights(y0, box_height, rows, height)  # [R, rows, H]
    weights_x = axis_weights(x0, box_width, columns, width)  # [R, columns, W]
    # not indexing: its backward adds in the order threads arrive
    boxed = features.to(rois.dtype).index_select(0, rois[:, 0].long())  # [R, C, H, W]
    out = torch.einsum("rph,rchw,rqw->rcpq", weights_y, boxed, weights_x) * per_area[:, None, None, None]
    return out.to(features.dtype).contiguous()
