"""crop_windows on the skeleton, the reference against OpenCV's resize as the tracker uses it."""

import numpy as np
import pytest
import torch

from chase_fast.kernels.crop_windows import CAN_RUN, cases, crop_windows, reference
from chase_fast.track.patch import search_window, take
from tests.kernels.aot import check_fits, compile_in_subprocess
from tests.kernels.forward import ForwardTests
from tests.kernels.harness import device_of, poison, skip_unless
from tests.tolerances import KERNEL, assert_close

FAST = [b for b in CAN_RUN if b != "reference"]
FLOATS = (torch.float32, torch.float64)


def frame_of(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (rows, columns, 3), dtype=np.uint8)


def buffer(frame: np.ndarray, dtype=torch.uint8, more: int = 0) -> torch.Tensor:
    """The frame at the beginning of a buffer."""
    flat = torch.from_numpy(frame).flatten().to(dtype)
    return torch.cat([flat, torch.zeros(more, dtype=dtype)])


@pytest.mark.parametrize("border", ["replicate", "inside", "inside_major"])
@pytest.mark.parametrize("dtype", [torch.uint8, *FLOATS], ids=str)
def test_reference_equals_what_the_tracker_takes_on_the_host(border, dtype):
    """Random targets: inside, across the border, far outside, larger than the frame, thinned out."""
    rng = np.random.default_rng(3)
    thinned = outside = 0
    for case in range(60):
        hw = tuple(int(n) for n in rng.integers(3, 200, 2))
        frame, size = frame_of(*hw, case), int(rng.integers(2, 40))
        centres = rng.uniform(-150, 300, (3, 2))
        sides = rng.uniform(3, 400, 3)
        found = [
            search_window(tuple(c), s, hw, size, border, 1.5, bool(case % 2)) for c, s in zip(centres, sides)
        ]
        expected = np.stack([take(frame, w, size) for w in found])
        rows = torch.tensor([w.row(hw) for w in found])
        got = crop_windows(buffer(frame, dtype, case), rows, size, backend="reference")
        assert got.dtype == (dtype if dtype in FLOATS else torch.float32)
        assert (got - torch.from_numpy(expected)).abs().max() < 2e-4, f"grey levels: {hw} {found}"
        thinned += any(w.every > 1 for w in found)
        outside += any(w.x0 < 0 or w.x0 + w.width > hw[1] for w in found)
    assert thinned > 10 and outside > 5


class TestCropWindows(ForwardTests):
    op = staticmethod(crop_windows)
    reference = staticmethod(reference.crop_windows)
    can_run = CAN_RUN
    cases = cases
    interpreted = ("tiny", "one_pixel")
    floating = ("pixels",)

    def op_call(self, inputs, backend):
        return torch.ops.chase_fast.crop_windows.default, (*inputs.values(), backend)


def prepared(dtype=torch.uint8, backend="reference") -> dict:
    skip_unless(CAN_RUN, backend, dtype)
    return cases.inputs(cases.TESTS[0], device_of(backend), dtype)


@pytest.mark.parametrize("fast", FAST)
def test_bytes_and_no_windows(fast, monkeypatch):
    inputs = prepared(torch.uint8, fast)
    expected = reference.crop_windows(**(inputs | {"pixels": inputs["pixels"].double()}))
    with monkeypatch.context() as patch:
        poison(patch)
        got = crop_windows(**inputs, backend=fast)
    assert got.shape == (5, 6, 6, 3) and got.dtype == torch.float32
    assert_close(got, expected, KERNEL[torch.float32])
    assert torch.equal(got, crop_windows(**inputs, backend=fast)), "two runs differ"
    none = inputs | {"windows": inputs["windows"][:0]}
    assert crop_windows(**none, backend=fast).shape == (0, 6, 6, 3)


def test_not_differentiable():
    inputs = prepared(torch.float32)
    inputs["pixels"].requires_grad_()
    with pytest.raises(RuntimeError, match="not differentiable: detach"):
        crop_windows(**inputs).sum().backward()


@pytest.mark.parametrize(
    "change, text",
    [
        ({"pixels": torch.zeros(3, 4, dtype=torch.uint8)}, "pixels must be"),
        ({"pixels": torch.zeros(12, dtype=torch.int32)}, "pixels must be"),
        ({"windows": torch.zeros(2, 4, dtype=torch.int64)}, "windows must be"),
        ({"windows": torch.zeros(2, 9)}, "windows must be"),
        ({"size": 0}, "size positive"),
    ],
)
def test_wrong_input_is_named(change, text):
    with pytest.raises(ValueError, match=text):
        crop_windows(**(prepared() | change))


def test_triton_compiles_for_sm_90():
    pytest.importorskip("triton")
    usage = compile_in_subprocess("tests.kernels.aot_crop_windows", "compile_all")
    assert len(usage) == 2
    for kernel in usage.values():
        check_fits(kernel)
