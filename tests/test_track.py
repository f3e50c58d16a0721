"""The trackers as users meet them: following, several targets, determinism, settings, bad input."""

import dataclasses
import logging
import re

import numpy as np
import pytest
import torch
from torch._subclasses import FakeTensorMode

from chase_fast.checkpoint import load_tracker, pack_tracker
from chase_fast.errors import ChaseError
from chase_fast.kernels import box_ascent
from chase_fast.kernels.localize.reference import best_box
from chase_fast.nn.genotype import Genotype
from chase_fast.nn.inference import fold
from chase_fast.nn.spec import TrackerSpec
from chase_fast.nn.tracker_net import TrackerNet
from chase_fast.published import pack_pytracking, to_pytracking_state
from chase_fast.track import PRESETS, MultiTracker, Tracker
from chase_fast.track.frames import to_rgb8
from chase_fast.track.refine import BoxHead, refine
from chase_fast.track.settings import OWN, PUBLISHED, TrackSettings, published, settings_for
from chase_fast.track.step import locate
from tests import moving
from tests.tolerances import BATCHED_PX, KERNEL, assert_close

CELL = Genotype(((("skip_connect", 1), ("sep_conv_3x3", 0)), (("skip_connect", 1), ("skip_connect", 2))))
SPEC = TrackerSpec("prdimp", "resnet18", CELL, channels=16)
FRAMES, BOXES = moving.video(5)
PLAIN = {"random_boxes": 0, "random_shift": 0.0, "dropouts": ()}  # nothing random


@pytest.fixture(scope="module")
def net() -> TrackerNet:
    return SPEC.build().eval()


def small(spec: TrackerSpec = SPEC, **changes) -> TrackSettings:
    quick = {"image_size": 96, "init_iterations": 3, "refine_iterations": 2, "lost_below": 0.0}
    return settings_for(spec, **(quick | changes))


def follow(tracker: Tracker, frames=FRAMES, box=BOXES[0]) -> np.ndarray:
    tracker.init(frames[0], box)
    return np.array([tracker.update(frame).box for frame in frames[1:]])


@pytest.mark.parametrize("spec", [SPEC, TrackerSpec("dimp", "resnet18")], ids=["chase", "dimp"])
def test_the_filter_alone_follows_a_moving_object_on_random_features(spec):
    """Nothing is trained, so the box is left as it is; the classifier learns from the first frame."""
    settings = small(
        spec, image_size=192, search_area=4.0, init_iterations=10, step=0.0, lost_below=-1.0, **PLAIN
    )
    found = follow(Tracker(spec.build(), spec, settings, "cpu"))
    centres, true = (b[:, :2] + b[:, 2:] / 2 for b in (found, BOXES[1:]))
    assert np.linalg.norm(centres - true, axis=1).max() < 16 * 4 * np.sqrt(40 * 50) / 192, (
        "more than a cell off"
    )
    np.testing.assert_allclose(found[:, 2:], BOXES[1:, 2:], rtol=1e-5)


def test_results_say_box_score_state_and_time(net):
    tracker = Tracker(net, SPEC, small(), "cpu")
    assert tracker.init(FRAMES[0], [int(v) for v in BOXES[0]]) is None
    result = tracker.update(FRAMES[1])
    assert len(result.box) == 4 and all(type(v) is float for v in (*result.box, result.score))
    assert result.state in ("tracked", "uncertain", "hard_negative", "lost")
    assert 0 < result.score <= 1 and result.seconds > 0


