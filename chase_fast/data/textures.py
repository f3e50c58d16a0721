"""Procedural textures and shapes for synthetic video: everything here is a function of a random generator."""

import cv2
import numpy as np

PATTERNS = ("plain", "stripes", "spots", "blocks", "halves")


def fractal(rng: np.random.Generator, side: int, roughness: float) -> np.ndarray:
    """Sum of noise octaves, [side, side] float32 in [0, 1]; roughness 0.4 (clouds) .. 0.9 (gravel)."""
    total, weight = np.zeros((side, side), np.float32), 1.0
    cells = 3
    while cells < side:
        noise = rng.standard_normal((cells, cells), np.float32)
        total += weight * cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC)
        weight *= roughness
        cells *= 2
    low, high = np.quantile(total[::4, ::4], (0.01, 0.99))
    return ((total - low) / (high - low)).clip(0, 1)


def palette(rng: np.random.Generator, contrast: float, dull: float) -> np.ndarray:
    """[256, 3] uint8 smooth ramp about a random colour, the greyer the larger `dull` (about 1 to 8)."""
    base = rng.uniform(30, 225, 3)
    base = base.mean() + (base - base.mean()) * rng.beta(1, dull)
    stops = base + rng.uniform(-1, 1, (4, 1)) * 120 * contrast + rng.uniform(-1, 1, (4, 3)) * 28 * contrast
    x = np.linspace(0, 3, 256)
    ramp = np.stack([np.interp(x, np.arange(4), stops[:, c]) for c in range(3)], 1)
    return ramp.clip(0, 255).astype(np.uint8)


def _paint(values: np.ndarray, colours: np.ndarray) -> np.ndarray:
    return colours[(values * 255).astype(np.uint8)]


def texture(rng: np.random.Generator, side: int, contrast: float, dull: float) -> np.ndarray:
    """[side, side, 3] uint8: coloured noise, often with stripes, spots, blocks or two differing halves."""
    noise = fractal(rng, side, rng.uniform(0.45, 0.85))
    colours, other = palette(rng, contrast, dull), palette(rng, contrast, dull)
    image = _paint(noise, colours)
    pattern = PATTERNS[rng.integers(len(PATTERNS))]
    y, x = np.mgrid[:side, :side].astype(np.float32) / side
    if pattern == "stripes":
        angle, period = rng.uniform(0, np.pi), rng.uniform(3, 12)
        phase = (x * np.cos(angle) + y * np.sin(angle)) * period + noise * rng.uniform(0, 1.2)
        mask = phase % 1 < rng.uniform(0.25, 0.6)
    elif pattern == "spots":
        mask = np.zeros((side, side), np.uint8)
        for cx, cy, radius in rng.uniform(0, side, (rng.integers(4, 18), 3)):
            cv2.circle(mask, (int(cx), int(cy)), int(2 + radius * 0.12), 1, -1)
        mask = mask > 0
    elif pattern == "blocks":
        columns, rows = rng.integers(2, 9, 2)
        mask = ((x * columns % 1) < 0.72) & ((y * rows % 1) < 0.66)
    elif pattern == "halves":
        angle = rng.uniform(0, 2 * np.pi)
        mask = (x - 0.5) * np.cos(angle) + (y - 0.5) * np.sin(angle) + (noise - 0.5) * 0.2 > 0
    else:
        return image
    image[mask] = _paint(noise, other)[mask]
    return image


