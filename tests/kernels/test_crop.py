"""crop: the window arithmetic and the pixels, against the goldens and backend against reference."""

import json

import numpy as np
import pytest
import torch

from chase_fast.kernels import crop as op
from chase_fast.kernels.crop import Window, crop, crop_window
from chase_fast.kernels.crop.cases import CASES
from chase_fast.kernels.crop.reference import resize_window
from tests import golden
from tests.tolerances import GOLDEN, KERNEL, assert_close, error

SMALL = [c for c in CASES if c.name != "paper"]
PLAIN = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


def frame_of(case, dtype=torch.uint8, seed=0):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(0, 256, (*case.frame_hw, 3), dtype=np.uint8)).to(dtype)


def golden_cases():
    data = golden.load("prdimp/crops")
    meta = json.loads(str(data["train_meta_json"]))
    return [(i, m) for i, m in enumerate(meta) if f"train{i}_crop_box" in data]


@pytest.mark.parametrize(("i", "meta"), golden_cases(), ids=lambda v: str(v) if isinstance(v, int) else "")
def test_golden(i, meta):
    data = golden.load("prdimp/crops")
    box = data["boxes"][meta["box_index"]]
    size = meta["output_sz"]
    window = crop_window(
        box,
        data["image_u8"].shape[:2],
        meta["search_area_factor"],
        size,
        meta["mode"],
        meta["max_scale_change"],
    )
    assert window.xywh == tuple(data[f"train{i}_crop_box"].astype(int))
    expected = torch.from_numpy(data[f"train{i}_gt_in_crop"])
    mapped = torch.tensor(window.to_crop(data[f"train{i}_gt_in"], size))
    assert_close(mapped, expected, GOLDEN["float32_forward"], "box in crop")

    trimmed = {
        k: torch.from_numpy(data[k][: 90 - window.trim_y, : 120 - window.trim_x])
        for k in ("image_u8", "image_f32")
    }
    expected = torch.from_numpy(data[f"train{i}_crop_u8"])
    assert torch.equal(resize_window(trimmed["image_u8"], window.xywh, size), expected)
    ours = resize_window(trimmed["image_f32"], window.xywh, size)
    assert_close(ours, torch.from_numpy(data[f"train{i}_crop_f32"]), KERNEL[torch.float32], "float crop")


@pytest.mark.parametrize("case", SMALL, ids=lambda c: c.name)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
@pytest.mark.parametrize("backend", list(op.CAN_RUN))
def test_backend_equals_reference(case, dtype, backend):
    frame = frame_of(case, dtype)
    if why := op.CAN_RUN[backend](frame.device, dtype):
        pytest.skip(why)
    expected = crop(
        frame.double() if dtype != torch.uint8 else frame, case.window, case.size, 1.1, backend="reference"
    )
    out = crop(frame, case.window, case.size, 1.1, backend=backend)
    tolerance = 0.0 if dtype == torch.uint8 else KERNEL[dtype]
    assert error(out, expected) <= tolerance
    assert out.shape == (3, case.size, case.size) and out.permute(1, 2, 0).is_contiguous()
    assert torch.equal(out, crop(frame, case.window, case.size, 1.1, backend=backend)), "two runs differ"
    wide = torch.zeros(frame.shape[0], 2 * frame.shape[1], 3, dtype=dtype)
    wide[:, ::2] = frame
    assert torch.equal(crop(wide[:, ::2], case.window, case.size, 1.1, backend=backend), out), "strided frame"


@pytest.mark.parametrize("backend", list(op.CAN_RUN))
def test_values(backend):
    frame = torch.full((4, 4, 3), 51, dtype=torch.uint8)
    out = crop(frame, (-2, 1, 6, 6), 3, gain=2.0, **PLAIN, backend=backend)
    torch.testing.assert_close(out, torch.full((3, 3, 3), 0.4))
    out = crop(frame, (0, 0, 4, 4), 2, gain=10.0, mean=(0.5, 0.0, 1.0), std=(0.5, 1.0, 2.0), backend=backend)
    torch.testing.assert_close(out[:, 0, 0], torch.tensor([1.0, 1.0, 0.0]))