def test_a_seed_decides_everything_and_the_net_is_left_alone(net):
    before = {k: v.clone() for k, v in net.state_dict().items()}
    first, again, other = (follow(Tracker(net, SPEC, small(), "cpu", seed)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert next(net.parameters()).requires_grad


def test_init_again_forgets_the_first_target(net):
    tracker = Tracker(net, SPEC, small(), "cpu")
    first = follow(tracker)
    np.testing.assert_array_equal(first, follow(tracker))


def test_several_targets_are_found_where_single_trackers_find_them(net):
    boxes = [BOXES[0], [30, 40, 60, 30], [200, 150, 25, 45]]
    settings = small(update_interval=2, **PLAIN)
    many = MultiTracker(net, SPEC, settings, "cpu")
    many.init(FRAMES[0], boxes)
    together = np.array([[r.box for r in many.update(frame)] for frame in FRAMES[1:]])
    for k, box in enumerate(boxes):
        alone = follow(Tracker(net, SPEC, settings, "cpu"), box=box)
        np.testing.assert_allclose(together[:, k], alone, rtol=0, atol=BATCHED_PX)


def test_targets_come_and_go(net):
    many = MultiTracker(net, SPEC, small(), "cpu", seed=1)
    with pytest.raises(ChaseError, match="init"):
        many.update(FRAMES[0])
    many.init(FRAMES[0], [])
    assert many.update(FRAMES[1]) == []
    many.init(FRAMES[0], BOXES[:1])
    assert many.add(FRAMES[0], [30, 40, 60, 30]) == 1 and len(many) == 2
    many.remove(0)
    (result,) = many.update(FRAMES[1])
    reference = MultiTracker(net, SPEC, small(), "cpu", seed=1)
    reference.init(FRAMES[0], [BOXES[0], [30, 40, 60, 30]])
    np.testing.assert_allclose(result.box, reference.update(FRAMES[1])[1].box, rtol=0, atol=BATCHED_PX)
    with pytest.raises(ChaseError, match="no target 1"):
        many.remove(1)


@pytest.mark.parametrize("border", ["replicate", "inside", "inside_major"])
def test_any_frame_and_target_size(net, border):
    """Frames that change size, smaller than the target or thin; the box may hang over the border."""
    tracker = Tracker(net, SPEC, small(border=border, image_size=80, update_interval=1), "cpu")
    sizes = [(90, 120), (90, 120), (45, 200), (300, 20), (12, 9), (480, 640)]
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (*size, 3), dtype=np.uint8)[..., ::-1] for size in sizes]
    for box in ([-10, 5, 400, 300], [110, 80, 30, 30], [3, 4, 1, 1], [0, 0, 120, 2]):
        assert np.isfinite(follow(tracker, frames, box)).all()


def test_an_odd_number_of_cells(net):
    settings = small(image_size=80, step=0.0, **PLAIN)
    still = [FRAMES[0]] * 3
    found = follow(Tracker(net, SPEC, settings, "cpu"), still)
    cell = 16 * 5 * np.sqrt(40 * 50) / 80
    assert np.abs(found[:, :2] - BOXES[0, :2]).max() < cell / 4, "the target sits on a cell of the score map"


def broken(net: TrackerNet, part: str) -> TrackerNet:
    copy = SPEC.build()
    copy.load_state_dict(net.state_dict())
    with torch.no_grad():
        next(getattr(copy, part).parameters()).fill_(torch.nan)
    return copy


@pytest.mark.parametrize("part", ["feature_extractor", "neck", "bb_regressor"])
def test_nan_means_lost_with_the_last_box_and_one_warning(net, part, caplog):
    tracker = Tracker(broken(net, part), SPEC, small(**PLAIN), "cpu")
    tracker.init(FRAMES[0], BOXES[0])
    with caplog.at_level(logging.WARNING):
        results = [tracker.update(frame) for frame in FRAMES[1:3]]
    if part == "bb_regressor":  # no box is acceptable: the classifier's position, the old size
        assert [r.state for r in results] == ["tracked"] * 2
        assert all(r.box[2:] == (40, 50) for r in results) and not caplog.records
    else:
        assert [(r.state, r.score) for r in results] == [("lost", 0.0)] * 2
        assert [r.box for r in results] == [tuple(BOXES[0])] * 2
        assert len(caplog.records) == 1 and "lost" in caplog.text