def scene(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """[height, width, 3] uint8 backdrop: ground and far plane, then textured shapes (houses, bushes)."""
    side = max(height, width)

    def plane(contrast: float) -> np.ndarray:
        return cv2.resize(texture(rng, side // 2, contrast, dull=7), (side, side))[:height, :width]

    image = plane(rng.uniform(0.25, 0.8))
    if rng.random() < 0.6:
        horizon = int(height * rng.uniform(0.25, 0.6))
        image[:horizon] = plane(rng.uniform(0.1, 0.5))[:horizon]
    surfaces = [texture(rng, 64, rng.uniform(0.2, 0.9), dull=4) for _ in range(6)]
    for _ in range(rng.integers(8, 30)):
        w, h = np.exp(rng.uniform(np.log(14), np.log(120), 2)).astype(int)
        x, y = int(rng.integers(0, width - 14)), int(rng.integers(0, height - 14))
        part = image[y : y + h, x : x + w]
        h, w = part.shape[:2]
        mask = np.zeros((h, w), np.uint8)
        if rng.random() < 0.5:
            cv2.rectangle(mask, (0, 0), (w, h), 255, -1)
        else:
            points = Shape.random(rng).outline(np.zeros(1))[0].T * (w / 2.4, h / 2.4) + (w / 2, h / 2)
            cv2.fillPoly(mask, [points.astype(np.int32)], 255)
        surface = cv2.resize(surfaces[rng.integers(len(surfaces))], (w, h))
        shade = np.linspace(rng.uniform(0.6, 1), rng.uniform(0.6, 1), h, dtype=np.float32)[:, None, None]
        cv2.copyTo((surface * shade).astype(np.uint8), mask, part)
    grain = rng.integers(0, 24, (height, width, 1), np.uint8)
    return cv2.add(image, cv2.cvtColor(grain, cv2.COLOR_GRAY2BGR))


class Shape:
    """A star-shaped outline r(angle) about the origin, of size about 1, that can deform with time.

    A superellipse (box-like to round) with angular waves, some of which swing with time.
    """

    ANGLES = 128
    _ANGLE = np.arange(ANGLES) * (2 * np.pi / ANGLES)

    def __init__(self, aspect: float, power: float, waves: np.ndarray, swing: np.ndarray):
        """waves, swing: [K, 4] amplitude, angular frequency, phase, speed (radians per frame)."""
        c, s = np.abs(np.cos(self._ANGLE)) / aspect, np.abs(np.sin(self._ANGLE)) * aspect
        self._base = (c**power + s**power) ** (-1 / power) * (1 + self._profile(waves).sum(0))
        self._profiles = self._profile(swing)
        self._phase, self._speed = swing[:, 2], swing[:, 3]
        self.max_radius = float(self._base.max() * (1 + np.abs(self._profiles).sum(0).max()))

    def _profile(self, waves: np.ndarray) -> np.ndarray:
        """[K, ANGLES] each wave around the outline."""
        amplitude, frequency, phase = waves.T[:3, :, None]
        return amplitude * np.cos(frequency * self._ANGLE + phase)

    @classmethod
    def random(cls, rng: np.random.Generator, deform: float = 0.0) -> "Shape":
        """deform: 0 rigid .. 1 strongly swinging limbs."""

        def draw(count: int, amplitude: float) -> np.ndarray:
            columns = (
                rng.uniform(0.2, 1, count) * amplitude,
                rng.integers(1, 6, count),
                rng.uniform(0, 2 * np.pi, count),
                rng.uniform(0.1, 0.5, count) * rng.choice((-1, 1), count),
            )
            return np.stack(columns, 1)

        aspect = np.exp(rng.uniform(-0.45, 0.45))
        power = rng.choice((1.3, 2, 2, 3, 6))
        return cls(aspect, power, draw(3, rng.choice((0, 0.1, 0.25))), draw(3, 0.22 * deform))

    def radius(self, time: np.ndarray) -> np.ndarray:
        """[T, ANGLES] radius at times [T] (frames)."""
        swing = np.cos(np.outer(time, self._speed) + self._phase) @ self._profiles
        return self._base * (1 + swing).clip(0.3, None)

    def outline(self, time: np.ndarray) -> np.ndarray:
        """[T, 2, ANGLES] points x, y."""
        return self.radius(time)[:, None] * np.stack([np.cos(self._ANGLE), np.sin(self._ANGLE)])
