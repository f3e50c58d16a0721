"""`start` and `outcome` in one launch each against plain torch in chase_fast.track, on random and special
frames."""

import json

import numpy as np
import pytest
import torch

from chase_fast.kernels.target_filter import localize as op
from chase_fast.track import step
from chase_fast.track.localize import STATES
from chase_fast.track.settings import PUBLISHED, STRIDE
from tests import golden
from tests.kernels.aot import check_fits, compile_in_subprocess
from tests.kernels.harness import device_of, poison, skip_unless
from tests.tolerances import KERNEL, assert_close

FAST = "triton"
PRDIMP, DIMP = PUBLISHED["prdimp50"], PUBLISHED["dimp50"]


@pytest.fixture(autouse=True, params=[FAST])  # a parameter: conftest.py marks its tests
def _available(request):
    skip_unless(op.CAN_RUN, FAST, torch.float32)


def frames(k: int, side: int, settings, seed: int = 0, random_boxes: int = 5):
    """Score maps with two peaks of random height and place, and geometries."""
    rng = np.random.default_rng(seed)
    scores = rng.random((k, side, side)) * 0.05
    for m in scores:
        for height in rng.uniform(0.1, 1, 2):
            m[tuple(rng.integers(0, side, 2))] = height
    if settings.softmax:
        scores *= 12
    size = rng.uniform(20, 120, (k, 2))
    position = rng.uniform(-20, 400, (k, 2))
    window = position + rng.uniform(-30, 30, (k, 2))
    geometry = np.concatenate([position, size, window, rng.uniform(0.5, 3, (k, 1)), [[360.0, 380]] * k], 1)
    values = scores, geometry, rng.random((k, random_boxes, 4))
    return [torch.from_numpy(v).float().to(device_of(FAST)) for v in values]


@pytest.mark.parametrize("extra", [None, 1.5])
@pytest.mark.parametrize("settings", [PRDIMP, DIMP], ids=lambda s: s.name)
def test_start_equals_plain_torch(settings, extra, monkeypatch):
    states = set()
    for side in (7, 18, 23):
        scores, geometry, noise = frames(12, side, settings, side)
        found, boxes = step.start(scores, geometry, noise, settings, extra)
        with monkeypatch.context() as patch:
            poison(patch)
            got = op.start(scores, geometry, noise, settings, STRIDE, extra)
        assert torch.equal(got[0][:, 2], found[:, 2]), "states"
        assert_close(got[0], found, KERNEL[torch.float32], "found")
        assert_close(got[1], boxes, KERNEL[torch.float32], "boxes")
        states |= set(found[:, 2].tolist())
    assert len(states) >= 2


@pytest.mark.parametrize("prefix, settings", [("pr", PRDIMP), ("di", DIMP)])
def test_golden_maps_with_rivals_and_hard_negatives(prefix, settings):
    """The published implementation's states; rounding of halves and ties of peaks matter here."""
    z = golden.load("prdimp/tracker_logic")
    known = json.loads(str(z[f"{prefix}_state_json"]))
    names = [k.removesuffix("_scores") for k in z if k.startswith(f"{prefix}_") and k.endswith("_scores")]
    row = [
        *known["pos_yx"], *known["target_sz_hw"], *known["sample_pos_yx"], known["sample_scale"], 240, 320
    ]  # fmt: skip
    device = device_of(FAST)
    geometry = torch.from_numpy(np.array([np.hstack(row)] * len(names))).float().to(device)
    maps = torch.stack([torch.from_numpy(z[f"{n}_scores"]).float() for n in names]).to(device)
    settings = settings.override(softmax=False)  # the maps are densities
    noise = torch.zeros(len(names), 0, 4, device=device)
    found, boxes = op.start(maps, geometry, noise, settings, STRIDE, None)
    for code, name in zip(found[:, 2].tolist(), names):
        flag = str(z[f"{name}_flag"])
        assert STATES[int(code)] == {"normal": "tracked", "not_found": "lost"}.get(flag, flag), name
    expected, plain = step.start(maps, geometry, noise, settings, None)
    assert_close(found, expected, KERNEL[torch.float32])
    assert_close(boxes, plain, KERNEL[torch.float32])


def test_ties_and_maps_that_are_not_finite():
    scores, geometry, noise = frames(4, 5, DIMP)
    scores[0] = 0.3  # everywhere: the first column's first row
    scores[1, 2, 3] = float("nan")
    scores[2] = float("nan")
    scores[3] = -1.0
    found, _ = op.start(scores, geometry, noise, DIMP, STRIDE, None)
    expected, _ = step.start(scores, geometry, noise, DIMP, None)
    assert torch.equal(found[:, 2], expected[:, 2])
    assert found[1:3, 3].isnan().all() and (found[1:, 2] == STATES.index("lost")).all()
    assert_close(found[[0, 3]], expected[[0, 3]], KERNEL[torch.float32])
    soft, _ = op.start(scores, geometry, noise, PRDIMP, STRIDE, None)
    assert soft[1:3, 3].isnan().all() and soft[0, 3].isfinite()


@pytest.mark.parametrize("half", [True, False])
@pytest.mark.parametrize("best", [1, 3, 50])
def test_outcome_equals_plain_torch(half, best, monkeypatch):
    settings = PRDIMP.override(best_boxes=best, half_pixel_offset=half)
    scores, geometry, noise = frames(6, 9, settings, 1, random_boxes=9)
    found, boxes = step.start(scores, geometry, noise, settings, None)
    rng = torch.Generator().manual_seed(0)
    box_scores = torch.randn(6, 10, generator=rng).to(boxes)
    boxes[1, 3, 0] = float("nan")
    boxes[1, 4, 2] = 1e4  # shape not acceptable
    boxes[2, :, 2:] = 0.2  # clamped to one pixel
    box_scores[3, 1:] = float("nan")
    box_scores[4] = float("inf")  # none left
    boxes[5, :, 3] = float("nan")
    expected = step.outcome(boxes, box_scores, found, geometry, settings)
    with monkeypatch.context() as patch:
        poison(patch)
        got = op.outcome(boxes, box_scores, found, geometry, settings)
    assert_close(got, expected, KERNEL[torch.float32])
    assert got[:, 4].tolist() == [1, 1, 1, 1, 0, 0]
    assert torch.equal(got, op.outcome(boxes, box_scores, found, geometry, settings)), "two runs differ"


def test_triton_compiles_for_sm_90():
    usage = compile_in_subprocess("tests.kernels.aot_localize", "compile_all")
    assert len(usage) == 3
    for kernel in usage.values():
        check_fits(kernel)