def test_a_low_score_keeps_box_filter_and_memory(net):
    tracker = Tracker(net, SPEC, small(lost_below=0.99), "cpu")
    tracker.init(FRAMES[0], BOXES[0])
    before = tracker._target.filter.clone()
    results = [tracker.update(frame) for frame in FRAMES[1:]]
    assert all(r.state == "lost" and r.box == tuple(BOXES[0]) and r.score > 0 for r in results)
    assert torch.equal(before, tracker._target.filter)
    assert tracker._target.memory.weights.count == tracker.settings.first_samples


@pytest.mark.parametrize(
    "box, says",
    [
        ([400, 10, 20, 20], "outside the frame of 320x240"),
        ([-50, 10, 50, 20], "outside"),
        ([10, 10, 0, 20], "no size"),
        ([10, 10, 20, -3], "no size"),
        ([10, np.nan, 20, 20], "NaN"),
        ([10, 10, np.inf, 20], "infinity"),
        ([10, 10, 20], "four numbers"),
        ("here", "four numbers"),
    ],
)
def test_a_bad_box_is_refused(net, box, says):
    with pytest.raises(ChaseError, match=says):
        Tracker(net, SPEC, small(), "cpu").init(FRAMES[0], box)
    with pytest.raises(ChaseError, match=says):
        MultiTracker(net, SPEC, small(), "cpu").init(FRAMES[0], [BOXES[0], box])


def test_bad_frames_and_calls_are_refused(net):
    tracker = Tracker(net, SPEC, small(), "cpu")
    with pytest.raises(ChaseError, match="init"):
        tracker.update(FRAMES[0])
    for frame in (FRAMES[0][..., 0], FRAMES[0].astype(np.float32), FRAMES[0][..., [0, 1, 2, 0]], None):
        with pytest.raises(ChaseError, match="RGB uint8"):
            tracker.init(frame, BOXES[0])
    tracker.init(FRAMES[0], BOXES[0])
    with pytest.raises(ChaseError, match="empty"):
        tracker.update(FRAMES[0][:0])
    with pytest.raises(ChaseError, match="device"):
        Tracker(net, SPEC, small(), "tpu")
    without = TrackerNet(net.feature_extractor, net.neck, net.classifier)
    with pytest.raises(ChaseError, match="box regressor"):
        Tracker(without, SPEC, small(), "cpu")


def test_frames_of_other_kinds_become_rgb8():
    grey = np.arange(6, dtype=np.uint8).reshape(2, 3)
    three = np.repeat(grey[..., None], 3, 2)
    for frame in (grey, grey[..., None], three, np.dstack([three, grey]), np.dstack([grey, grey + 1])):
        np.testing.assert_array_equal(to_rgb8(frame), three)
    np.testing.assert_array_equal(to_rgb8(three.astype(np.uint16) * 256 + 77), three)
    np.testing.assert_array_equal(to_rgb8(three / 255), three)
    np.testing.assert_array_equal(to_rgb8(np.full((2, 2), 300.0)), 255)
    np.testing.assert_array_equal(to_rgb8(np.eye(2, dtype=bool))[..., 0], np.eye(2) * 255)
    for bad in (np.zeros(3, np.uint8), np.zeros((2, 2, 5), np.uint8), np.zeros((2, 0, 3), np.uint8)):
        with pytest.raises(ChaseError, match="no image"):
            to_rgb8(bad)
    with pytest.raises(ChaseError, match="int64"):
        to_rgb8(grey.astype(np.int64))


