"""Labels on the score map: a Gaussian about the box centre, as peak-1 label (DiMP) or density (PrDiMP).

Score cell i stands for crop pixel stride * i for target filters of even size, stride * (i + 1/2) for odd.
"""

import math

import numpy as np


def gaussian_label(
    boxes: np.ndarray, cells: int, sigma: float, stride: int = 16, filter_size: int = 4
) -> np.ndarray:
    """exp(-d^2 / (2 sigma^2)), d cells from the centre of boxes [n, 4] (crop pixels): [n, cells, cells]."""
    centre = (boxes[:, :2] + boxes[:, 2:] / 2) / stride - 0.5 * (filter_size % 2)
    distance = np.arange(cells) - centre[:, :, None]  # [n, 2 (x, y), cells]
    profile = np.exp(-(distance**2) / (2 * sigma**2))
    return profile[:, 1, :, None] * profile[:, 0, None, :]


def gaussian_density(
    boxes: np.ndarray,
    cells: int,
    sigma: float,
    stride: int = 16,
    filter_size: int = 4,
    uniform: float = 0.0,
) -> np.ndarray:
    """Gaussian density at the cells, mixed with a share `uniform` of the uniform one: [n, cells, cells].

    Not normalised: its sum differs from 1 for small sigma and for centres near or beyond the border.
    """
    density = gaussian_label(boxes, cells, sigma, stride, filter_size) / (2 * math.pi * sigma**2)
    return (1 - uniform) * density + uniform / cells**2


def normalise_density(density: np.ndarray, threshold: float = 0.0, shrink: float = 0.0) -> np.ndarray:
    """Drops values <= threshold, scales maps [n, S, S] to sum 1 - shrink; a sum <= 0.01 becomes uniform."""
    density = density * (density > threshold)
    total = density.sum((-2, -1), keepdims=True)
    uniform = 1 / (density.shape[-2] * density.shape[-1])
    return (1 - shrink) * np.where(total > 0.01, density / np.where(total > 0.01, total, 1), uniform)
