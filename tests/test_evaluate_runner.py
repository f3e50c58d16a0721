"""Running trackers over a benchmark: worker processes, resuming, seeds, and what a failure leaves behind."""

import dataclasses

import cv2
import numpy as np
import pytest
from rich.console import Console

from chase_fast.data.evaluation import open_evaluation
from chase_fast.errors import ChaseError
from chase_fast.evaluate.results import read_results
from chase_fast.evaluate.runner import track_sequence
from chase_fast.evaluate.running import Effort, RunOnDisk, spread
from tests.benchmarks import boxes, got10k_tree
from tests.entrants import Lost, Mortals, Squares

HERE = Effort(0, 1)


@pytest.fixture
def data(tmp_path):
    got10k_tree(tmp_path, {"a": 5, "b": 7, "c": 6})
    return open_evaluation(f"got10k:{tmp_path}:val")


def run(data, out, entrant, effort=HERE, seed=0, rank=0):
    disk = RunOnDisk(out, "ours", data, entrant, seed, rank == 0)
    return disk, disk.track(data.sequences, effort, Console(quiet=True), True)


def test_boxes_are_exact_and_the_first_one_is_given(data):
    told = []
    found, times = track_sequence(Squares(), data.sequences[1], 0, told.append)
    np.testing.assert_array_equal(found, boxes(7))
    assert (times > 0).all() and sum(told) == 7


def test_results_do_not_depend_on_workers_or_a_process_that_dies_once(data, tmp_path, capfd):
    here, failures = run(data, tmp_path / "here", Squares(noise=0.5))
    assert not failures
    lives = tmp_path / "lives"
    lives.touch()
    # only sequence b has a seventh frame
    two, failures = run(data, tmp_path / "two", Mortals(lives, 1, 7, noise=0.5), Effort(2, 1))
    assert not failures and all(map(two.finished, data.sequences)) and lives.stat().st_size == 1
    assert "the tracker's process died on sequence b (SIGKILL" in capfd.readouterr().err
    names = ["a", "b", "c"]
    one, other = (read_results(disk.folder, names)[0] for disk in (here, two))
    for name in names:
        np.testing.assert_array_equal(one[name], other[name])


def test_the_seed_decides_what_is_random(data):
    first, same, other = (track_sequence(Squares(0.5), data.sequences[2], seed)[0] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, same)
    assert np.abs(other - first).max() > 0.01


def test_a_sequence_whose_process_dies_twice_is_given_up(data, tmp_path):
    lives = tmp_path / "lives"
    lives.touch()
    b = dataclasses.replace(data, sequences=data.sequences[1:2])
    disk, failures = run(b, tmp_path / "out", Mortals(lives, 9, 7), Effort(1, 1))
    assert lives.stat().st_size == 2 and not disk.finished(data.sequences[1])
    assert len(failures) == 1 and "died on sequence b" in failures[0] and "2 times" in failures[0]


def test_frames_may_change_size(data, tmp_path):
    path = tmp_path / "val" / "a" / "00000003.jpg"
    cv2.imwrite(str(path), cv2.copyMakeBorder(cv2.imread(str(path)), 0, 20, 0, 30, cv2.BORDER_CONSTANT))
    found, _ = track_sequence(Squares(), data.sequences[0], 0)
    np.testing.assert_array_equal(found, boxes(5))


def test_finished_sequences_are_kept_and_not_run_again(data, tmp_path):
    disk, _ = run(data, tmp_path / "out", Squares())
    kept = disk.folder / "a" / "a_001.txt"
    before = kept.stat().st_mtime_ns
    broken = disk.folder / "b" / "b_001.txt"
    broken.write_text(broken.read_text()[:20])
    assert [disk.finished(s) for s in data.sequences] == [True, False, True]
    again, failures = run(data, tmp_path / "out", Squares())
    assert not failures and all(map(again.finished, data.sequences))
    assert kept.stat().st_mtime_ns == before


def test_another_tracker_or_seed_needs_another_folder(data, tmp_path):
    run(data, tmp_path / "out", Squares())
    with pytest.raises(ChaseError, match="another noise"):
        run(data, tmp_path / "out", Squares(noise=1.0))
    with pytest.raises(ChaseError, match="another seed"):
        run(data, tmp_path / "out", Squares(), seed=1)


def test_ranks_share_the_sequences(data, tmp_path):
    disk, _ = run(data, tmp_path / "out", Squares(), Effort(0, 1, rank=1, world=2), rank=1)
    assert [disk.finished(s) for s in data.sequences] == [False, True, False]
    run(data, tmp_path / "out", Squares(), Effort(0, 1, rank=0, world=2))
    assert all(map(disk.finished, data.sequences))


def test_broken_frames_and_boxes_name_sequence_and_frame(data, tmp_path):
    frame = tmp_path / "val" / "b" / "00000004.jpg"
    frame.write_bytes(frame.read_bytes()[:300])
    disk, failures = run(data, tmp_path / "out", Squares())
    assert len(failures) == 1 and "sequence b, frame 4" in failures[0] and "\n" not in failures[0]
    assert [disk.finished(s) for s in data.sequences] == [True, False, True]
    with pytest.raises(ChaseError, match="sequence a, frame 3: the tracker returned box"):
        track_sequence(Lost(), data.sequences[0], 0)


def test_only_torchrun_makes_ranks(monkeypatch):
    """A RANK that another launcher left behind would leave sequences out."""
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "0")
    assert spread(3, 1, False, 5) == Effort(3, 1, 0, 1)
    monkeypatch.setenv("WORLD_SIZE", "x")
    with pytest.raises(ChaseError, match="WORLD_SIZE is x but"):
        spread(3, 1, False, 5)