def test_the_published_settings():
    names = {
        "prdimp50": TrackerSpec("prdimp", "resnet50"),
        "prdimp18": TrackerSpec("prdimp", "resnet18"),
        "dimp50": TrackerSpec("dimp", "resnet50"),
        "dimp18": TrackerSpec("dimp", "resnet18"),
        "chase_prdimp": TrackerSpec("prdimp", "resnet50", CELL),
        "chase_prdimp18": SPEC,
    }
    assert set(names) == set(PUBLISHED)
    for name, spec in names.items():
        assert published(spec) == settings_for(spec) == settings_for(spec, "published", own=True)
        assert published(spec) == PUBLISHED[name] and PUBLISHED[name].name == name

    def differences(a, b):
        pairs = ((f.name, getattr(PUBLISHED[b], f.name)) for f in dataclasses.fields(TrackSettings))
        return {k: v for k, v in pairs if v != getattr(PUBLISHED[a], k) and k != "name"}

    chase = {"init_iterations": 25, "update_iterations": 4, "lost_below": 0.044, "distractor_above": 0.7}
    sampling = {"image_size": 288, "search_area": 5.0, "border": "replicate", "max_scale_change": None}
    dimp = {"softmax": False, "lost_below": 0.25, "space": "default", "refine_iterations": 5, "step": 1.0}
    assert differences("prdimp50", "chase_prdimp") == differences("prdimp18", "chase_prdimp18") == chase
    assert differences("prdimp50", "prdimp18") == sampling
    assert differences("prdimp50", "dimp50") == sampling | dimp
    assert differences("dimp50", "dimp18") == {}
    assert published(dataclasses.replace(SPEC, feature_size=12)).image_size == 192


def test_presets_get_cheaper_and_keep_the_size_of_the_target_in_the_patch():
    assert list(PRESETS) == ["accurate", "balanced", "fast", "published"]
    assert all(preset.about and "\n" not in preset.about for preset in PRESETS.values())
    for spec in (SPEC, TrackerSpec("dimp", "resnet50"), TrackerSpec("prdimp", "resnet50")):
        accurate, balanced, fast, as_published = (settings_for(spec, name, own=True) for name in PRESETS)
        assert accurate.override(**{k: getattr(as_published, k) for k in OWN}) == as_published
        assert accurate.refine_iterations > balanced.refine_iterations > fast.refine_iterations >= 1
        assert accurate.image_size == balanced.image_size > fast.image_size
        assert fast.search_area / fast.image_size == pytest.approx(accurate.search_area / accurate.image_size)
    assert settings_for(SPEC, "fast", random_boxes=7).random_boxes == 7


def test_only_networks_trained_here_leave_the_published_form():
    """Five quirks and rules, whatever the preset; a public network keeps what it was published with."""
    published_form = {
        "half_pixel_offset": True,
        "thinning_offset": True,
        "first_box_offset": True,
        "lost_outside": False,
        "smallest_side": 0.0,
        "largest_side": None,
    }
    assert published_form.keys() == OWN.keys()
    for name in PRESETS:
        for own in (True, False):
            settings = settings_for(SPEC, name, own)
            form = OWN if own and name != "published" else published_form
            assert {k: getattr(settings, k) for k in OWN} == form, (name, own)
    assert TrackSettings() == PUBLISHED["prdimp50"]


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"image_sise": 96}, "unknown tracker setting 'image_sise'"),
        ({"image_size": 100}, "multiple of 16"),
        ({"border": "mirror"}, "border 'mirror'"),
        ({"space": "polar"}, "space 'polar'"),
        ({"search_area": 1.0}, "search_area"),
        ({"memory": 15}, "memory 15 must be at least 16"),
        ({"update_interval": 0}, "update_interval"),
        ({"lost_bellow": 0.1}, "did you mean lost_below"),
        ({"lost_below": float("nan")}, "lost_below nan must be a number"),
        ({"lost_below": "0.1"}, "lost_below '0.1' must be a number"),
        ({"memory": 20.5}, "memory 20.5 must be a whole number"),
        ({"flip": 1}, "flip 1 must be true or false"),
        ({"step": (1, 2, 3)}, "step .* must be a number or 2 numbers"),
        ({"learning_rate": 1}, "learning_rate 1 must be at most"),
        ({"dropouts": (0.2, 1.0)}, "dropouts 1.0 must be at most"),
        ({"blurs": ((3, 0),)}, "blurs 0 must be at least"),
        ({"image_size": 16 * 10**9}, "image_size .* must be at most"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes, says):
    with pytest.raises(ChaseError, match=says):
        settings_for(SPEC, **changes)


