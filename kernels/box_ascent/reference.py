"""Definition of `box_ascent` in plain torch; the gradient is autograd's."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..prroi_pool.reference import prroi_pool

BINS = (5, 3)  # on an axis, of the two branches


def box_ascent(
    maps: Sequence[Tensor],
    modulation: Sequence[Tensor],
    head: Sequence[Tensor],
    boxes: Tensor,
    scales: Sequence[float],
    to_position: Sequence[float],
    to_size: Sequence[float],
    relative: bool,
) -> tuple[Tensor, Tensor]:
    """Shapes and meaning: `chase_fast.kernels.box_ascent`."""
    weight, hidden_bias, out, bias = head
    k, p = boxes.shape[:2]
    index = torch.arange(k, device=boxes.device, dtype=boxes.dtype).view(k, 1, 1).expand(k, p, 1)
    channels = maps[0].shape[1]
    of_branches = weight.split([n * n * channels for n in BINS], 1)
    weights = [w.unflatten(1, (n * n, channels)) for w, n in zip(of_branches, BINS)]  # [H, bins, C]

    def scored(corners: Tensor) -> Tensor:
        rois = torch.cat((index, corners), -1).flatten(0, 1)
        total = bias
        for i, n in enumerate(BINS):
            pooled = prroi_pool(maps[i].to(boxes.dtype), rois, (n, n), scales[i])
            pooled = pooled.view(k, p, channels, n * n) * modulation[i].view(k, 1, channels, 1)
            hidden = torch.einsum("kpcb,hbc->kph", pooled, weights[i]) + hidden_bias[i]
            total = total + hidden.relu() @ out[i]
        return total

    centre, size = boxes[..., :2] + boxes[..., 2:] / 2, boxes[..., 2:]
    unit = size[:, :1]
    for a, b in zip(to_position, to_size):
        corners = torch.cat((centre - size / 2, centre + size / 2), -1).detach().requires_grad_()
        with torch.enable_grad():
            score = scored(corners)
            (gradient,) = torch.autograd.grad(score.sum(), corners)
        low, high = gradient.split(2, -1)
        if relative:
            centre = centre + a * unit.square() * (low + high)
            size = size * (b * size * (high - low) / 2).exp()
        else:
            corner = centre - size / 2 + a * size * (low + high)
            size = size + b * size * high
            centre = corner + size / 2
    return torch.cat((centre - size / 2, size), -1).detach(), score.detach()
