"""Synthetic video: a function of (name, sequence, frame), with honest boxes and real difficulties."""

import copy
import time

import cv2
import numpy as np
import pytest

from chase_fast.data import open_sources
from chase_fast.data.doctor import check
from chase_fast.data.synthetic import HEIGHT, WIDTH, SyntheticSequence
from chase_fast.data.synthetic_objects import Blob, Compound
from chase_fast.data.synthetic_truth import behind, bounds_inside


@pytest.fixture(scope="module")
def sequences():
    return [SyntheticSequence("test", i) for i in range(30)]


def test_frames_do_not_depend_on_order(sequences):
    fresh = SyntheticSequence("test", 2)
    later = fresh.frame(9)
    assert np.array_equal(fresh.frame(3), sequences[2].frame(3))
    assert np.array_equal(later, sequences[2].frame(9))
    assert later.shape == (HEIGHT, WIDTH, 3) and later.dtype == np.uint8
    assert not np.array_equal(later, fresh.frame(3))


def test_splits_differ():
    a, b = (SyntheticSequence(split, 0) for split in ("train", "val"))
    assert a.frame(0).tobytes() != b.frame(0).tobytes()
    assert len(a.boxes) != len(b.boxes) or not np.array_equal(a.boxes, b.boxes)


def test_boxes(sequences):
    for s in sequences:
        boxes = s.boxes[s.visible]
        assert s.visible[0] and len(s.visible) == len(s.boxes) >= 48
        assert np.isnan(s.boxes[~s.visible]).all()
        assert (boxes[:, :2] >= 0).all() and (boxes[:, 2:] > 1).all()
        assert (boxes[:, :2] + boxes[:, 2:] <= (WIDTH, HEIGHT)).all()


def test_box_frames_the_target(sequences):
    """Painting the target alone on black gives the box (up to the soft rim)."""
    for s in sequences:
        t = len(s.visible) // 2
        if not s.visible[t] or len(s._occluders):
            continue
        canvas = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        target = copy.copy(s._target)
        target.surfaces = [np.full_like(surface, 255) for surface in target.surfaces]
        target.__dict__.pop("_sprites", None)
        target.draw(canvas, t)
        x, y, w, h = cv2.boundingRect((canvas[..., 0] > 127).astype(np.uint8))
        low, high = s.boxes[t, :2], s.boxes[t, :2] + s.boxes[t, 2:]
        assert np.abs(np.array([x, y, x + w, y + h]) - [*low, *high]).max() < 3


ZOOM = 4


def zoomed(thing: Blob | Compound, grey: int) -> Blob | Compound:
    """The object ZOOM times as large, of one grey."""
    large = copy.copy(thing)
    large.__dict__.pop("_sprites", None)
    large.surfaces = [np.full_like(surface, grey) for surface in thing.surfaces]
    large.centre = thing.centre * ZOOM
    if isinstance(thing, Blob):
        large.half = thing.half * ZOOM
    else:
        large._linear, large._offset = thing._linear * ZOOM, thing._offset * ZOOM
        large._pixels = (thing._pixels * ZOOM).clip(8, 256)
    return large


def visible_bounds(sequence, t: int) -> np.ndarray | None:
    """x0, y0, x1, y1 of what the drawn target shows of itself, to 1 / ZOOM pixel."""
    canvas = np.zeros((HEIGHT * ZOOM, WIDTH * ZOOM, 3), np.uint8)
    zoomed(sequence._target, 255).draw(canvas, t)
    for occluder in sequence._occluders:
        zoomed(occluder, 0).draw(canvas, t)
    x, y, w, h = cv2.boundingRect((canvas[..., 0] > 127).astype(np.uint8))
    return np.array([x, y, x + w, y + h]) / ZOOM if w else None


