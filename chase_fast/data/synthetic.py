"""Synthetic video: moving, deforming textured targets in textured scenes, without any file.

`synthetic:NAME` is a set of SEQUENCES sequences; NAME seeds it, so train, val and holdout never share a
sequence, a scene or a texture. Frame i of sequence k depends on (NAME, k, i) alone and can be rendered in any
order.

Targets and distractors are deforming shapes of one texture or, mostly, articulated bodies of several parts
that differ in texture and outline (synthetic_objects). What makes it hard: a moving, turning, zooming,
shaking camera; targets that deform, turn, change scale and aspect, some fast; look-alikes (same shape and
textures, or one part the same) close by; occluders in the scene and passing ones; motion and defocus blur;
light that changes slowly or flickers; sensor noise; targets that look like the scene, wholly or in one
part; targets that leave the view. Boxes surround what is visible of the target, inside the image and not
behind an occluder, as those of GOT-10k, LaSOT and TrackingNet do; a frame with less than MIN_COVER of the
target visible is marked absent (NaN box).

Render path per frame: warp the scene by the camera, draw distractors, target and occluders (each part one
remap of its texture inside its bounding box), then blur, light and noise.
"""

import functools
import hashlib
from typing import NamedTuple

import cv2
import numpy as np

from chase_fast.data.decode import Picture
from chase_fast.data.on_demand import OnDemand
from chase_fast.data.synthetic_bodies import random_body
from chase_fast.data.synthetic_objects import TEXTURE_SIDE, Blob, Compound, Part, smooth
from chase_fast.data.synthetic_truth import behind, bounds_inside
from chase_fast.data.textures import Shape, fractal, scene, texture

