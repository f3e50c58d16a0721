"""The online procedure against the public implementation: windows, augmentation, localisation, memory, box
refinement, and whole frames of the 50-layer trackers."""

import json
import os

import numpy as np
import pytest
import torch

from chase_fast.kernels.localize.reference import STATES, Geometry, clipped, compare_peaks
from chase_fast.nn.box_regressor import AtomIoUNet
from chase_fast.nn.inference import fold
from chase_fast.nn.spec import TrackerSpec
from chase_fast.nn.tracker_net import to_published
from chase_fast.track import Tracker
from chase_fast.track.augment import blur, middle, rotate
from chase_fast.track.memory import Weights
from chase_fast.track.patch import box_in_patch, search_window, take
from chase_fast.track.refine import BoxHead, refine
from chase_fast.track.settings import PUBLISHED, STRIDE, settings_for
from tests import golden, moving, seeded
from tests.tolerances import GOLDEN, TRACKER, assert_close

PX, SCORE = TRACKER["px"], TRACKER["score"]


def near(a, b, tolerance: float, what: str = "") -> None:
    np.testing.assert_allclose(
        np.asarray(a, float), np.asarray(b, float), rtol=0, atol=tolerance, err_msg=what
    )


@pytest.mark.parametrize("name, integer", [("crops_legacy_track", True), ("crops", False)])
def test_search_windows_and_patches(name, integer):
    image, z = golden.load("prdimp/crops")["image_f32"], golden.load(f"prdimp/{name}")
    cases = json.loads(str(z["track_meta_json"]))
    present = [i for i in range(len(cases)) if f"track{i}_patch" in z]
    assert len(present) >= 18
    for i in present:
        case, size = cases[i], cases[i]["output_sz"]
        border = case["mode"], case["max_scale_change"]
        window = search_window(case["pos_yx"], case["sample_sz"][0], image.shape[:2], size, *border, integer)
        near([*window.top_left, *window.bottom_right], z[f"track{i}_coord_tlbr_yx"], 1e-4, f"{case}")
        patch = torch.from_numpy(take(image, window, size)).permute(2, 0, 1)
        expected = torch.from_numpy(z[f"track{i}_patch"])
        assert_close(patch, expected, GOLDEN["float32_forward"], f"{case}")


def test_augmented_copies_of_the_first_patch():
    z = golden.load("prdimp/augment")
    image = golden.load("prdimp/crops")["image_f32"]
    centre = tuple(float(p) for p in z["pos_yx"])
    window = search_window(centre, 64 * float(z["scale"]), image.shape[:2], 64, integer=False)
    expanded = take(image, window, 64)
    near(expanded.transpose(2, 0, 1), z["expanded_patch"], 1e-3)
    copies = {
        "identity": expanded,
        "identity_shift": expanded,
        "translation": expanded,
        "fliplr": expanded[:, ::-1],
        "blur_3_1": blur(expanded, (3, 1)),
        "blur_1_3": blur(expanded, (1, 3)),
        "blur_2_2": blur(expanded, (2, 2)),
        "rotate_10": rotate(expanded, 10),
        "rotate_m45": rotate(expanded, -45),
    }
    for name, copy in copies.items():
        patch = middle(copy, 32, tuple(int(v) for v in z[f"shift_yx_{name}"])).transpose(2, 0, 1)
        near(patch, z[f"patch_{name}"], 1e-3, name)


def row(values) -> torch.Tensor:
    return torch.as_tensor(np.array(values), dtype=torch.float32).reshape(1, -1)


@pytest.mark.parametrize("prefix, settings", [("pr", PUBLISHED["prdimp50"]), ("di", PUBLISHED["dimp50"])])
def test_localisation_with_rivals_and_hard_negatives(prefix, settings):
    z = golden.load("prdimp/tracker_logic")
    known = json.loads(str(z[f"{prefix}_state_json"]))
    where = ("pos_yx", "target_sz_hw", "sample_pos_yx", "sample_scale")
    geometry = Geometry(*(row(known[k]) for k in where), frame=row([240, 320]))
    names = [k.removesuffix("_scores") for k in z if k.startswith(f"{prefix}_") and k.endswith("_scores")]
    assert len(names) >= 9
    maps = torch.stack([torch.from_numpy(z[f"{name}_scores"]) for name in names])
    many = Geometry(*(v.expand(len(names), -1) for v in vars(geometry).values()))
    movement, state, _ = compare_peaks(maps, many, settings, STRIDE)  # nine targets at once
    for i, name in enumerate(names):
        assert STATES[int(state[i])] == golden.state_of(z[f"{name}_flag"]), name
        near(movement[i], z[f"{name}_translation_yx"], PX, name)


