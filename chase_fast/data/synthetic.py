"""Synthetic video: moving, deforming textured targets in textured scenes, without any file.

`synthetic:NAME` is a set of SEQUENCES sequences; NAME seeds it, so train, val and holdout never share a
sequence, a scene or a texture. Frame i of sequence k depends on (NAME, k, i) alone and can be rendered in any
order.

What makes it hard: a moving, turning, zooming, shaking camera; targets that deform, turn, change scale and
aspect; look-alikes (same shape and texture) close by; occluders in the scene and passing ones; motion and
defocus blur; light that changes slowly or flickers; sensor noise; targets that look like the scene; targets
that leave the view. Boxes surround the part of the target inside the image; a frame with less than MIN_COVER
of the target visible is marked absent (NaN box).

Render path per frame: warp the scene by the camera, draw distractors, target and occluders (each one remap of
its texture inside its bounding box), then blur, light and noise.
"""

import functools
import hashlib
from collections.abc import Sequence as Many

import cv2
import numpy as np

from chase_fast.data.textures import Shape, scene, texture

HEIGHT, WIDTH = 240, 320
SEQUENCES = 10_000
MIN_COVER = 0.1
SCENES, TEXTURES = 20, 96
SCENE_HW = (480, 640)
TEXTURE_SIDE = 64
COVER_SCALE = 4  # occlusion is measured on an image this much smaller
_MARGIN = 2
_BLUR_HALF = 4  # kernels of 11 x 11 and more take a slower path in OpenCV


def _seed(*parts: str | int) -> np.random.Generator:
    digest = hashlib.sha256("/".join(str(p) for p in parts).encode()).digest()
    return np.random.default_rng(np.frombuffer(digest, np.uint32))


@functools.lru_cache(maxsize=2 * SCENES)
def _scene(name: str, number: int) -> np.ndarray:
    return scene(_seed(name, "scene", number), *SCENE_HW)


@functools.lru_cache(maxsize=2 * TEXTURES)
def _texture(name: str, number: int) -> np.ndarray:
    rng = _seed(name, "texture", number)
    return texture(rng, TEXTURE_SIDE, rng.uniform(0.4, 1.0), dull=2)


def _smooth(rng: np.random.Generator, length: int, period: float, shape: tuple[int, ...] = ()) -> np.ndarray:
    """[length, *shape] smooth motion of about unit size: a cubic with a random knot per `period` frames."""
    knots = rng.standard_normal((int(length / period) + 6, *shape))
    t = np.arange(length) / period + rng.random()
    i = t.astype(int)
    u = (t - i).reshape(-1, *[1] * len(shape))
    basis = (1 - u) ** 3, 3 * u**3 - 6 * u**2 + 4, -3 * u**3 + 3 * u**2 + 3 * u + 1, u**3
    return sum(b * knots[i + k] for k, b in enumerate(basis)) / 6 * 1.5