@pytest.mark.parametrize("backend", list(op.CAN_RUN))
def test_opcheck(backend):
    case = CASES[1]
    args = (frame_of(case), list(case.window), case.size, 1.0, [0.1] * 3, [0.2] * 3, backend)
    torch.library.opcheck(op._crop, args)


def test_no_gradient():
    frame = frame_of(CASES[0], torch.float32).requires_grad_()
    with pytest.raises(RuntimeError, match="not differentiable"):
        crop(frame, (0, 0, 8, 8), 4)
    with pytest.raises(RuntimeError, match="not differentiable"):
        op._crop(frame, [0, 0, 8, 8], 4, 1.0, [0.0] * 3, [1.0] * 3, "cpu").sum().backward()


def test_compiled_calls_the_op():
    case = CASES[1]

    def run(frame):
        return crop(frame, case.window, case.size, backend="cpu")

    compiled = torch.compile(run, backend="eager", fullgraph=True)
    assert torch.equal(compiled(frame_of(case)), run(frame_of(case)))


def test_bad_input():
    frame = frame_of(CASES[0])
    for bad in (frame[..., :2], frame.int(), frame[:0]):
        with pytest.raises(ValueError, match="frame must be"):
            crop(bad, (0, 0, 8, 8), 4)
    with pytest.raises(ValueError, match="must be positive"):
        crop(frame, (0, 0, 0, 8), 4)
    with pytest.raises(RuntimeError, match="there is no backend cuda"):
        crop(frame, (0, 0, 8, 8), 4, backend="cuda")


def test_window():
    # fits: untouched; at the right border: shifted inside, last column never read; too big: overhang centred
    assert crop_window((40, 30, 10, 10), (90, 120), 2, 32) == Window(35, 25, 20)
    assert crop_window((112, 30, 10, 10), (90, 120), 2, 32) == Window(100, 25, 20, trim_x=1)
    assert crop_window((0, 0, 50, 50), (90, 121), 3, 32) == Window(-14, -30, 150, trim_x=1, trim_y=1)
    assert crop_window((0, 0, 50, 50), (90, 120), 3, 32, "inside").side == 90
    assert crop_window((0, 0, 50, 50), (90, 120), 3, 32, "inside_major").side == 120
    assert crop_window((0, 0, 50, 50), (90, 120), 3, 32, "inside", max_scale_change=1.5).side == 100
    with pytest.raises(ValueError, match="no area"):
        crop_window((0, 0, 0, 5), (90, 120), 2, 32)
    with pytest.raises(ValueError, match="unknown"):
        crop_window((0, 0, 5, 5), (90, 120), 2, 32, "other")


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
def test_native_on_random_windows(dtype):
    """Windows inside, across and far outside the frame, of one pixel, between pixels; written into place."""
    if why := op.CAN_RUN["cpu"](torch.device("cpu"), dtype):
        pytest.skip(why)
    rng = np.random.default_rng(5)
    tolerance = 0.0 if dtype == torch.uint8 else KERNEL[dtype]
    for case in range(60):
        rows, columns = (int(n) for n in rng.integers(1, 40, 2))
        frame = torch.from_numpy(rng.integers(0, 256, (rows, columns, 3), dtype=np.uint8)).to(dtype)
        window = [*rng.integers(-60, 60, 2), *rng.integers(1, 50, 2)]
        if case % 3 == 0:
            window = [w + u for w, u in zip(window, rng.random(4))]
        size, gain = int(rng.integers(1, 30)), float(rng.uniform(0.8, 1.2))
        expected = crop(
            frame.double() if dtype != torch.uint8 else frame, window, size, gain, backend="reference"
        )
        out = torch.full(
            (size, size, 3), float("nan"), dtype=torch.float32 if dtype == torch.uint8 else dtype
        )
        op.crop_into(out, frame, window, gain)
        assert error(out.permute(2, 0, 1), expected) <= tolerance, (window, size)
        sliced = torch.cat([frame, frame], 1)[:, :columns]  # rows at a stride
        assert torch.equal(crop(sliced, window, size, gain, backend="cpu"), out.permute(2, 0, 1))
