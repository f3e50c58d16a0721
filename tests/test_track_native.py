"""The native form of the tracker (csrc/tracker) finds the boxes of the torch form."""

import functools
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from chase_fast.engines.constants import constants_of
from chase_fast.errors import ChaseError
from chase_fast.kernels._native import native
from chase_fast.nn.genotype import CHASE
from chase_fast.nn.spec import TrackerSpec
from chase_fast.track import MultiTracker, Tracker
from chase_fast.track.native import Native, settings_numbers
from chase_fast.track.settings import TrackSettings, settings_for
from tests import moving
from tests.mirror import Mirror
from tests.tolerances import NATIVE_PX

FRAMES, BOXES = moving.video(8)
SPECS = {
    "cell": TrackerSpec("prdimp", "resnet18", CHASE, channels=16),
    "prdimp": TrackerSpec("prdimp", "resnet18"),
    "dimp": TrackerSpec("dimp", "resnet18"),
}


@functools.cache
def network(name: str):
    """A random network whose maps are of order 1, and its architecture."""
    torch.manual_seed(0)
    spec = SPECS[name]
    net = spec.build().train()
    with torch.no_grad():
        layers = net.feature_extractor(torch.randn(8, 3, 64, 64))
        net.neck(*layers)
        net.bb_regressor.features(*layers)
        net.bb_regressor.modulation(*layers, torch.tensor([[8.0, 8.0, 32.0, 32.0]]).expand(8, 4))
    if spec.classifier == "prdimp":  # published start weights are 0
        torch.nn.init.normal_(net.classifier.filter_initializer.filter_conv.weight, std=0.02)
    torch.nn.init.normal_(net.classifier.filter_initializer.filter_conv.bias, std=0.02)
    return net.eval(), spec


@pytest.fixture
def known():
    return network("prdimp")


def both(known, settings: TrackSettings, seed: int = 0) -> tuple[Tracker, Tracker]:
    net, spec = known
    return (
        Tracker(net, spec, settings, "cpu", seed),
        Tracker(net, spec, settings, "cpu", seed, engine=Mirror(net)),
    )


def small(spec: TrackerSpec, **changes) -> TrackSettings:
    low = 0.0 if spec.classifier == "prdimp" else -100.0
    return settings_for(spec, **{"image_size": 96, "lost_below": low, "update_interval": 2} | changes)


FORMS = {
    "published": {},
    "own": {"half_pixel_offset": False, "thinning_offset": False, "first_box_offset": False,
            "lost_outside": True, "smallest_side": 1.0, "largest_side": 4.0},
    "replicate": {"border": "replicate", "integer_window": False},
    "inside": {"border": "inside", "shrink_first": True},
    "default": {"space": "default", "step": 1.0, "step_decay": 0.9, "score_after": True},
    "steps": {"step": (1e-3, 5e-3), "keep_position": True, "refine_iterations": 3, "best_boxes": 1},
    "still": {"refine_iterations": 0, "random_boxes": 0},
    "full": {"memory": 17, "init_weight": 0.5, "update_interval": 1},
    "plain": {"flip": False, "blurs": (), "rotations": (), "shifts": (), "dropouts": ()},
}  # fmt: skip


