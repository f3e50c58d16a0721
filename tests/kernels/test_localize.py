"""localize: both functions on the skeleton, published states, maps and boxes of every kind."""

import json
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from chase_fast.kernels import localize
from chase_fast.kernels.localize import STATES, cases, reference
from chase_fast.track.settings import PUBLISHED, STRIDE
from tests import golden
from tests.kernels.aot import check_fits, compile_in_subprocess
from tests.kernels.forward import ForwardTests
from tests.kernels.harness import device_of, each, poison, skip_unless
from tests.tolerances import KERNEL, assert_close

BACKENDS = tuple(localize.CAN_RUN)
FAST = [b for b in BACKENDS if b != "reference"]
PRDIMP, DIMP = PUBLISHED["prdimp50"], PUBLISHED["dimp50"]


class _Function(ForwardTests):
    can_run = localize.CAN_RUN
    interpreted = ("tiny", "tiny_extra", "tiny_dimp", "tiny_one")

    def __init_subclass__(cls):
        name = cls.function
        cls.op = staticmethod(getattr(localize, name))
        cls.reference = staticmethod(getattr(reference, name))
        cls.cases = SimpleNamespace(TESTS=cases.TESTS, DIFFERENTIABLE=(), inputs=partial(cases.inputs, name))

    def test_opcheck(self, small, fast, monkeypatch):
        """As the public function calls the op; not of the reference, which it calls without the op."""
        inputs, called = self.make(small, fast, torch.float32), []
        name = f"_{self.function}"
        op = getattr(localize, name)
        monkeypatch.setattr(localize, name, lambda *arguments: called.append(arguments) or op(*arguments))
        type(self).op(**inputs, backend=fast)
        torch.library.opcheck(op, called[0], test_utils=("test_schema", "test_faketensor"))


class TestStart(_Function):
    function = "start"
    floating = ("scores", "geometry")


class TestOutcome(_Function):
    function = "outcome"
    floating = ("boxes",)


def prepared(function: str, backend: str, case: cases.Case, seed: int = 0) -> dict:
    skip_unless(localize.CAN_RUN, backend, torch.float32)
    return cases.inputs(function, case, device_of(backend), seed=seed)


@pytest.mark.parametrize("rules", [cases.PRDIMP, cases.DIMP], ids=["prdimp", "dimp"])
@pytest.mark.parametrize("fast", FAST)
def test_states_of_many_random_maps(fast, rules):
    states = set()
    for side in (7, 18, 23):
        inputs = prepared("start", fast, cases.Case("many", 12, side, 1, rules, None), side)
        expected = reference.start(**{k: each(torch.Tensor.double, v) for k, v in inputs.items()})
        got = localize.start(**inputs, backend=fast)
        assert torch.equal(got[0][:, 2].double(), expected[0][:, 2]), "states"
        assert_close(got[0], expected[0], KERNEL[torch.float32], "found")
        states |= set(expected[0][:, 2].tolist())
    assert len(states) >= 2


@pytest.mark.parametrize("prefix, settings", [("pr", PRDIMP), ("di", DIMP)])
@pytest.mark.parametrize("backend", BACKENDS)
def test_golden_maps_with_rivals_and_hard_negatives(backend, prefix, settings):
    """The published implementation's states; rounding of halves and ties of peaks matter here."""
    skip_unless(localize.CAN_RUN, backend, torch.float32)
    z = golden.load("prdimp/tracker_logic")
    known = json.loads(str(z[f"{prefix}_state_json"]))
    names = [k.removesuffix("_scores") for k in z if k.startswith(f"{prefix}_") and k.endswith("_scores")]
    row = [
        *known["pos_yx"], *known["target_sz_hw"], *known["sample_pos_yx"], known["sample_scale"], 240, 320
    ]  # fmt: skip
    device = device_of(backend)
    geometry = torch.from_numpy(np.array([np.hstack(row)] * len(names))).float().to(device)
    maps = torch.stack([torch.from_numpy(z[f"{n}_scores"]).float() for n in names]).to(device)
    settings = settings.override(softmax=False)  # the maps are densities
    inputs = maps, geometry, torch.zeros(len(names), 0, 4, device=device), settings, STRIDE, None
    found, boxes = localize.start(*inputs, backend=backend)
    for code, name in zip(found[:, 2].tolist(), names):
        flag = str(z[f"{name}_flag"])
        assert STATES[int(code)] == {"normal": "tracked", "not_found": "lost"}.get(flag, flag), name
    expected, plain = reference.start(*inputs)
    assert_close(found, expected, KERNEL[torch.float32])
    assert_close(boxes, plain, KERNEL[torch.float32])


