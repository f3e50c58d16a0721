"""bench/search_hours.py at a small size, and its projection."""

import dataclasses

import pytest

from bench import search_hours
from bench.search_hours import Measured

TINY = {"image_size": 64, "batch": 2, "channels": 4, "train_frames": 1, "test_frames": 1}


def test_measures_frames_and_crop_cache(monkeypatch, capsys):
    recipe = search_hours.search_recipe
    monkeypatch.setattr(search_hours, "search_recipe", lambda name: dataclasses.replace(recipe(name), **TINY))
    flags = "--recipe demo --frames 1 --iterations 2 --skip 1 --holdout-batches 1 --data-batches 1"
    rows = search_hours.main(flags.split())["rows"]
    for data in ("frames", "crop cache"):
        found = {row["kind"]: row for row in rows if row["data"] == data and "kind" in row}
        assert set(found) == {"warm-up", "alpha", "hold-out", "data alone"}
        assert all(row["mean"] > 0 and 0 <= row["wait_share"] <= 1 for row in found.values())
        assert found["alpha"]["count"] == 2
    totals = [row for row in rows if "projected_hours" in row]
    assert len(totals) == 2 and not any(row["enough"] for row in totals)
    assert all(row["projected_hours"][70] > row["projected_hours"][41] > 0 for row in totals)
    text = capsys.readouterr().out
    assert "PROJECTION" in text and "no more than a hint" in text


def test_projection_by_hand():
    """10 epochs of 1500 x 0.1 s; then 31 of 1500 x 0.5 s and of 500 hold-out batches of 0.2 s."""
    times = {"warm-up": 100.0, "alpha": 500.0, "hold-out": 200.0}
    found = {kind: Measured(200, 0.0, ms, 0.0, 0.0, 0.0) for kind, ms in times.items()}
    seconds = 10 * 1500 * 0.1 + 31 * (1500 * 0.5 + 500 * 0.2)
    assert search_hours.hours(found, 10, 41) == pytest.approx(seconds / 3600)


def test_the_first_iterations_do_not_count():
    measured = Measured.of([(5.0, 9.0), (0.1, 0.4), (0.1, 0.6), (0.4, 1.0)], skip=1)
    assert (measured.count, measured.first) == (3, 9000)
    assert measured.median == pytest.approx(600) and measured.mean == pytest.approx(2000 / 3)
    assert measured.step_median == pytest.approx(500) and measured.wait_share == pytest.approx(0.3)