@pytest.mark.parametrize(
    "name, form", [("cell", "published"), ("dimp", "published"), *(("prdimp", form) for form in FORMS)]
)
def test_boxes_are_those_of_the_torch_form(name, form):
    known = network(name)
    settings = small(known[1], **FORMS[form])
    ours, theirs = both(known, settings, seed=3)
    for tracker in (ours, theirs):
        tracker.init(FRAMES[0], BOXES[0])
    filter = np.array(theirs._target.native.filter).reshape(ours._target.filter.shape)
    expected = ours._target.filter.numpy()
    assert np.linalg.norm(filter - expected) < 1e-4 * np.linalg.norm(expected)
    for found, wanted in zip(theirs._target.native.modulation, ours._target.modulation, strict=True):
        np.testing.assert_allclose(found, wanted.flatten(), rtol=1e-4, atol=1e-5)
    for frame in FRAMES[1:]:
        wanted, found = ours.update(frame), theirs.update(frame)
        np.testing.assert_allclose(found.box, wanted.box, rtol=0, atol=NATIVE_PX)
        assert found.state == wanted.state
        assert found.score == pytest.approx(wanted.score, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("border", ["replicate", "inside", "inside_major"])
@pytest.mark.parametrize("box", [(-10, 5, 400, 300), (110, 80, 30, 30), (3, 4, 1, 1), (0, 0, 120, 2)])
def test_any_frame_and_target_size(known, border, box):
    """Frames that change size, smaller than the target or thin, and lie in memory in any order; the box may
    hang over the border."""
    settings = small(known[1], border=border, refine_iterations=2)
    sizes = [(90, 120), (90, 120), (45, 200), (300, 20), (12, 9), (480, 640)]
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (*size, 3), dtype=np.uint8)[::-1, :, ::-1] for size in sizes]
    ours, theirs = both(known, settings)
    for tracker in (ours, theirs):
        tracker.init(frames[0], box)
    for frame in frames[1:]:
        wanted, found = ours.update(frame), theirs.update(frame)
        np.testing.assert_allclose(found.box, wanted.box, rtol=1e-4, atol=NATIVE_PX)
        # chaotic from here on: noise is no target, and rounding decides between equal peaks
        theirs._target.move(wanted.box)
        ours._target.place = type(ours._target.place).of(wanted.box, settings)


def test_several_targets_are_found_where_single_trackers_find_them(known):
    net, spec = known
    boxes = [tuple(BOXES[0]), (30, 40, 60, 30)]
    many = MultiTracker(net, spec, small(spec), "cpu", engine=Mirror(net))
    expected = MultiTracker(net, spec, small(spec), "cpu")
    for tracker in (many, expected):
        tracker.init(FRAMES[0], boxes[:1])
        tracker.add(FRAMES[0], boxes[1])
    for frame in FRAMES[1:4]:
        for found, wanted in zip(many.update(frame), expected.update(frame), strict=True):
            np.testing.assert_allclose(found.box, wanted.box, rtol=0, atol=NATIVE_PX)
    many.remove(0)
    assert len(many.update(FRAMES[4])) == 1
    many.init(FRAMES[0], [])
    assert many.update(FRAMES[1]) == []


def test_a_network_that_gives_nan_loses_the_target_and_says_so_once(known, caplog):
    net, spec = known
    mirror = Mirror(net)
    tracker = Tracker(net, spec, small(spec), "cpu", engine=mirror)
    tracker.init(FRAMES[0], BOXES[0])
    run = mirror.run
    mirror.run = lambda *a: [np.full_like(part, np.nan) for part in run(*a)]
    results = [tracker.update(frame) for frame in FRAMES[1:4]]
    assert {r.state for r in results} == {"lost"} and {r.score for r in results} == {0.0}
    np.testing.assert_allclose([r.box for r in results], [BOXES[0]] * 3)
    assert caplog.text.count("NaN or boundless") == 1


def test_steps_come_in_their_order_and_arrays_are_checked(known):
    net, spec = known
    settings = small(spec)
    model = native().TrackerModel(settings_numbers(settings), *constants_of(net), 1)
    target = native().TrackerTarget(model, 0, 0)
    frame = FRAMES[0]
    with pytest.raises(ValueError, match="learn_first comes after first"):
        target.learn_first(frame, frame, frame)
    with pytest.raises(ValueError, match="look comes after learn_first"):
        target.look(frame, np.empty((96, 96, 3), np.float32))
    with pytest.raises(ValueError, match="find comes after look"):
        target.find(frame, frame, frame)
    for wrong in (frame[..., :2], frame.astype(np.float32), frame[:, ::2], np.empty((0, 4, 3), np.uint8)):
        with pytest.raises(ValueError, match="frame must be uint8"):
            target.first(wrong, tuple(BOXES[0]))
    features, low, high = Mirror(net).run(target.first(frame, tuple(BOXES[0])), ("features", "low", "high"))
    for given in ((features[:1], low[0], high[0]), (features, low, high[0]), (features, low[0], high[0])):
        with pytest.raises(ValueError, match=r"must be|wrong channels"):
            target.learn_first(*given)


