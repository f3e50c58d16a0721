"""What moves in synthetic video: a deforming shape of one texture, and bodies of several articulated parts.

Real targets are seldom one texture in one outline: a person is a shirt, trousers, a head and limbs that
swing, a car is paint, glass and wheels. A tracker trained on one-texture shapes alone takes "the region of
one texture" for "the object". A Compound has 2 to 8 parts, each with its own outline and texture, that turn
about joints fixed in the body; its outline is that of all parts together.

Both kinds have `centre` [T, 2], `surfaces`, `outlines(t)` and `draw(image, t)`. Coordinates are pixels with
(0, 0) at the corner of the image: the centre of the first pixel is (0.5, 0.5).
"""

import functools
from collections.abc import Sequence as Many
from typing import NamedTuple

import cv2
import numpy as np

from chase_fast.data.textures import Shape

TEXTURE_SIDE = 64
OUTLINES = 24  # different outlines of parts: boxes, ellipses, wedges, lumps
_MARGIN = 2
_POINTS = 48
_THIN = 1.6  # pixels: no part has a smaller half size, so that what the box surrounds can be seen


def smooth(rng: np.random.Generator, length: int, period: float, shape: tuple[int, ...] = ()) -> np.ndarray:
    """[length, *shape] smooth motion of about unit size: a cubic with a random knot per `period` frames."""
    knots = rng.standard_normal((int(length / period) + 6, *shape))
    t = np.arange(length) / period + rng.random()
    i = t.astype(int)
    u = (t - i).reshape(-1, *[1] * len(shape))
    basis = (1 - u) ** 3, 3 * u**3 - 6 * u**2 + 4, -3 * u**3 + 3 * u**2 + 3 * u + 1, u**3
    return sum(b * knots[i + k] for k, b in enumerate(basis)) / 6 * 1.5


def _crop(image: np.ndarray, points: np.ndarray) -> tuple[int, int, np.ndarray]:
    """x, y and the view of the part of the image around the points [2, N]."""
    x0, y0 = (max(int(v) - _MARGIN, 0) for v in points.min(1))
    x1, y1 = (max(int(v) + 1 + _MARGIN, 0) for v in points.max(1))
    return x0, y0, image[y0:y1, x0:x1]


