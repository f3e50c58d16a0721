"""bench/ops.py on its small cases, the counts of its rooflines, and its clocks."""

import json
import math

import pytest
import torch

from bench import common, ops, roofline, timing
from chase_fast.kernels.kl_loss import kl_loss
from chase_fast.kernels.sep_conv import cases as sep_conv_cases


def run(*flags: str) -> list[dict]:
    return ops.main([*flags, "--repeats", "1"])["rows"]


@pytest.mark.parametrize(
    ("op", "functions"),
    [
        ("node_sum", 1),
        ("mixed_op", 1),
        ("sep_conv", 1),
        ("target_filter", 4),
        ("kl_loss", 1),
        ("prroi_pool", 1),
        ("conv3x3", 1),
        ("conv_epilogue", 1),
    ],
)
def test_every_op(op, functions, capsys):
    rows = run("--op", op, "--case", "tiny", "--not-equal")
    for mode in ops.MODES:
        found = [row["candidate"] for row in rows if row["mode"] == mode]
        assert found.count("reference") == found.count("eager bf16") == functions
    for row in rows:
        assert row["ms"] > 0 and math.isfinite(row["mismatch"])
        assert (row["speedup"] is None) == (row["candidate"] == "eager bf16"), row
        assert ("gb_s" in row) == (not op.startswith("conv")) and "roofline" not in row  # no peaks of a CPU
    assert "not equal" in capsys.readouterr().out


@pytest.mark.parametrize(("op", "functions"), [("box_ascent", 1), ("crop_windows", 1), ("localize", 2)])
def test_ops_that_are_not_differentiable(op, functions):
    rows = run("--op", op, "--case", "tiny")
    assert len(rows) == functions
    for row in rows:
        assert (row["mode"], row["candidate"]) == ("forward", "reference") and row["mismatch"] < 1e-5


def test_bfloat16_maps_have_float32_weights_and_fails_aloud(monkeypatch, capsys):
    inputs = sep_conv_cases.inputs(sep_conv_cases.TESTS[0], dtype=torch.bfloat16)
    inputs = ops.cast("sep_conv", inputs, torch.bfloat16)
    assert inputs["x"].dtype == torch.bfloat16
    assert all(inputs[k].dtype == torch.float32 for k in ("depthwise", "pointwise", "gamma", "beta"))

    def broken(**inputs):
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(ops.baselines, "kl_loss", broken)
    rows = run("--op", "kl_loss", "--case", "tiny")
    assert "eager" not in {row["candidate"] for row in rows}
    assert "eager: does not run: RuntimeError: no such kernel" in capsys.readouterr().out


def test_a_wrong_result_gets_no_speed_up(monkeypatch):
    def wrong(scores, density, grid_scale, backend):
        return kl_loss(scores, density, grid_scale, backend="reference") * (1.001 if backend == "cpu" else 1)

    monkeypatch.setattr("chase_fast.kernels.kl_loss.kl_loss", wrong)
    rows = run("--op", "kl_loss", "--case", "tiny")
    assert all((row["speedup"] is None) == (row["candidate"] == "cpu") for row in rows)


def test_results_are_written_with_device_versions_and_commit(tmp_path, monkeypatch):
    (tmp_path / "bench").mkdir()
    monkeypatch.setattr(common, "ROOT", tmp_path)
    run("--op", "kl_loss", "--case", "tiny", "--save")
    (path,) = (tmp_path / "bench" / "results").iterdir()
    result = json.loads(path.read_text())["kl_loss"]
    assert {"device", "torch", "commit", "date"} <= result["machine"].keys() and result["rows"]


def test_a_spent_budget_leaves_cases_out_and_says_so(capsys):
    assert run("--op", "kl_loss", "--case", "tiny", "--case", "odd", "--budget", "1e-9")[-1]["case"] == "tiny"
    assert "left out, --budget is spent: odd" in capsys.readouterr().out


# counts


def test_counts_by_hand():
    """node_sum in training: y1, y2 (normalised: twice), y3 (identity: once) read, one map written. Backward:
    all three and g, then y1, y2 and g again, three gradients written."""
    y = torch.zeros(2, 8, 5, 7)
    inputs = {"branches": [y, y, y], "kinds": [1, 2, 0], "training": True}
    bytes_of = 4 * y.numel()
    assert roofline.work("node_sum", inputs, "forward").bytes == 6 * bytes_of
    assert roofline.work("node_sum", inputs, "forward+backward").bytes == (6 + 4 + 3 + 3) * bytes_of
    inputs = {"features": torch.zeros(3, 2, 4, 5, 6), "residual": torch.zeros(3, 2, 6, 7), "filter_size": 4}
    work = roofline.work("target_filter.apply_transpose", inputs, "forward")
    assert work.matrix == 2 * 3 * 2 * 4 * 16 * (6 * 7)
    assert work.bytes == 4 * (3 * 2 * 4 * 30 + 3 * 2 * 42 + 2 * 4 * 16)
    assert roofline.work("crop", {}, "forward") is None


def test_the_bound_is_the_slowest_unit():
    h200 = roofline.peaks_of("NVIDIA H200")
    assert h200.memory == 4.3e12 and roofline.peaks_of("NVIDIA H100 80GB HBM3").memory < h200.memory
    assert roofline.peaks_of("NVIDIA GeForce RTX 3090") is None
    work = roofline.Work(bytes=4.3e9, vector=67e9, matrix=790e9)
    assert work.seconds(h200, torch.bfloat16) == pytest.approx(1e-3)
    assert work.seconds(h200, torch.float32) == pytest.approx((67e9 + 790e9) / 67e12)


# clocks


def test_a_time_limit_ends_what_takes_too_long():
    with pytest.raises(TimeoutError, match="more than 0 s"), timing.time_limit(0.05):
        while True:
            pass
    with timing.time_limit(30):
        pass


def test_tf32_is_put_back():
    before = torch.backends.cudnn.allow_tf32
    with timing.tf32(not before):
        assert torch.backends.cudnn.allow_tf32 != before
    assert torch.backends.cudnn.allow_tf32 == before


@pytest.mark.gpu
def test_replays_rotate_over_cold_buffers():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    device = torch.device("cuda")
    assert timing.copies_for(2**20, device) > timing.COLD // 2**20
    x = torch.zeros(3, 4, device=device)
    timer = timing.Timer(lambda k: x[k].add_(1), 3, device)
    assert timer.how == "graph x 3" and timer.seconds() > 0
    counted = x.clone()
    timer.seconds()
    assert torch.equal(x, counted + 1)  # one call per copy and replay
    assert timing.Timer(lambda k: x[k].sum().item(), 3, device).how.startswith("eager calls")