def test_constants_that_are_no_trackers_are_refused(known):
    net, spec = known
    settings, (numbers, arrays) = small(spec), constants_of(net)
    cases = [
        (settings_numbers(settings), numbers | {"channels": [0]}, arrays, "channels"),
        (settings_numbers(settings), numbers | {"more": [1]}, arrays, "more is unknown"),
        (settings_numbers(settings), numbers, arrays | {"more": arrays["head_bias"]}, "more is unknown"),
        (settings_numbers(settings), numbers, arrays | {"head_bias": np.zeros(2, np.float32)}, "head_bias"),
        (settings_numbers(settings), numbers, arrays | {"head_bias": np.zeros(1)}, "head_bias"),
        (settings_numbers(settings) | {"step": [1]}, numbers, arrays, "step"),
        (settings_numbers(settings) | {"image_size": [100]}, numbers, arrays, "image_size"),
        ({k: v for k, v in settings_numbers(settings).items() if k != "flip"}, numbers, arrays, "flip"),
    ]
    for *given, message in cases:
        with pytest.raises(ValueError, match=message):
            native().TrackerModel(*given, 1)
    with pytest.raises(ChaseError, match="no tracker's"):
        Native(Mirror(net), settings, numbers | {"bins": [3.5]}, {}, "fp32")


def test_a_model_of_another_network_is_refused_in_one_line(known):
    net, spec = known
    tracker = Tracker(net, spec, small(spec), "cpu", engine=Mirror(network("cell")[0]))
    with pytest.raises(ChaseError, match=r"mirror: the model is not that of these constants \(features must"):
        tracker.init(FRAMES[0], BOXES[0])


def test_random_numbers_are_those_of_numpy(known):
    """They decide shifts, dropouts and random boxes: with other targets and seeds boxes differ."""
    settings = small(known[1], random_boxes=4)
    found = []
    for seed in (0, 2**31 + 7):
        ours, theirs = both(known, settings, seed)
        for tracker in (ours, theirs):
            tracker.init(FRAMES[0], BOXES[0])
        wanted = ours.update(FRAMES[1]).box
        np.testing.assert_allclose(theirs.update(FRAMES[1]).box, wanted, rtol=0, atol=NATIVE_PX)
        found.append(wanted)
    assert np.abs(np.subtract(*found)).max() > 10 * NATIVE_PX


def test_threads_change_no_box(known):
    net, spec = known
    settings = small(spec)
    mirror, found = Mirror(net), []
    for threads in (1, 3):
        tracker = Tracker(net, spec, settings, "cpu", engine=mirror)
        numbers = settings_numbers(settings)
        tracker._native._model = native().TrackerModel(numbers, *constants_of(net), threads)
        tracker.init(FRAMES[0], BOXES[0])
        found.append([tracker.update(frame).box for frame in FRAMES[1:]])
    np.testing.assert_array_equal(*found)


def test_the_parts_without_torch_stay_without_torch():
    code = """
import sys
import chase_fast.track.native, chase_fast.track.tracker, chase_fast.track.multi, chase_fast.track.session
import chase_fast.engines.folder, chase_fast.export.__main__
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_setting_reaches_the_native_form():
    """settings_numbers has every field: a new one that csrc/tracker does not know is refused there."""
    numbers = settings_numbers(TrackSettings())
    assert len(numbers) == len(TrackSettings.__dataclass_fields__) - 1  # name
    changed = settings_numbers(replace(TrackSettings(), largest_side=2.0, step=(1.0, 2.0), blurs=((1, 2),)))
    assert changed["largest_side"] == [2.0] and changed["step"] == [1.0, 2.0] and changed["blurs"] == [1, 2]