@pytest.mark.parametrize(
    "text, value",
    [
        ("lost_below=0.1", 0.1),
        ("lost-below = 1", 1.0),
        ("random_boxes=0", 0),
        ("flip=False", False),
        ("half_pixel_offset=true", True),
        ("max_scale_change=none", None),
        ("max_scale_change=1.5", 1.5),
        ("border=inside", "inside"),
        ("rotations=10,-10", (10.0, -10.0)),
        ("rotations=10", (10.0,)),
        ("dropouts=()", ()),
        ("blurs=(3,1),(1,3)", ((3.0, 1.0), (1.0, 3.0))),
        ("blurs=3,1", ((3.0, 1.0),)),
        ("step=0.1", 0.1),
        ("step=0.1,0.2", (0.1, 0.2)),
    ],
)
def test_changes_of_settings_in_words(text, value):
    ((name, found),) = TrackSettings.parse_changes([text]).items()
    assert found == value and type(found) is type(value)
    assert getattr(settings_for(SPEC, **{name: found}), name) == value


@pytest.mark.parametrize(
    "texts, says",
    [
        (["lost_below"], "give NAME=VALUE"),
        (["=1"], "give NAME=VALUE"),
        (["lost_bellow=1"], "unknown tracker setting 'lost_bellow': did you mean lost_below?"),
        (["name=mine"], "unknown tracker setting 'name': choose from image_size"),
        (["lost_below=0.1", "lost-below=0.2"], "lost_below is given twice"),
        (["lost_below=low"], "--set lost_below=low: lost_below is a number"),
        (["lost_below="], "is a number"),
        (["lost_below=nan"], "is a number"),
        (["lost_below=1e999"], "is a number"),
        (["lost_below=0,1"], "is a number"),
        (["largest_side=wide"], "is a number or none"),
        (["memory=2.5"], "is a whole number"),
        (["memory=true"], "is a whole number"),
        (["memory=" + "9" * 5000], "is a whole number"),
        (["memory=" + "(" * 900], "is a whole number"),
        (["memory=__import__('os')"], "is a whole number"),
        (["flip=1"], "is true or false"),
        (["blurs=3"], "pairs like"),
        (["blurs=(1,2,3)"], "pairs like"),
        (["rotations=ten"], "numbers with commas"),
        (["step=1,2,3"], "a number or 2 numbers with commas"),
    ],
)
def test_changes_that_cannot_be_read_are_refused_in_one_line(texts, says):
    with pytest.raises(ChaseError, match=re.escape(says)) as refusal:
        TrackSettings.parse_changes(texts)
    assert "\n" not in str(refusal.value)


def test_public_networks_are_known_and_keep_the_published_form(net, tmp_path):
    """As read, converted to our file, and back; a network trained here is none in either kind of file."""
    public = tmp_path / "public.pth.tar"
    torch.save({"net": to_pytracking_state(net, SPEC)}, public)
    first = load_tracker(public, CELL)
    assert first.public
    for about, is_public in ((first.about, True), ({"seed": 3, "epoch": 1}, False)):
        for i, pack in enumerate((pack_tracker, pack_pytracking, pack_tracker)):
            path = tmp_path / f"{is_public}{i}{'.pth.tar' if pack is pack_pytracking else '.safetensors'}"
            path.write_bytes(pack(net, SPEC, about))
            loaded = load_tracker(path)
            about = loaded.about
            assert loaded.public == is_public, path
        form = settings_for(SPEC, own=not is_public)
        assert Tracker.load(path, device="cpu").settings == form


def test_a_checkpoint_is_loaded_with_preset_and_overrides(net, tmp_path):
    path = tmp_path / "best.safetensors"
    path.write_bytes(pack_tracker(net, SPEC, {}))
    tracker = Tracker.load(path, "fast", "cpu", seed=5, image_size=96)
    assert (tracker.settings.image_size, tracker.settings.random_boxes, tracker.seed) == (96, 2, 5)
    assert tracker.device == torch.device("cpu") and tracker.spec == SPEC
    settings = settings_for(SPEC, "fast", own=True, image_size=96)
    np.testing.assert_array_equal(follow(tracker), follow(Tracker(net, SPEC, settings, "cpu", 5)))
    assert isinstance(MultiTracker.load(path, device="cpu"), MultiTracker)
    with pytest.raises(ChaseError, match="unknown preset"):
        Tracker.load(path, "quick")
    with pytest.raises(ChaseError, match="no such file"):
        Tracker.load(tmp_path / "none.safetensors")