def test_positions_are_kept_near_the_frame():
    z = golden.load("prdimp/tracker_logic")
    nothing = row([0])
    geometry = Geometry(nothing, row(z["clip_target_sz_hw"]), nothing, nothing, row(z["clip_image_sz_hw"]))
    near(clipped(torch.from_numpy(z["clip_in_yx"]), geometry, PUBLISHED["prdimp50"]), z["clip_out_yx"], PX)


def test_box_in_the_patch():
    z = golden.load("prdimp/tracker_logic")
    places = (z[f"box_{k}"].astype(float) for k in ("pos_yx", "sz_hw", "sample_pos_yx"))
    near(box_in_patch(*places, float(z["box_sample_scale"]), 352), z["box_xywh_crop"], PX)


def test_weights_of_the_sample_memory():
    z = golden.load("prdimp/tracker_logic")
    weights = Weights(15, PUBLISHED["prdimp50"])
    for rate, slot, expected in zip(z["mem_learning_rate"], z["mem_replace_index"], z["mem_weights"]):
        assert weights.insert(float(rate)) == slot
        near(weights.values, expected, 1e-6)


@pytest.mark.parametrize("tag", ["default", "default_decay", "relative", "relative_big"])
def test_box_refinement(tag):
    z = golden.load("prdimp/iounet")
    net = AtomIoUNet((12, 20), 24, 20)
    seeded.fill(net.state_dict(), "bb_regressor.")
    net = fold(net.double().eval())

    def get(key):
        return torch.from_numpy(z[key]).double()

    with torch.no_grad():
        modulation = net.modulation(*(get(f"feat{i}_ref")[0, :1] for i in (3, 4)), get("bb_ref")[0, :1])
        maps = net.features(*(get(f"feat{i}_test")[0, :1] for i in (3, 4)))
    known = json.loads(str(z[f"refine_{tag}_json"]))
    step = known["box_refinement_step_length"]
    settings = PUBLISHED["prdimp50"].override(
        space=known["box_refinement_space"],
        refine_iterations=known["box_refinement_iter"],
        step=tuple(step) if isinstance(step, list) else step,
        step_decay=known["box_refinement_step_decay"],
    )
    boxes, scores = refine(BoxHead(net), modulation, maps, get("refine_init_boxes")[None], settings)
    assert_close(boxes[0], get(f"refine_{tag}_boxes"), GOLDEN["forward"])
    assert_close(scores[0], get(f"refine_{tag}_iou"), GOLDEN["forward"])


def check_frames(kind: str, frames: int) -> None:
    """Tracks the first frames of the goldens' video with the seeded 50-layer net."""
    z = golden.load(f"prdimp/e2e_{kind}50")
    spec = TrackerSpec(kind, "resnet50")
    net = spec.build()
    seeded.fill(to_published(net.state_dict()))
    # as recorded: nothing random, the windows of torch 2.13
    changes = {"random_boxes": 0, "random_shift": 0.0, "dropouts": (), "integer_window": False}
    if "overrides_json" in z:  # the copy in tests/data has none
        changes["lost_below"] = json.loads(str(z["overrides_json"]))["target_not_found_threshold"]
    elif kind == "dimp":
        changes["lost_below"] = 0.08
    tracker = Tracker(net, spec, settings_for(spec, "published", **changes), "cpu")
    video, boxes = moving.video(**golden.made_with("video"))
    tracker.init(video[0], boxes[0])
    near(tracker._target.memory.boxes[:13], z["init_target_boxes"], PX)
    statistics = tracker._target.filter.double()
    found = [
        statistics.mean(),
        statistics.std(unbiased=False),
        statistics.abs().max(),
        statistics.square().sum(),
    ]
    np.testing.assert_allclose(found, z["init_filter_stats"], rtol=1e-4)
    for i in range(frames):
        result = tracker.update(video[i + 1])
        assert result.state == golden.state_of(z["flags"][i])
        near(result.box, z["boxes_xywh"][i], PX, f"frame {i + 1}")
        near(result.score, z["max_score"][i], SCORE, f"frame {i + 1}")


@pytest.mark.slow
def test_whole_frames_of_prdimp50():
    check_frames("prdimp", 3)


@pytest.mark.slow
@pytest.mark.skipif("CHASE_FAST_GOLDEN" not in os.environ, reason="CHASE_FAST_GOLDEN is not set: 10 s")
@pytest.mark.parametrize("kind", ["prdimp", "dimp"])
def test_whole_frames_of_both_50_layer_trackers(kind):
    check_frames(kind, 5)
