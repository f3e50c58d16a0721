"""Augmented copies of the first patch: shifted, mirrored, blurred, rotated.

All are cut from one expanded patch, so that little is missing at the border.
"""

import math

import cv2
import numpy as np

from chase_fast.kernels.crop.opencv import window_pixels
from chase_fast.track.settings import TrackSettings

Shift = tuple[int, int]  # of the content: down, right, px


def augmented(
    expanded: np.ndarray, settings: TrackSettings, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Copies of the middle of an expanded patch.

    Args:
        expanded: float32 [E, E, 3].
        rng: of the random shifts, two numbers each.

    Returns:
        patches [n, size, size, 3]; how their content was turned about the middle, [n, 2, 2] of (x, y); and
        then shifted, [n, 2] (right, down) px. Order: as it is, shifts, mirrored, blurs, rotations.
    """
    size = settings.image_size
    same = np.eye(2)
    moves: list[tuple[np.ndarray, np.ndarray, Shift]] = [(expanded, same, (0, 0))]
    for down, right in settings.shifts:
        moves.append((expanded, same, (math.trunc(down * size / 2), math.trunc(right * size / 2))))
    changed = [(expanded[:, ::-1], np.diag((-1, 1)))] if settings.flip else []
    changed += [(blur(expanded, sigmas), same) for sigmas in settings.blurs]
    changed += [(rotate(expanded, degrees), turn(degrees)) for degrees in settings.rotations]
    reach = settings.random_shift * size
    for image, turned in changed:
        down, right = (math.trunc((u - 0.5) * reach) for u in rng.random(2))
        moves.append((image, turned, (down, right)))
    patches = np.stack([middle(image, size, shift) for image, _, shift in moves])
    turns, shifts = np.stack([t for _, t, _ in moves]), np.array([shift[::-1] for *_, shift in moves])
    return patches, turns, shifts


def middle(image: np.ndarray, size: int, shift: Shift) -> np.ndarray:
    """The middle size x size pixels of [E, E, 3] with the content moved by `shift`; edges repeat."""
    y0, x0 = (-((size - length) // 2) - s for length, s in zip(image.shape, shift))
    return window_pixels(np.ascontiguousarray(image), (x0, y0, size, size))


def blur(image: np.ndarray, sigmas: tuple[float, float]) -> np.ndarray:
    """Gaussian blur with deviations (vertical, horizontal), cut off at 2 sigma, zeros outside."""
    vertical, horizontal = (_gaussian(sigma) for sigma in sigmas)
    return cv2.sepFilter2D(image, -1, horizontal, vertical, borderType=cv2.BORDER_CONSTANT)


def _gaussian(sigma: float) -> np.ndarray:
    radius = math.ceil(2 * sigma)
    kernel = np.exp(-np.square(np.arange(-radius, radius + 1)) / (2 * sigma**2))
    return kernel / kernel.sum()


def rotate(image: np.ndarray, degrees: float) -> np.ndarray:
    """By `turn` about the centre; edge pixels repeat."""
    centre = (np.array(image.shape[1::-1]) - 1) / 2
    matrix = np.column_stack([turn(degrees), centre - turn(degrees) @ centre])
    return cv2.warpAffine(
        image, matrix, image.shape[1::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )


def turn(degrees: float) -> np.ndarray:
    """Counter-clockwise as seen on a screen, [2, 2] of (x, y)."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[cos, sin], [-sin, cos]])