def test_the_head_with_folded_batch_norms_equals_the_box_regressor_and_its_gradient(net):
    """Two targets, each with a modulation of its own."""
    torch.manual_seed(0)
    regressor = SPEC.build().bb_regressor.double().eval()
    for module in regressor.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    layers = torch.rand(2, 128, 12, 12).double(), torch.rand(2, 256, 6, 6).double()
    reference = torch.tensor([[20.0, 25, 40, 30], [35, 15, 22, 50]]).double()
    boxes = reference[:, None] + 4 * torch.rand(2, 3, 4).double()
    modulation, maps = regressor.modulation(*layers, reference), regressor.features(*layers)
    free = boxes.clone().requires_grad_()
    expected = regressor.predict(modulation, maps, free)
    (gradient,) = torch.autograd.grad(expected.sum(), free)
    folded = fold(regressor)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in folded.modules())
    with torch.no_grad():
        head, corners = BoxHead(folded), torch.cat((boxes[..., :2], boxes[..., :2] + boxes[..., 2:]), -1)
        modulation, maps = folded.modulation(*layers, reference), folded.features(*layers)
        score, slope = head.score_and_gradient(modulation, maps, corners)
    tolerance = KERNEL[torch.float64]
    assert_close(score, expected, tolerance)
    assert_close(head.score(modulation, maps, corners), expected, tolerance)
    assert_close(torch.cat((slope[..., :2] + slope[..., 2:], slope[..., 2:]), -1), gradient, tolerance)


def test_scores_before_or_after_the_last_refinement_step(net):
    head = BoxHead(fold(net.bb_regressor))
    modulation = tuple(torch.rand(1, 256, 1, 1) for _ in range(2))
    maps, boxes = (torch.rand(1, 256, 12, 12), torch.rand(1, 256, 6, 6)), torch.tensor([[[30.0, 30, 40, 40]]])
    settings = small(refine_iterations=1, step=0.5)
    refined, before = refine(head, modulation, maps, boxes, settings)
    _, after = refine(head, modulation, maps, boxes, settings.override(score_after=True))
    for score, at in ((before, boxes), (after, refined)):
        corners = torch.cat((at[..., :2], at[..., :2] + at[..., 2:]), -1)
        assert_close(score, head.score(modulation, maps, corners), KERNEL[torch.float32])
    assert (before != after).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    "changes",
    [{"space": "default", "step": (0.1, 0.2)}, {"space": "relative", "step_decay": 0.7, "score_after": True}],
    ids=["default", "relative"],
)
def test_refinement_in_one_call_equals_the_steps_one_by_one(net, changes, dtype):
    """What a GPU runs, by its reference; maps may have 16 bits, all the rest keeps its type."""
    torch.manual_seed(0)
    settings = small(refine_iterations=3, **changes)
    kind = torch.float64 if dtype == torch.float64 else torch.float32
    modulation = tuple(torch.rand(2, 256, 1, 1, dtype=kind) for _ in range(2))
    maps = tuple(torch.rand(2, 256, n, n, dtype=kind).to(dtype) for n in (12, 6))
    boxes = torch.tensor(
        [[[30.0, 30, 40, 40], [20, 25, 41, 30]], [[5, 50, 35, 30], [0, 0, 96, 96]]], dtype=kind
    )
    regressor = fold(net.bb_regressor).to(kind)
    one_by_one, at_once = BoxHead(regressor), BoxHead(regressor)
    at_once._packed = box_ascent.pack(at_once._layers, at_once._out, at_once._bias)
    expected = refine(one_by_one, modulation, maps, boxes, settings)
    for got, wanted in zip(refine(at_once, modulation, maps, boxes, settings), expected):
        assert got.dtype == wanted.dtype == kind
        assert_close(got, wanted, KERNEL[kind])
    assert (expected[0] - boxes).abs().max() > 1e-3