VERSION = 2  # of what is drawn for a seed: a run on other video cannot go on
HEIGHT, WIDTH = 240, 320
SEQUENCES = 10_000
MIN_COVER = 0.1
SCENES, TEXTURES = 20, 96
SCENE_HW = (480, 640)
SHADES = 24
COMPOUND = 0.6  # share of targets and distractors made of several parts
FAST = 0.15  # share of fast targets
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
        pan = smooth(rng, t, rng.uniform(10, 40), (2,)) * rng.choice((3, 30, 90))
        shake = smooth(rng, t, 1.6, (2,)) * rng.choice((0, 0, 0.8, 2.5))
        zoom = np.exp(smooth(rng, t, 30) * rng.choice((0, 0.05, 0.15))) * rng.uniform(0.7, 1.3)
        turn = smooth(rng, t, 25) * rng.choice((0, 0.03, 0.12))
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
        fast = rng.random() < FAST
        period = rng.choice((5, 8) if fast else (10, 18, 32))
        path = smooth(rng, t, period, (2,)) * view * rng.uniform(0.1, 0.35)
        path += rng.uniform(-0.25, 0.25, 2) * view - path[0]
        if rng.random() < 0.25:  # leaves the view
            path *= 1.6
        else:
            path = 0.42 * view * np.tanh(path / (0.42 * view))
        path += middle + smooth(rng, t, 2.0, (2,)) * rng.choice((0, 0.5, 1.5))
        side = np.exp(rng.uniform(np.log(11), np.log(36)))
        scale = np.exp(smooth(rng, t, rng.uniform(15, 40)) * rng.choice((0.05, 0.15, 0.35)))
        aspect = np.exp(smooth(rng, t, rng.uniform(12, 40)) * rng.choice((0, 0.1, 0.25)))
        half = ((side * scale)[:, None] * np.stack([aspect, 1 / aspect], 1)).clip(6, 75)
        angle = smooth(rng, t, rng.uniform(12, 40)) * rng.choice((0.05, 0.3, 1.0)) + rng.uniform(-0.3, 0.3)
        look = self._look(rng, hide=0.25)
        self._target = look.place(path, half, angle)

        self._distractors = []
        for _ in range(rng.choice((0, 1, 2, 3, 4))):
            alike = rng.random() < 0.6
            offset = rng.uniform(-1, 1, 2) * (110, 80) + smooth(rng, t, rng.uniform(10, 30), (2,)) * 40
            other = look if alike else self._look(rng, hide=0.0)
            if not alike and rng.random() < 0.5:  # the same shirt
                shared = look.surfaces[rng.integers(len(look.surfaces))]
                other.surfaces[rng.integers(len(other.surfaces))] = shared
            self._distractors.append(
                other.place(
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
                Blob(
                    Shape.random(rng),
                    self._surface(rng, hide=0.4 * (rng.random() < 0.5)),
                    where,
                    np.repeat(size[None], t, 0),
                    np.full(t, rng.uniform(-0.2, 0.2)),
                )
            )

    def _look(self, rng: np.random.Generator, hide: float) -> "_Look":
        """A random object; hide: probability that it is mixed with the scene."""
        mix = 0.4 * (rng.random() < hide)
        if rng.random() >= COMPOUND:
            shape = Shape.random(rng, rng.choice((0.0, 0.5, 1.0)))
            return _Look(shape, None, [self._surface(rng, mix)], 0.0)
        parts = random_body(rng)
        count = 1 + max(p.surface for p in parts)
        lost = int(rng.integers(count)) if rng.random() < 0.3 else -1  # a part hard to tell from the scene
        surfaces = [self._surface(rng, 0.75 if k == lost else mix) for k in range(count)]
        return _Look(None, parts, surfaces, rng.uniform(0.1, 0.7))

    def _surface(self, rng: np.random.Generator, hide: float) -> np.ndarray:
        """Texture of an object, `hide` of it the scene's; shaded and darker to its rim, sometimes blurred."""
        patch = _texture(self._id[0], int(rng.integers(TEXTURES)))
        if hide:
            y, x = (int(rng.integers(n - TEXTURE_SIDE)) for n in SCENE_HW)
            backdrop = self._backdrop[y : y + TEXTURE_SIDE, x : x + TEXTURE_SIDE]
            patch = cv2.addWeighted(patch, 1 - hide, backdrop, hide, 0)
        if rng.random() < 0.4:  # cloth, paint: little texture of its own
            patch = cv2.blur(patch, (int(rng.choice((5, 9, 21))),) * 2)
        shade = _shade(self._id[0], int(rng.integers(SHADES))) * np.float32(rng.uniform(0.8, 1.2))
        return cv2.multiply(patch, shade, dtype=cv2.CV_8U)

    def _make_weather(self, rng: np.random.Generator) -> None:
        t = self.length
        light = smooth(rng, t, rng.uniform(10, 40)) * rng.choice((0.02, 0.1, 0.3))
        light += rng.standard_normal(t) * rng.choice((0, 0, 0.06))  # flicker
        self._gain = np.exp(light)[:, None] * np.exp(rng.normal(0, 0.06, 3)) * rng.uniform(0.6, 1.25)
        self._gamma = float(np.exp(rng.normal(0, 0.2)))
        focus = smooth(rng, t, 12) * rng.choice((0, 1.0, 1.8)) + rng.choice((-0.4, 0, 0.8))
        self._defocus = focus.clip(0, 3)
        speed = np.gradient(self._target.centre, axis=0)
        self._motion = speed * rng.choice((0, 0.4, 0.9))  # shutter: share of the frame time
        self._noise = float(rng.choice((0, 3, 8)))

    def _measure(self) -> None:
        """Boxes and visibility; occluders that hide it at the start or mostly are taken away."""
        bounds, cover = self._visible_parts()
        if cover[0] < 0.5 or np.mean(cover >= MIN_COVER) < 0.5:
            self._occluders = []
            bounds, cover = self._visible_parts()
        low, size = bounds[:, :2], bounds[:, 2:] - bounds[:, :2]
        self.visible = (cover >= MIN_COVER) & (size > 1).all(1)
        self.boxes = np.where(self.visible[:, None], np.concatenate([low, size], 1), np.nan)

    def _visible_parts(self) -> tuple[np.ndarray, np.ndarray]:
        """Bounds [T, 4] (x0, y0, x1, y1) of what is visible of the target, and its share of it [T]."""
        view = WIDTH, HEIGHT
        outlines = self._target.outlines(np.arange(self.length))  # [T, parts, 2, N]
        low, high = outlines.min((1, 3)), outlines.max((1, 3))
        hiding: list[list[np.ndarray]] = [[] for _ in range(self.length)]  # outlines that may cover
        for o in self._occluders:
            apart = np.maximum(low - o.centre, o.centre - high).max(1)
            near = np.flatnonzero(apart < o.reach)
            shapes = o.outlines(near)[:, 0]  # [F, 2, N]
            meets = (shapes.max(-1) > low[near]) & (shapes.min(-1) < high[near])
            for t, shape in zip(near[meets.all(1)], shapes[meets.all(1)]):
                hiding[t].append(shape)
        bounds, cover = np.concatenate([low, high], 1), np.ones(self.length)
        cut = (low < 0).any(1) | (high > view).any(1)
        bounds[cut] = bounds_inside(outlines[cut], view)
        for t in np.flatnonzero(cut | np.array([len(h) > 0 for h in hiding])):
            bounds[t], cover[t] = behind(bounds[t], outlines[t], hiding[t], view)
        return bounds, cover

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

    def picture(self, index: int, windows: int = 1) -> Picture:
        return Picture(self.frame(index))

    def _blur(self, image: np.ndarray, index: int) -> np.ndarray:
        if (sigma := float(self._defocus[index])) > 0.3:
            image = cv2.GaussianBlur(image, (0, 0), sigma)
        motion = self._motion[index]
        if (length := float(np.hypot(*motion))) > 1.5:
            kernel = np.zeros((2 * _BLUR_HALF + 1,) * 2, np.float32)
            step = motion / length * min(length / 2, _BLUR_HALF)
            start, end = (np.rint(_BLUR_HALF + s * step).astype(int).tolist() for s in (-1, 1))
            cv2.line(kernel, start, end, 1.0)
            image = cv2.filter2D(image, -1, kernel / kernel.sum())
        return image


class _Look(NamedTuple):
    """What an object looks like, wherever it is: a shape with one texture, or parts."""

    shape: Shape | None
    parts: list[Part] | None
    surfaces: list[np.ndarray]
    gait: float  # radians per frame

    def place(
        self, centre: np.ndarray, half: np.ndarray, angle: np.ndarray, tempo: float = 1.0
    ) -> Blob | Compound:
        """The object on a path; see Blob."""
        if self.parts is None:
            assert self.shape is not None
            return Blob(self.shape, self.surfaces[0], centre, half, angle, tempo)
        gait = np.arange(len(centre)) * (self.gait * tempo) + 5 * tempo
        return Compound(self.parts, self.surfaces, centre, half, angle, gait)


@functools.lru_cache(maxsize=2 * SHADES)
def _shade(name: str, number: int) -> np.ndarray:
    """[side, side, 3] float32 light on a rounded body: darker to the rim and one side, soft shadows."""
    rng = _seed(name, "shade", number)
    x = np.linspace(-1, 1, TEXTURE_SIDE, dtype=np.float32)
    light = 1.1 - rng.uniform(0.1, 0.4) * np.minimum(x[:, None] ** 2 + x**2, 1)
    way = rng.uniform(0, 2 * np.pi)
    light += rng.uniform(0, 0.35) * (np.cos(way) * x + np.sin(way) * x[:, None])
    light *= 1 + rng.choice((0, 0.4, 0.9)) * (fractal(rng, TEXTURE_SIDE, rng.uniform(0.2, 0.5)) - 0.5)
    return np.repeat(light.astype(np.float32)[..., None], 3, 2)


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


class SyntheticSequences(OnDemand[SyntheticSequence]):
    """The sequences of one split, made when asked for; the last few are kept."""

    def __init__(self, split: str):
        self.split = split

    def __len__(self) -> int:
        return SEQUENCES

    def item(self, place: int) -> SyntheticSequence:
        return _sequence(self.split, place)


@functools.lru_cache(maxsize=16)
def _sequence(split: str, number: int) -> SyntheticSequence:
    return SyntheticSequence(split, number)