class Blob:
    """A deforming shape with one texture."""

    def __init__(
        self,
        shape: Shape,
        surface: np.ndarray,
        centre: np.ndarray,
        half: np.ndarray,
        angle: np.ndarray,
        tempo: float = 1.0,
    ):
        """Per frame: centre, half size [T, 2] pixels, angle [T] radians; tempo: speed of the deformation."""
        self.shape, self.surfaces, self.tempo = shape, [surface], tempo
        self.centre, self.half, self.angle = centre, half, angle
        self.reach = half.max(1) * shape.max_radius  # [T] no outline point is farther from the centre

    def outlines(self, t: np.ndarray) -> np.ndarray:
        """Image points of frames t [F]: [F, parts = 1, 2, ANGLES]."""
        x, y = np.moveaxis(self.shape.outline(t * self.tempo) * self.half[t, :, None], 1, 0)
        c, s = np.cos(self.angle[t, None]), np.sin(self.angle[t, None])
        return (np.stack([x * c - y * s, x * s + y * c], 1) + self.centre[t, :, None])[:, None]

    def draw(self, image: np.ndarray, t: int) -> None:
        """Blends the object of frame t into image [H, W, 3] uint8, in place."""
        x0, y0, part = _crop(image, self.outlines(np.array([t]))[0, 0])
        if part.size == 0:
            return
        half = self.half[t]
        c, s = (f(self.angle[t]) / half for f in (np.cos, np.sin))
        c, s = c.astype(np.float32), s.astype(np.float32)
        x = np.arange(x0, x0 + part.shape[1], dtype=np.float32) + np.float32(0.5 - self.centre[t, 0])
        y = np.arange(y0, y0 + part.shape[0], dtype=np.float32)[:, None] + np.float32(0.5 - self.centre[t, 1])
        # body coordinates, then polar: the texture is stretched to the outline
        u, v = c[0] * x + s[0] * y, c[1] * y - s[1] * x
        depth, angle = cv2.cartToPolar(u, v)
        angle *= np.float32(Shape.ANGLES / (2 * np.pi))
        sector = angle.astype(np.int32)
        angle -= sector  # share of the way to the next corner of the outline
        rim = self.shape.radius(np.array([t * self.tempo]))[0].astype(np.float32)
        radius = rim.take(sector, mode="wrap") + angle * (np.roll(rim, -1) - rim).take(sector, mode="wrap")
        depth /= radius  # 0 centre .. 1 outline
        stretch = np.float32(TEXTURE_SIDE / 2) / radius
        middle = np.float32((TEXTURE_SIDE - 1) / 2)
        colour = cv2.remap(
            self.surfaces[0],
            u * stretch + middle,
            v * stretch + middle,
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        alpha = ((1 - depth) * np.float32(half.min() / 2) + np.float32(0.5)).clip(0, 1)
        part[:] = cv2.blendLinear(colour, np.ascontiguousarray(part), alpha, 1 - alpha)


class Part(NamedTuple):
    """One rigid part of a body; lengths in body units (the body is about 2 units wide and high), y down."""

    joint: tuple[float, float]
    size: tuple[float, float]  # half width, half height
    hang: float = 0.0  # its centre lies this many half heights below the joint
    angle: float = 0.0  # at rest, radians
    swing: float = 0.0  # amplitude, radians
    phase: float = 0.0
    spin: float = 0.0  # radians per frame (wheels)
    surface: int = 0
    outline: int = 1  # below OUTLINES


class Compound:
    """A body of articulated parts, drawn in their order."""

    def __init__(
        self,
        parts: Many[Part],
        surfaces: Many[np.ndarray],
        centre: np.ndarray,
        half: np.ndarray,
        angle: np.ndarray,
        gait: np.ndarray,
    ):
        """Per frame: centre, half size [T, 2] pixels, angle, gait [T] radians (phase of the swings)."""
        self.parts, self.surfaces, self.centre = parts, surfaces, centre
        joint = np.array([p.joint for p in parts], float)
        size = np.array([p.size for p in parts], float)
        hang, rest, swing, phase, spin = np.array([p[2:7] for p in parts], float).T[..., None]  # [P, 1]
        own = rest + swing * np.sin(gait + phase) + spin * np.arange(len(gait))  # [P, T]
        body = _turn(angle) * half[:, None, :]  # [T, 2, 2] body units -> pixels
        thin = _THIN / half.min()
        self._linear = body @ (_turn(own) * np.maximum(size, thin)[:, None, None])  # [P, T, 2, 2]
        hinge = centre + (body @ joint[:, None, :, None])[..., 0]  # [P, T, 2]
        self._offset = hinge + self._linear[..., 1] * hang[..., None]
        self._pixels = np.ceil(2 * size * half.max(0)).astype(int).clip(8, TEXTURE_SIDE)  # of the sprites

    @functools.cached_property
    def _sprites(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Per part: colour [h, w, 3] uint8, opacity [h, w] float32, about as large as in the image."""
        resize = functools.partial(cv2.resize, interpolation=cv2.INTER_AREA)
        return [
            (resize(self.surfaces[p.surface], tuple(wh)), resize(part_outline(p.outline)[1], tuple(wh)))
            for p, wh in zip(self.parts, self._pixels.tolist())
        ]

    def outlines(self, t: np.ndarray) -> np.ndarray:
        """Image points of frames t [F]: [F, parts, 2, points]."""
        own = np.stack([part_outline(p.outline)[0] for p in self.parts])[:, None]  # [P, 1, 2, N]
        return np.moveaxis(self._linear[:, t] @ own + self._offset[:, t, :, None], 0, 1)

    def draw(self, image: np.ndarray, t: int) -> None:
        """Blends the object of frame t into image [H, W, 3] uint8, in place."""
        for points, linear, offset, (colour, opacity) in zip(
            self.outlines(np.array([t]))[0], self._linear[:, t], self._offset[:, t], self._sprites
        ):
            x0, y0, part = _crop(image, points)
            if part.size == 0:
                continue
            h, w = opacity.shape
            side = np.array([w, h]) / 2
            # image pixel -> body of the part -> pixel of the sprite
            inverse = np.linalg.inv(linear) * (side * _FILL)[:, None]
            shift = inverse @ (np.array([x0, y0]) + 0.5 - offset) + side - 0.5
            warp = functools.partial(
                cv2.warpAffine,
                M=np.column_stack([inverse, shift]),
                dsize=part.shape[1::-1],
                flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            )
            alpha = warp(opacity, borderMode=cv2.BORDER_CONSTANT)
            paint = warp(colour, borderMode=cv2.BORDER_REPLICATE)
            part[:] = cv2.blendLinear(paint, np.ascontiguousarray(part), alpha, 1 - alpha)


_FILL = 1 - 2 / TEXTURE_SIDE  # an outline leaves one transparent pixel around it


def _turn(angle: np.ndarray) -> np.ndarray:
    """[...] radians -> [..., 2, 2] rotations."""
    c, s = np.cos(angle), np.sin(angle)
    return np.stack([np.stack([c, -s], -1), np.stack([s, c], -1)], -2)


@functools.cache
def part_outline(kind: int) -> tuple[np.ndarray, np.ndarray]:
    """Outline `kind` below OUTLINES: points [2, N] that fill [-1, 1]^2, opacity [TEXTURE_SIDE]^2 float32.

    0 is a box with round corners, 1 an ellipse, 2 a wedge narrow at the top; the others are random.
    """
    rng = np.random.default_rng(kind)
    power = (6.0, 2.0, 6.0)[kind] if kind < 3 else rng.choice((1.5, 2, 3, 6))
    taper = (0.0, 0.0, 0.35)[kind] if kind < 3 else rng.uniform(-0.4, 0.4)
    angle = np.arange(_POINTS) * (2 * np.pi / _POINTS)
    radius = (np.abs(np.cos(angle)) ** power + np.abs(np.sin(angle)) ** power) ** (-1 / power)
    if kind >= 3:
        radius *= 1 + rng.choice((0, 0.12, 0.22)) * np.cos(angle * rng.integers(2, 5) + rng.uniform(0, 6))
    points = radius * np.stack([np.cos(angle), np.sin(angle)])
    points[0] *= 1 + taper * points[1]
    low, high = points.min(1, keepdims=True), points.max(1, keepdims=True)
    points = (2 * points - low - high) / (high - low)
    fine = 4
    mask = np.zeros((fine * TEXTURE_SIDE,) * 2, np.uint8)
    corners = (points.T * _FILL + 1) * (fine * TEXTURE_SIDE / 2) - 0.5
    cv2.fillPoly(mask, [np.rint(corners).astype(np.int32)], 255)
    small = cv2.resize(mask, (TEXTURE_SIDE,) * 2, interpolation=cv2.INTER_AREA)
    return points, small.astype(np.float32) / 255