@pytest.mark.parametrize(
    "border, shrink, factor",
    [
        ("inside_major", False, 1.0),
        ("inside_major", True, 1.25),
        ("inside", False, 1.5),
        ("replicate", True, 1.0),
    ],
)
def test_the_first_patch_of_a_large_target(net, border, shrink, factor):
    """100 x 100 px in a frame of 320 x 240 ask for 400: 1.25 times the longer axis, 1.67 times the other."""
    settings = small(border=border, search_area=4.0, shrink_first=shrink, max_scale_change=1.5)
    tracker = Tracker(net, SPEC, settings, "cpu")
    tracker.init(FRAMES[0], [100, 70, 100, 100])
    assert tracker._target.memory.boxes[0, 2].item() == pytest.approx(96 / 4 * factor, rel=1e-5)


def test_the_best_boxes_of_acceptable_shape_are_averaged():
    nan = float("nan")
    boxes = torch.tensor([[[0.0, 0, 10, 10], [2, 2, 12, 10], [4, 4, 99, 9], [nan, 0, 9, 9], [9, 9, 9, 9]]])
    scores = torch.tensor([[1.0, 3, 9, 8, nan]])
    settings = PUBLISHED["prdimp50"]
    best, found = best_box(boxes, scores, settings)
    assert best.tolist() == [[1, 1, 11, 10]] and found.tolist() == [True]
    best, found = best_box(boxes[:, 2:4], scores[:, 2:4], settings)
    assert found.tolist() == [False] and best.isfinite().all()
    best, _ = best_box(boxes, scores, settings.override(best_boxes=1))
    assert best.tolist() == [[2, 2, 12, 10]]


@pytest.mark.parametrize("kept", [False, True])
def test_where_the_target_goes_when_no_refined_box_is_acceptable(net, kept):
    """Published: back to the last refined position; there is none at first, so the classifier's counts."""
    tracker = Tracker(net, SPEC, small(max_aspect=1.0, keep_position=kept, **PLAIN), "cpu")
    tracker.init(FRAMES[0], BOXES[0])
    first = tracker.update(FRAMES[1])
    assert first.box[2:] == (40, 50)
    tracker._target.place.refined = (70.5, 80.5)
    second = tracker.update(FRAMES[2])
    went_back = second.box == (80.5 - 39 / 2, 70.5 - 49 / 2, 40, 50)
    assert went_back != kept


def test_half_a_pixel_is_the_difference_of_the_two_ways_back_to_the_frame(net):
    settings = small(step=0.0, **PLAIN)
    published, corrected = (
        follow(Tracker(net, SPEC, settings.override(half_pixel_offset=flag), "cpu"), FRAMES[:2])
        for flag in (True, False)
    )
    # patch px -> frame px: search area over patch, with a window of whole pixels
    scale = round(5 * np.sqrt(40 * 50)) / 96
    np.testing.assert_allclose((published - corrected)[0], [scale / 2, scale / 2, 0, 0], atol=1e-4)


def test_nothing_before_the_read_back_waits_for_the_device(net):
    """Fake tensors have no values: a branch on data, .item() or .tolist() would raise."""
    tracker = Tracker(net, SPEC, small(), "cpu")
    network, settings, k = tracker._network, tracker.settings, 2
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        vectors = tuple(torch.empty(k, 256, 1, 1) for _ in range(2))
        patches = torch.empty(k, 96, 96, 3)
        filters, geometry = torch.empty(k, 32, 4, 4), torch.empty(k, 9)
        features, found = locate(network, patches, filters, vectors, geometry, torch.empty(k, 9, 4), settings)
    assert features.shape == (k, 32, 6, 6) and found.shape == (k, 7)