class _Object:
    """A deforming textured shape in the image."""

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
        self.shape, self.surface, self.tempo = shape, surface, tempo
        self.centre, self.half, self.angle = centre, half, angle
        self.reach = half.max(1) * shape.max_radius  # [T] no outline point is farther from the centre

    def outline(self, t: np.ndarray) -> np.ndarray:
        """Image points of frames t [F]: [F, 2, ANGLES]."""
        x, y = np.moveaxis(self.shape.outline(t * self.tempo) * self.half[t, :, None], 1, 0)
        c, s = np.cos(self.angle[t, None]), np.sin(self.angle[t, None])
        return np.stack([x * c - y * s, x * s + y * c], 1) + self.centre[t, :, None]

    def draw(self, image: np.ndarray, t: int) -> None:
        """Blends the object of frame t into image [H, W, 3] uint8, in place."""
        points = self.outline(np.array([t]))[0]
        x0, y0 = (max(int(v) - _MARGIN, 0) for v in points.min(1))
        x1, y1 = (max(int(v) + 1 + _MARGIN, 0) for v in points.max(1))
        part = image[y0:y1, x0:x1]
        if part.size == 0:
            return
        half = self.half[t]
        c, s = np.float32(np.cos(self.angle[t]) / half), np.float32(np.sin(self.angle[t]) / half)
        x = np.arange(x0, x0 + part.shape[1], dtype=np.float32) - np.float32(self.centre[t, 0])
        y = np.arange(y0, y0 + part.shape[0], dtype=np.float32)[:, None] - np.float32(self.centre[t, 1])
        # body coordinates, then polar: the texture is stretched to the outline
        u, v = c[0] * x + s[0] * y, c[1] * y - s[1] * x
        depth, angle = cv2.cartToPolar(u, v)
        sector = (angle * np.float32(Shape.ANGLES / (2 * np.pi))).astype(np.int32)
        radius = self.shape.radius(np.array([t * self.tempo]))[0].astype(np.float32)
        radius = radius.take(sector, mode="wrap")
        depth /= radius  # 0 centre .. 1 outline
        stretch = np.float32(TEXTURE_SIDE / 2) / radius
        middle = np.float32((TEXTURE_SIDE - 1) / 2)
        colour = cv2.remap(
            self.surface,
            u * stretch + middle,
            v * stretch + middle,
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        alpha = ((1 - depth) * np.float32(half.min() / 2) + np.float32(0.5)).clip(0, 1)
        part[:] = cv2.blendLinear(colour, np.ascontiguousarray(part), alpha, 1 - alpha)


class SyntheticSequence:
    """One synthetic video with its target's boxes; see the module text. Frames are rendered on demand."""

    def __init__(self, split: str, number: int):
        self.name = f"{split}/{number:05d}"
        self._id = split, number
        rng = _seed(split, "sequence", number)
        self.length = int(rng.integers(48, 121))
        self._make_camera(rng)
        self._make_objects(rng)
        self._make_weather(rng)
        self._measure()

    def _make_camera(self, rng: np.random.Generator) -> None:
        """Backdrop transform per frame: [T, 2, 3], image -> scene pixels."""
        t, split = self.length, self._id[0]
        self._backdrop = _scene(split, int(rng.integers(SCENES)))
        mirror = np.array([[rng.choice((-1, 1))], [1]])
        pan = _smooth(rng, t, rng.uniform(10, 40), (2,)) * rng.choice((3, 30, 90))
        shake = _smooth(rng, t, 1.6, (2,)) * rng.choice((0, 0, 0.8, 2.5))
        zoom = np.exp(_smooth(rng, t, 30) * rng.choice((0, 0.05, 0.15))) * rng.uniform(0.7, 1.3)
        turn = _smooth(rng, t, 25) * rng.choice((0, 0.03, 0.12))
        centre = np.array(SCENE_HW[::-1]) / 2 + rng.uniform(-80, 80, 2) + pan + shake
        c, s = np.cos(turn) * zoom, np.sin(turn) * zoom
        linear = np.stack([np.stack([c, -s], -1), np.stack([s, c], -1)], -2) * mirror
        offset = centre - linear @ np.array([WIDTH / 2, HEIGHT / 2])
        self._camera = np.concatenate([linear, offset[..., None]], -1)

    def _to_image(self, point: np.ndarray) -> np.ndarray:
        """Scene pixel [2] -> image pixels [T, 2]."""
        linear, offset = self._camera[:, :, :2], self._camera[:, :, 2]
        return np.linalg.solve(linear, (point - offset)[..., None])[..., 0]

    def _make_objects(self, rng: np.random.Generator) -> None:
        t = self.length
        view = np.array([WIDTH, HEIGHT])
        middle = view / 2
        path = _smooth(rng, t, rng.choice((10, 18, 32)), (2,)) * view * rng.uniform(0.1, 0.35)
        path += rng.uniform(-0.25, 0.25, 2) * view - path[0]
        if rng.random() < 0.25:  # leaves the view
            path *= 1.6
        else:
            path = 0.42 * view * np.tanh(path / (0.42 * view))
        path += middle + _smooth(rng, t, 2.0, (2,)) * rng.choice((0, 0.5, 1.5))
        side = np.exp(rng.uniform(np.log(11), np.log(36)))
        scale = np.exp(_smooth(rng, t, rng.uniform(15, 40)) * rng.choice((0.05, 0.15, 0.35)))
        aspect = np.exp(_smooth(rng, t, rng.uniform(12, 40)) * rng.choice((0, 0.1, 0.25)))
        half = ((side * scale)[:, None] * np.stack([aspect, 1 / aspect], 1)).clip(6, 75)
        angle = _smooth(rng, t, rng.uniform(12, 40)) * rng.choice((0.05, 0.3, 1.0)) + rng.uniform(-0.3, 0.3)
        shape = Shape.random(rng, rng.choice((0.0, 0.5, 1.0)))
        surface = self._surface(rng, camouflage=rng.random() < 0.25)
        self._target = _Object(shape, surface, path, half, angle)

        self._distractors = []
        for _ in range(rng.choice((0, 1, 2, 3, 4))):
            alike = rng.random() < 0.7
            offset = rng.uniform(-1, 1, 2) * (110, 80) + _smooth(rng, t, rng.uniform(10, 30), (2,)) * 40
            self._distractors.append(
                _Object(
                    shape if alike else Shape.random(rng, rng.choice((0.0, 1.0))),
                    surface if alike else self._surface(rng, camouflage=False),
                    (path if rng.random() < 0.5 else middle) + offset,
                    half[::-1] * rng.uniform(0.7, 1.3),
                    angle[::-1] + rng.uniform(-0.5, 0.5),
                    rng.uniform(0.6, 1.4),
                )
            )
        self._occluders = []
        for _ in range(rng.choice((0, 0, 1, 2, 3))):
            size = side * rng.uniform(0.35, 1.1) * np.array([1, rng.choice((1, 2, 3))])
            if rng.random() < 0.6:  # stands in the scene, where the target will pass
                when = int(rng.integers(t))
                spot = self._camera[when] @ np.array([*(path[when] + rng.uniform(-6, 6, 2)), 1.0])
                where = self._to_image(spot)
            else:  # passes by
                where = path.mean(0) + np.linspace(-1, 1, t)[:, None] * rng.uniform(-220, 220, 2)
            self._occluders.append(
                _Object(
                    Shape.random(rng),
                    self._surface(rng, camouflage=rng.random() < 0.5),
                    where,
                    np.repeat(size[None], t, 0),
                    np.full(t, rng.uniform(-0.2, 0.2)),
                )
            )

    def _surface(self, rng: np.random.Generator, camouflage: bool) -> np.ndarray:
        """Texture of an object, darker to its rim; camouflage mixes it with the scene."""
        patch = _texture(self._id[0], int(rng.integers(TEXTURES)))
        if camouflage:
            y, x = (int(rng.integers(n - TEXTURE_SIDE)) for n in SCENE_HW)
            patch = 0.6 * patch + 0.4 * self._backdrop[y : y + TEXTURE_SIDE, x : x + TEXTURE_SIDE]
        return (patch * (_rounding() * rng.uniform(0.8, 1.2))).clip(0, 255).astype(np.uint8)

    def _make_weather(self, rng: np.random.Generator) -> None:
        t = self.length
        light = _smooth(rng, t, rng.uniform(10, 40)) * rng.choice((0.02, 0.1, 0.3))
        light += rng.standard_normal(t) * rng.choice((0, 0, 0.06))  # flicker
        self._gain = np.exp(light)[:, None] * np.exp(rng.normal(0, 0.06, 3)) * rng.uniform(0.6, 1.25)
        self._gamma = float(np.exp(rng.normal(0, 0.2)))
        focus = _smooth(rng, t, 12) * rng.choice((0, 1.0, 1.8)) + rng.choice((-0.4, 0, 0.8))
        self._defocus = focus.clip(0, 3)
        speed = np.gradient(self._target.centre, axis=0)
        self._motion = speed * rng.choice((0, 0.4, 0.9))  # shutter: share of the frame time
        self._noise = float(rng.choice((0, 3, 8)))

    def _measure(self) -> None:
        """Boxes and visibility; occluders that hide it at the start or mostly are taken away."""
        outline = self._target.outline(np.arange(self.length))
        low, high = outline.min(2), outline.max(2)
        inside = (low >= 0).all(1) & (high <= (WIDTH, HEIGHT)).all(1)
        cover = self._cover(outline, inside)
        if cover[0] < 0.5 or np.mean(cover >= MIN_COVER) < 0.5:
            self._occluders = []
            cover = self._cover(outline, inside)
        low, high = low.clip(0, None), high.clip(None, (WIDTH, HEIGHT))
        self.visible = (cover >= MIN_COVER) & (high - low > 1).all(1)
        self.boxes = np.where(self.visible[:, None], np.concatenate([low, high - low], 1), np.nan)

    def _cover(self, outline: np.ndarray, inside: np.ndarray) -> np.ndarray:
        """[T] visible share of the target; overlaps are counted on an image COVER_SCALE times smaller."""
        target = self._target
        hiding = [[] for _ in range(self.length)]  # outlines that may cover the target
        for o in self._occluders:
            apart = np.abs(o.centre - target.centre).max(1)
            near = np.flatnonzero(apart < o.reach + target.reach)
            for t, points in zip(near, o.outline(near)):
                hiding[t].append(points)
        cover = np.ones(self.length)
        for t in np.flatnonzero(~inside | np.array([len(h) > 0 for h in hiding])):
            mask = np.zeros((HEIGHT // COVER_SCALE, WIDTH // COVER_SCALE), np.uint8)
            cv2.fillPoly(mask, [_small(outline[t])], 1)
            area = cv2.contourArea(outline[t].T.astype(np.float32)) / COVER_SCALE**2
            whole = max(area, np.count_nonzero(mask), 1)
            for points in hiding[t]:
                cv2.fillPoly(mask, [_small(points)], 0)
            cover[t] = np.count_nonzero(mask) / whole
        return cover

    def frame(self, index: int) -> np.ndarray:
        """RGB uint8 [HEIGHT, WIDTH, 3]."""
        rng = _seed(*self._id, "frame", index)
        image = cv2.warpAffine(
            self._backdrop,
            self._camera[index],
            (WIDTH, HEIGHT),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REFLECT_101,
        )
        for layer in [*self._distractors, self._target, *self._occluders]:
            layer.draw(image, index)
        image = self._blur(image, index)
        ramp = (np.arange(256) / 255) ** self._gamma
        table = (255 * ramp[:, None] * self._gain[index]).clip(0, 255).astype(np.uint8)
        image = cv2.LUT(image, table[None])
        if self._noise:
            image = _add_noise(image, self._noise, rng)
        return image

    def _blur(self, image: np.ndarray, index: int) -> np.ndarray:
        if (sigma := float(self._defocus[index])) > 0.3:
            image = cv2.GaussianBlur(image, (0, 0), sigma)
        motion = self._motion[index]
        if (length := float(np.hypot(*motion))) > 1.5:
            kernel = np.zeros((2 * _BLUR_HALF + 1,) * 2, np.float32)
            step = motion / length * min(length / 2, _BLUR_HALF)
            ends = [tuple(int(v) for v in np.rint(_BLUR_HALF + s * step)) for s in (-1, 1)]
            cv2.line(kernel, *ends, 1.0)
            image = cv2.filter2D(image, -1, kernel / kernel.sum())
        return image


def _small(outline: np.ndarray) -> np.ndarray:
    """Outline [2, ANGLES] -> polygon [ANGLES, 2] on the small cover image."""
    return np.rint(outline.T / COVER_SCALE - 0.5).astype(np.int32)


@functools.cache
def _rounding() -> np.ndarray:
    """[side, side, 1] brightness of a rounded body: 1.1 in the middle, 0.75 at the rim."""
    x = np.linspace(-1, 1, TEXTURE_SIDE)
    return 1.1 - 0.35 * np.minimum(x[:, None] ** 2 + x**2, 1)[..., None]


@functools.lru_cache(maxsize=4)
def _grain(level: float) -> tuple[np.ndarray, np.ndarray]:
    """Two [2H, 2W, 3] uint8 images: what noise of this standard deviation adds and what it takes away."""
    noise = np.rint(_seed("grain").standard_normal((2 * HEIGHT, 2 * WIDTH, 3), np.float32) * level)
    return noise.clip(0, 255).astype(np.uint8), (-noise).clip(0, 255).astype(np.uint8)


def _add_noise(image: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    """A random window of the grain on the image."""
    y, x = int(rng.integers(HEIGHT)), int(rng.integers(WIDTH))
    plus, minus = (g[y : y + HEIGHT, x : x + WIDTH] for g in _grain(level))
    return cv2.subtract(cv2.add(image, plus), minus)


class SyntheticSequences(Many):
    """The sequences of one split, made when asked for; the last few are kept."""

    def __init__(self, split: str):
        self.split = split

    def __len__(self) -> int:
        return SEQUENCES

    def __getitem__(self, number: int) -> SyntheticSequence:
        if not 0 <= number < SEQUENCES:
            raise IndexError(number)
        return _sequence(self.split, number)


@functools.lru_cache(maxsize=16)
def _sequence(split: str, number: int) -> SyntheticSequence:
    return SyntheticSequence(split, number)
