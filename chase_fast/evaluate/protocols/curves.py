"""Overlap, centre error and the curves made of them; what the protocols share.

Boxes are [T, 4] x, y, w, h. A comparison with NaN is false: a frame whose value is NaN is a miss.
"""

import numpy as np

OVERLAPS = np.linspace(0, 1, 21)
PIXELS = np.arange(51.0)
SIZES = np.linspace(0, 0.5, 51)  # parts of the annotated width and height
EPS = np.finfo(np.float64).eps
AT_50, AT_75 = 10, 15  # index of an overlap of 0.5 and 0.75
AT_20_PIXELS, AT_20_PERCENT = 20, 20


def overlap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of continuous boxes, clipped to 0 ... 1: [T]. Zero over zero is 0."""
    low = np.maximum(a[:, :2], b[:, :2])
    high = np.minimum(a[:, :2] + a[:, 2:], b[:, :2] + b[:, 2:])
    shared = np.maximum(high - low, 0).prod(1)
    return np.clip(shared / (a[:, 2:].prod(1) + b[:, 2:].prod(1) - shared + EPS), 0, 1)


def overlap_of_pixels(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The same for boxes whose last pixel is x + w - 1, not clipped: [T]. Zero over zero is NaN."""
    low = np.maximum(a[:, :2], b[:, :2])
    high = np.minimum(a[:, :2] + a[:, 2:] - 1, b[:, :2] + b[:, 2:] - 1)
    shared = np.maximum(high - low + 1, 0).prod(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return shared / (a[:, 2:].prod(1) + b[:, 2:].prod(1) - shared)


def centre(boxes: np.ndarray) -> np.ndarray:
    """Centre of each box in pixel coordinates, x + (w - 1) / 2: [T, 2]."""
    return boxes[:, :2] + (boxes[:, 2:] - 1) / 2


def distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Euclidean distance of points [T, 2]: [T]."""
    return np.sqrt(((a - b) ** 2).sum(1))


def distance_in_sizes(prediction: np.ndarray, truth: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Centre error with both centres divided by size [T, 2] first: [T]."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return distance(centre(prediction) / size, centre(truth) / size)


def share_above(values: np.ndarray, thresholds: np.ndarray, frames: float | None = None) -> np.ndarray:
    """Part of the frames with a value > each threshold: [K]. `frames` replaces the count of values [T]."""
    return _share(values[:, None] > thresholds, frames)


def share_within(values: np.ndarray, thresholds: np.ndarray, frames: float | None = None) -> np.ndarray:
    """Part of the frames with a value <= each threshold: [K]."""
    return _share(values[:, None] <= thresholds, frames)


def _share(hits: np.ndarray, frames: float | None) -> np.ndarray:
    frames = len(hits) if frames is None else frames
    return hits.sum(0) / frames if frames else np.full(hits.shape[1], np.nan)
