"""Grid KL loss and the label density on the score grid in plain torch (the definition)."""

import math

import torch


def kl_loss(scores: torch.Tensor, density: torch.Tensor, grid_scale: float) -> torch.Tensor:
    """log(a sum exp s) - a sum p s over the cells of s and p [..., H, W], a = grid_scale -> [...]."""
    cross = (scores * density).sum((-2, -1))
    return scores.logsumexp((-2, -1)) + math.log(grid_scale) - grid_scale * cross


def label_density(
    centre: torch.Tensor,
    size: tuple[int, int],
    sigma: float,
    threshold: float,
    normalize: bool,
    uniform: float,
    shrink: float,
) -> torch.Tensor:
    """Gaussian density around `centre` [..., 2] on a grid of `size` (rows, columns); see the contract."""
    rows = torch.arange(size[0], dtype=centre.dtype, device=centre.device)
    columns = torch.arange(size[1], dtype=centre.dtype, device=centre.device)
    squares = [(grid - centre[..., i, None]).square() for i, grid in enumerate((rows, columns))]
    distance2 = squares[0][..., :, None] + squares[1][..., None, :]  # [..., rows, columns]
    if sigma == 0:
        nearest = distance2.flatten(-2).argmin(-1)
        density = (
            torch.nn.functional.one_hot(nearest, size[0] * size[1]).to(centre.dtype).view(distance2.shape)
        )
    else:
        density = (distance2 / (-2 * sigma**2)).exp() / (2 * math.pi * sigma**2)
    density = torch.where(density > threshold, density, torch.zeros_like(density))
    if normalize:
        density = density / (density.sum((-2, -1), keepdim=True) + 1e-8)
    return (1 - shrink) * ((1 - uniform) * density + uniform / (size[0] * size[1]))