def test_boxes_are_those_of_what_is_visible(sequences):
    """Everywhere: at the border of the image, behind occluders, turned and articulated."""
    errors, cut, hidden = [], 0, 0
    for s in [*sequences, *(SyntheticSequence("other", i) for i in range(20))]:
        outlines = s._target.outlines(np.arange(s.length))
        low, high = outlines.min((1, 3)), outlines.max((1, 3))
        for t in range(0, s.length, 7):
            drawn = visible_bounds(s, t)
            if not s.visible[t]:
                continue
            box = np.concatenate([s.boxes[t, :2], s.boxes[t, :2] + s.boxes[t, 2:]])
            errors.append(np.abs(drawn - box).max())
            whole = np.concatenate([low[t].clip(0, None), high[t].clip(None, (WIDTH, HEIGHT))])
            cut += not ((low[t] >= 0).all() and (high[t] <= (WIDTH, HEIGHT)).all())
            hidden += np.abs(whole - box).max() > 2
    # a strip thinner than half a pixel that shows between occluders is seen by the one or the other
    assert np.mean(np.array(errors) > 1) < 0.005 and np.quantile(errors, 0.99) < 1
    assert len(errors) > 500 and cut > 30 and hidden > 30


def test_a_target_that_cannot_be_seen_is_absent(sequences):
    gone = [(s, t) for s in sequences for t in np.flatnonzero(~s.visible)]
    assert len(gone) > 20
    for s, t in gone[:: len(gone) // 20]:
        canvas = np.zeros((HEIGHT * ZOOM, WIDTH * ZOOM, 3), np.uint8)
        zoomed(s._target, 255).draw(canvas, t)
        for occluder in s._occluders:
            zoomed(occluder, 0).draw(canvas, t)
        outlines = s._target.outlines(np.array([t]))[0]
        about = (np.ptp(outlines[:, 0]) * np.ptp(outlines[:, 1])) * ZOOM**2
        assert (canvas[..., 0] > 127).sum() < 0.11 * about


def polygon(*points: tuple[float, float]) -> np.ndarray:
    return np.array(points, float).T


def test_the_box_of_an_outline_inside_an_image():
    """Where clipping the box of the outline would be wrong: corners cut off, a hook about a corner."""
    diamond = polygon((10, -5), (15, 5), (10, 15), (5, 5))
    hook = polygon((-14, -14), (5, -14), (5, -12), (-12, -12), (-12, 38), (8, 38), (8, 40), (-14, 40))
    cases = [
        (diamond, [5, 0, 15, 15]),
        (diamond - [[10], [0]], [0, 0, 5, 15]),  # its left corner cut off
        (diamond - [[12], [7]], [0, 0, 2, 4]),
        (diamond - [[14.5], [12]], [0, 0, -1, -1]),  # in the box of the outline only
        (diamond * 100 - [[950], [450]], [0, 0, 100, 50]),  # the image is inside
        (diamond - [[40], [0]], [0, 0, -1, -1]),
        (hook, [0, 38, 8, 40]),
    ]
    for outline, expected in cases:
        (box,) = bounds_inside(outline[None, None], (100, 50))
        if expected[2] < 0:
            assert (box[:2] > box[2:]).all()
        else:
            np.testing.assert_allclose(box, expected, atol=1e-9)
    both = np.stack([diamond, diamond + [[30], [20]]])[None]
    np.testing.assert_allclose(bounds_inside(both, (100, 50)), [[5, 0, 45, 35]])


def test_what_occluders_leave_of_a_box():
    square, size = polygon((10, 10), (30, 10), (30, 30), (10, 30)), (40, 40)
    box = np.array([10.0, 10, 30, 30])
    left, middle = (polygon((x, 0), (x + 8, 0), (x + 8, 40), (x, 40)) for x in (8, 15))
    for hiding, expected, share in (
        ([], box, 1),
        ([left], [16, 10, 30, 30], 0.7),
        ([middle], box, 0.6),
        ([left, middle], [23, 10, 30, 30], 0.35),
    ):
        found, cover = behind(box, square[None], hiding, size)
        np.testing.assert_allclose(found, expected, atol=0.5)
        assert cover == pytest.approx(share, abs=0.05)
    shifted = square + [[20], [0]]
    found, cover = behind(np.array([30.0, 10, 40, 30]), shifted[None], [left + [[20], [0]]], size)
    np.testing.assert_allclose(found, [36, 10, 40, 30], atol=0.5)
    assert cover == pytest.approx(0.2, abs=0.05)
    assert behind(box, square[None] + 100, [], size)[1] == 0
    assert behind(box, square[None], [square * 2 - 15], size)[1] == 0


def test_many_targets_have_parts_that_differ_and_move(sequences):
    bodies = [s._target for s in sequences if isinstance(s._target, Compound)]
    assert 0.35 < len(bodies) / len(sequences) < 0.85
    distractors = [d for s in sequences for d in s._distractors]
    assert 0.35 < np.mean([isinstance(d, Compound) for d in distractors]) < 0.85
    spread, motion = [], []
    for body in bodies:
        assert 2 <= len(body.parts) <= 8 and max(p.surface for p in body.parts) == len(body.surfaces) - 1
        spread.append(np.std([surface.mean((0, 1)) for surface in body.surfaces], axis=0).mean())
        middle = body.outlines(np.arange(20)).mean(-1)  # [T, P, 2]
        apart = np.linalg.norm(middle - middle[:, :1], axis=-1)
        motion.append((np.ptp(apart, axis=0) / body.outlines(np.arange(1)).std()).max())
    assert np.median(spread) > 15 and np.median(motion) > 0.1


def test_it_is_hard(sequences):
    absent = [1 - s.visible.mean() for s in sequences]
    assert np.mean(absent) < 0.3 and np.mean(np.array(absent) > 0.02) > 0.1, "some targets leave or hide"
    assert np.mean([len(s._distractors) > 0 for s in sequences]) > 0.5
    assert np.mean([len(s._occluders) > 0 for s in sequences]) > 0.2
    sides = [np.sqrt(s.boxes[s.visible][:, 2:].prod(1)) for s in sequences]
    assert np.mean([side.max() / side.min() > 1.5 for side in sides]) > 0.3, "scale changes"
    centres = [s.boxes[:, :2] + s.boxes[:, 2:] / 2 for s in sequences]
    speed = np.concatenate([np.hypot(*np.diff(c, axis=0).T) for c in centres])
    assert 1 < np.nanmedian(speed) < 12 and np.nanquantile(speed, 0.95) > 8
    brightness = [np.mean([s.frame(t).mean() for t in range(0, 48, 12)]) for s in sequences]
    assert min(brightness) > 25 and max(brightness) < 245 and np.std(brightness) > 15
    assert np.mean([s.frame(5).std() > 15 for s in sequences]) > 0.8, "scenes are textured"


def test_a_plain_tracker_fails_on_some(sequences):
    """Correlation with the first frame's target finds it at once, and loses it on part of the later ones."""

    def found(s, t):
        x, y, w, h = np.rint(s.boxes[0]).astype(int)
        match = cv2.matchTemplate(s.frame(t), s.frame(0)[y : y + h, x : x + w], cv2.TM_CCOEFF_NORMED)
        left, top = cv2.minMaxLoc(match)[3]
        centre = s.boxes[t, :2] + s.boxes[t, 2:] / 2
        return np.hypot(*(np.array([left + w / 2, top + h / 2]) - centre)) < 0.5 * np.sqrt(w * h)

    assert all(found(s, 0) for s in sequences[:10])
    later = [found(s, 40) for s in sequences if s.visible[40]]
    assert 0.1 < np.mean(later) < 0.85


def test_source_is_lazy_and_fast():
    start = time.perf_counter()
    (source,) = open_sources("synthetic:lazy")
    assert time.perf_counter() - start < 0.5 and len(source.sequences) == 10_000
    with pytest.raises(IndexError):
        source.sequences[10_000]


def test_doctor():
    report = check("synthetic:test", progress=False)
    assert report.ok and report.sequences == 8 and "rendered 8 of 10000" in str(report)
