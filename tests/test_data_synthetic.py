"""Synthetic video: a function of (name, sequence, frame), with honest boxes and real difficulties."""

import copy
import time

import cv2
import numpy as np
import pytest

from chase_fast.data import open_sources
from chase_fast.data.doctor import check
from chase_fast.data.synthetic import HEIGHT, WIDTH, SyntheticSequence
from chase_fast.data.synthetic_objects import Compound


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
