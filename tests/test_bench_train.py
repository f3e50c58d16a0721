"""bench/train_step.py at a small size: its baseline, the published structure in eager torch, is equal."""

import dataclasses

import pytest

from bench import train_step
from bench.train_step import CHANNELS_LAST, PUBLISHED
from tests.tolerances import TRAIN_STEP

TINY = {"image_size": 64, "channels": 4, "train_frames": 1, "test_frames": 1}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    recipe = train_step.train_recipe
    monkeypatch.setattr(train_step, "train_recipe", lambda name: dataclasses.replace(recipe(name), **TINY))


def test_same_losses_and_gradients(capsys):
    rows = train_step.main(["--batch", "4", "--repeats", "1", "--not-equal"])["rows"]
    found = {row["candidate"]: row for row in rows}
    half = found.pop(train_step.BF16)
    assert half["speedup"] is None and "not equal" in capsys.readouterr().out
    assert list(found) == [PUBLISHED, CHANNELS_LAST, train_step.EAGER, train_step.GRAPH]
    for row in found.values():
        assert row["speedup"] is not None and row["ms"] > 0
        assert row["mismatch"]["loss"] < TRAIN_STEP
        assert max(row["mismatch"].values()) < 10 * TRAIN_STEP  # batch norms over a few values


@pytest.mark.parametrize(("error", "right"), [(TRAIN_STEP / 2, True), (2 * TRAIN_STEP, False)])
def test_a_wrong_step_gets_no_speed_up(error, right):
    config = train_step.train_recipe("demo")
    errors = {PUBLISHED: {"neck": 1e-6}, CHANNELS_LAST: {"neck": 1e-6}, train_step.GRAPH: {"neck": error}}
    medians, memory = {PUBLISHED: 2.0, CHANNELS_LAST: 1.5, train_step.GRAPH: 0.5}, dict.fromkeys(errors)
    candidates = dict.fromkeys(errors, train_step.Candidate())
    row = train_step.row_of(train_step.GRAPH, medians, errors, memory, candidates, config)
    assert row["speedup"] == ({PUBLISHED: 4.0, CHANNELS_LAST: 3.0} if right else None)
