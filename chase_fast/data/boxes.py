"""Box arithmetic. A box is x, y, w, h: top-left corner and size in pixels."""

import numpy as np


def iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes [..., 4] (broadcast): [...]."""
    corner = np.maximum(a[..., :2], b[..., :2])
    opposite = np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:])
    shared = np.maximum(opposite - corner, 0).prod(-1)
    return shared / (a[..., 2:].prod(-1) + b[..., 2:].prod(-1) - shared)


def jitter_box(
    box: np.ndarray,
    z: np.ndarray,
    u: np.ndarray,
    scale_jitter: float,
    centre_jitter: float,
    limit: float = np.inf,
) -> np.ndarray:
    """Box [4] with its size scaled by exp(z * scale_jitter), then its centre moved (PrDiMP training).

    Args:
        z: [2] standard normal, for w and h; clipped to [-limit, limit].
        u: [2] uniform in [0, 1); the centre moves by sqrt(w' h') * centre_jitter * (u - 0.5).
    """
    size = box[2:] * np.exp(z.clip(-limit, limit) * scale_jitter)
    centre = box[:2] + box[2:] / 2 + np.sqrt(size.prod()) * centre_jitter * (u - 0.5)
    return np.concatenate([centre - size / 2, size])
