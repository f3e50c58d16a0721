"""Bodies of synthetic video: persons, vehicles, animals and random heaps, as lists of articulated parts."""

import numpy as np

from chase_fast.data.synthetic_objects import OUTLINES, Part

_BOX, _ELLIPSE, _WEDGE = 0, 1, 2
_HALF_TURN = np.pi


def random_body(rng: np.random.Generator) -> list[Part]:
    """2 to 8 parts; parts of one `surface` number look alike (both legs, arms and shirt)."""
    kind = (_person, _person, _vehicle, _animal, _heap)[rng.integers(5)]
    parts = kind(rng)
    if rng.random() < 0.5:  # looks the other way
        parts = [
            p._replace(joint=(-p.joint[0], p.joint[1]), angle=-p.angle, spin=-p.spin, swing=-p.swing)
            for p in parts
        ]
    return parts


def _person(rng: np.random.Generator) -> list[Part]:
    width, hip = rng.uniform(0.3, 0.46), rng.uniform(0.05, 0.3)
    stride, arm_swing = rng.uniform(0.05, 0.6), rng.uniform(0.1, 0.9)
    leg = (rng.uniform(0.1, 0.2), (1.3 - hip) / 1.9)
    arm = (rng.uniform(0.07, 0.12), rng.uniform(0.35, 0.5))
    sleeve = int(rng.choice((0, 0, 1, 3)))
    spread = rng.uniform(0, 1)  # 0 seen from the side .. 1 from the front
    apart, reach = spread * width * 0.5, spread * width * 0.9
    legs = [
        Part((x, hip), leg, 0.9, -0.15 * np.sign(x) * spread, stride, phase, surface=2, outline=outline)
        for x, phase, outline in ((-apart, 0, _BOX), (apart, _HALF_TURN, _BOX))
    ]
    arms = [
        Part((x, -0.72), arm, 0.85, rest, arm_swing, phase, surface=sleeve, outline=_BOX)
        for x, rest, phase in ((-reach, 0.2 * spread, _HALF_TURN), (reach, -0.2 * spread, 0))
    ]
    height = (hip + 0.85) / 2 + 0.05
    torso = Part((0, hip - height + 0.05), (width, height), outline=int(rng.integers(3)), swing=0.03)
    head = Part((0, -0.8), (rng.uniform(0.17, 0.25), rng.uniform(0.22, 0.3)), -0.9, swing=0.1, surface=1)
    parts = [*legs, torso, head]
    if rng.random() < 0.75:
        parts = [arms[0], *parts, arms[1]]
    if rng.random() < 0.2:  # a bag
        parts.append(Part((0.9 * width, 0), (0.25, 0.3), 0.5, 0, 0.15, surface=4, outline=_BOX))
    return parts


def _vehicle(rng: np.random.Generator) -> list[Part]:
    long, low = rng.uniform(0.9, 1.4), rng.uniform(0.25, 0.45)
    cabin = rng.uniform(0.4, 0.8) * long
    where = rng.uniform(-0.25, 0.25) * long
    wheel = rng.uniform(0.17, 0.28)
    spin = rng.uniform(0.1, 0.9)
    top, tall = 0.2 - low, rng.uniform(0.25, 0.4)
    roof = Part((where, top), (cabin, tall), -0.8, surface=int(rng.integers(2)), outline=_WEDGE)
    glass = Part((where, top), (0.75 * cabin, 0.6 * tall), -1.3, surface=2, outline=_WEDGE)
    body = Part((0, 0.2), (long, low), outline=int(rng.choice((_BOX, _BOX, _WEDGE, 3))))
    parts = [roof, body, glass]
    for x in (-1, 1):
        parts.append(Part((x * 0.62 * long, 0.2 + low), (wheel, wheel), spin=spin, surface=3))
    if rng.random() < 0.4:
        parts.append(Part((0.9 * long, 0.1), (0.1, 0.08), surface=4))
    if rng.random() < 0.3:  # a thin pole
        pole = Part((where - 0.5 * cabin, top), (0.03, 0.5), -0.9, -0.2, 0.05, surface=4, outline=_BOX)
        parts.insert(0, pole)
    return parts


def _animal(rng: np.random.Generator) -> list[Part]:
    long, thick = rng.uniform(0.6, 0.95), rng.uniform(0.25, 0.42)
    leg = (rng.uniform(0.06, 0.14), rng.uniform(0.25, 0.5))
    stride = rng.uniform(0.1, 0.7)
    legs = [
        Part((x * long, 0.6 * thick), leg, 0.8, 0, stride, phase, surface=2, outline=_BOX)
        for x, phase in zip((-0.75, -0.6, 0.6, 0.75), rng.permutation(4) * (_HALF_TURN / 2))
    ][:: int(rng.integers(1, 3))]
    torso = Part((0, 0), (long, thick), swing=0.04, outline=int(rng.choice((_BOX, _ELLIPSE, _ELLIPSE, 4, 5))))
    chest, tall, lean = (0.85 * long, -0.3 * thick), rng.uniform(0.2, 0.4), rng.uniform(0.1, 0.9)
    neck = Part(chest, (0.13, tall), -0.7, lean, 0.1)
    crown = (chest[0] + 1.5 * tall * np.sin(lean), chest[1] - 1.5 * tall * np.cos(lean))
    head = Part(crown, (rng.uniform(0.18, 0.32), rng.uniform(0.15, 0.22)), 0, 0.2, 0.2, surface=1)
    parts = [*legs, neck, torso, head]
    if rng.random() < 0.6:
        tail = (rng.uniform(0.03, 0.08), rng.uniform(0.25, 0.45))
        parts.insert(0, Part((-0.95 * long, -0.2 * thick), tail, 0.9, rng.uniform(0.2, 2), 0.5, surface=3))
    return parts


def _heap(rng: np.random.Generator) -> list[Part]:
    """Random parts, each on the rim of an earlier one."""
    parts = [_random_part(rng, (0.0, 0.0), 0, surface=0)]
    for k in range(1, int(rng.integers(2, 7))):
        base = parts[rng.integers(k)]
        way = rng.uniform(0, 2 * np.pi)
        x = base.joint[0] + 0.85 * base.size[0] * np.cos(way)
        y = base.joint[1] + 0.85 * base.size[1] * np.sin(way)
        parts.append(_random_part(rng, (float(np.clip(x, -1, 1)), float(np.clip(y, -1, 1))), 0.7, surface=k))
    return parts


def _random_part(rng: np.random.Generator, joint: tuple[float, float], hang: float, surface: int) -> Part:
    thin = rng.random() < 0.15
    size = rng.uniform(0.25, 0.7), rng.uniform(0.25, 0.7)
    size = (0.08, size[1]) if thin and hang else size
    swing = rng.uniform(0, 0.5) if hang else 0.0
    way, phase = rng.uniform(0, 2 * np.pi, 2)
    return Part(joint, size, hang, way, swing, phase, surface=surface, outline=int(rng.integers(OUTLINES)))
