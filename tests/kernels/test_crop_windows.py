"""crop_windows: the reference against OpenCV's resize as the tracker uses it, backends against that."""

import numpy as np
import pytest
import torch

from chase_fast.kernels.crop import windows as op
from chase_fast.kernels.crop.windows import crop_windows
from chase_fast.track.patch import search_window, take
from tests.kernels.aot import check_fits, compile_in_subprocess
from tests.kernels.harness import device_of, poison, skip_unless
from tests.tolerances import KERNEL, assert_close

FAST = [b for b in op.CAN_RUN if b != "reference"]
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


def inputs(dtype=torch.uint8, backend="reference") -> tuple[torch.Tensor, torch.Tensor]:
    """A frame of 13 x 17 and windows in it, across all borders, outside, thinned out, of one pixel."""
    rows = [
        (13, 17, 1, 0, 0, 2, 3, 9, 7),
        (13, 17, 1, 0, 0, -4, -5, 30, 31),
        (13, 17, 3, 2, 1, 1, -1, 4, 6),
        (13, 17, 1, 0, 0, 40, -60, 5, 5),
        (13, 17, 2, 1, 1, 3, 3, 1, 1),
    ]
    device = device_of(backend)
    return buffer(frame_of(13, 17), dtype, 5).to(device), torch.tensor(rows, device=device)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32], ids=str)
@pytest.mark.parametrize("fast", FAST)
def test_backend_equals_reference(fast, dtype, monkeypatch):
    skip_unless(op.CAN_RUN, fast, dtype)
    pixels, rows = inputs(dtype, fast)
    expected = op.reference(pixels.double(), rows, 6)
    with monkeypatch.context() as patch:
        poison(patch)
        got = crop_windows(pixels, rows, 6, backend=fast)
    assert got.shape == (5, 6, 6, 3) and got.dtype == torch.float32
    assert_close(got, expected, KERNEL[torch.float32])
    assert torch.equal(got, crop_windows(pixels, rows, 6, backend=fast)), "two runs differ"
    assert crop_windows(pixels, rows[:0], 6, backend=fast).shape == (0, 6, 6, 3)


@pytest.mark.parametrize("backend", list(op.CAN_RUN))
def test_opcheck(backend):
    skip_unless(op.CAN_RUN, backend, torch.uint8)
    arguments = (*inputs(torch.uint8, backend), 4, backend)
    torch.library.opcheck(op._crop_windows, arguments, test_utils=("test_schema", "test_faketensor"))


def test_not_differentiable():
    pixels, rows = inputs(torch.float32)
    with pytest.raises(RuntimeError, match="not differentiable"):
        crop_windows(pixels.requires_grad_(), rows, 4).sum().backward()


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
    pixels, rows = inputs()
    with pytest.raises(ValueError, match=text):
        crop_windows(**({"pixels": pixels, "windows": rows, "size": 4} | change))


def test_triton_compiles_for_sm_90():
    pytest.importorskip("triton")
    usage = compile_in_subprocess("tests.kernels.aot_crop", "compile_all")
    assert len(usage) == 2
    for kernel in usage.values():
        check_fits(kernel)