@pytest.mark.parametrize("backend", BACKENDS)
def test_ties_and_maps_that_are_not_finite(backend):
    inputs = prepared("start", backend, cases.Case("ties", 4, 5, 5, cases.DIMP, None))
    scores = inputs["scores"]
    scores[0] = 0.3  # everywhere: the first column's first row
    scores[1, 2, 3] = float("nan")
    scores[2] = float("nan")
    scores[3] = -1.0
    found, _ = localize.start(**inputs, backend=backend)
    expected, _ = reference.start(**inputs)
    assert torch.equal(found[:, 2], expected[:, 2])
    assert found[1:3, 3].isnan().all() and (found[1:, 2] == STATES.index("lost")).all()
    assert_close(found[[0, 3]], expected[[0, 3]], KERNEL[torch.float32])
    soft, _ = localize.start(**(inputs | {"rules": cases.PRDIMP}), backend=backend)
    assert soft[1:3, 3].isnan().all() and soft[0, 3].isfinite()


@pytest.mark.parametrize("half", [True, False])
@pytest.mark.parametrize("best", [1, 3, 50])
@pytest.mark.parametrize("backend", BACKENDS)
def test_boxes_that_cannot_be(backend, best, half, monkeypatch):
    rules = PRDIMP.override(best_boxes=best, half_pixel_offset=half)
    inputs = prepared("outcome", backend, cases.Case("boxes", 6, 9, 9, rules, None))
    boxes, scores = inputs["boxes"], inputs["scores"]
    boxes[1, 3, 0] = float("nan")
    boxes[1, 4, 2] = 1e4  # shape not acceptable
    boxes[2, :, 2:] = 0.2  # clamped to one pixel
    scores[3, 1:] = float("nan")
    scores[4] = float("inf")  # none left
    boxes[5, :, 3] = float("nan")
    expected = reference.outcome(**inputs)
    with monkeypatch.context() as patch:
        poison(patch)
        got = localize.outcome(**inputs, backend=backend)
    assert_close(got, expected, KERNEL[torch.float32])
    assert got[:, 4].tolist() == [1, 1, 1, 1, 0, 0]
    kept = torch.cat((inputs["found"][4:, :2], inputs["geometry"][4:, 2:4]), 1)
    assert torch.equal(got[4:, :4], kept) and torch.equal(got[:, 5:], inputs["found"][:, 2:])


@pytest.mark.parametrize(
    "function, change, text",
    [
        ("start", {"scores": torch.zeros(12, 7, 6)}, "scores must be"),
        ("start", {"noise": torch.zeros(11, 5, 4)}, "noise must be"),
        ("start", {"geometry": torch.zeros(12, 8)}, "geometry must be"),
        ("outcome", {"boxes": torch.zeros(12, 4)}, "boxes must be"),
        ("outcome", {"scores": torch.zeros(12, 5)}, "scores"),
        ("outcome", {"found": torch.zeros(12, 3)}, "found must be"),
    ],
)
def test_wrong_input_is_named(function, change, text):
    with pytest.raises(ValueError, match=text):
        getattr(localize, function)(**(cases.inputs(function, cases.TESTS[0]) | change))


def test_triton_compiles_for_sm_90():
    pytest.importorskip("triton")
    usage = compile_in_subprocess("tests.kernels.aot_localize", "compile_all")
    assert len(usage) == 3
    for kernel in usage.values():
        check_fits(kernel)
