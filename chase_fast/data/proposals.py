"""Boxes about the target for the box regressor: mixture samples (PrDiMP) or perturbed boxes (DiMP)."""

import math
from collections.abc import Callable

import numpy as np

from chase_fast.data.boxes import iou

GMM_STDS = (0.05, 0.5)
PERTURB_FACTORS = (0.01, 0.05, 0.1, 0.2, 0.3)
MIN_IOU = 0.1
MAX_TRIES = 100


def gmm_proposals(
    box: np.ndarray, component: np.ndarray, z: np.ndarray, stds: tuple[float, ...] = GMM_STDS
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Samples of an equal mixture of centred Gaussians in relative coordinates (dx/w, dy/h, dlog w, dlog h).

    Args:
        box: [4]. component: [P] index into stds. z: [P, 4] standard normal.

    Returns:
        proposals [P, 4] xywh, their density q [P], ground-truth density p [P] (the first component).
    """
    sigma = np.asarray(stds)
    delta = z * sigma[component, None]
    size = box[2:] * np.exp(delta[:, 2:])
    centre = box[:2] + box[2:] / 2 + delta[:, :2] * box[2:]
    exponent = -0.5 * (delta**2).sum(1)[:, None] / sigma**2  # [P, components]
    densities = np.exp(exponent) / (math.sqrt(2 * math.pi) * sigma) ** 4
    return np.concatenate([centre - size / 2, size], 1), densities.mean(1), densities[:, 0]


def perturb_box(
    box: np.ndarray,
    factor: float,
    normal: Callable[[], float],
    uniform: Callable[[], float],
) -> tuple[np.ndarray, float]:
    """One integer-rounded box about `box` [4] with IoU > 0.1, and that IoU (DiMP).

    Args:
        factor: standard deviation of centre and size, relative to sqrt(w h); shrinks by 0.9 per rejected try.
        normal: next standard normal. uniform: next uniform in [0, 1).
    """
    scale = math.sqrt(box[2] * box[3]) * factor
    centre = box[:2] + box[2:] / 2

    def at_least_one(size: np.ndarray) -> np.ndarray:
        return np.array([s if s > 1 else full * (0.15 + 0.35 * uniform()) for s, full in zip(size, box[2:])])

    for _ in range(MAX_TRIES):
        z = np.array([normal() for _ in range(4)])
        size = at_least_one(box[2:] + z[2:] * scale)
        out = np.rint(np.concatenate([centre + z[:2] * scale - size / 2, size]))
        out[2:] = at_least_one(out[2:])
        overlap = float(iou(out, box))
        if overlap > MIN_IOU:
            break
        scale *= 0.9
    return out, overlap
