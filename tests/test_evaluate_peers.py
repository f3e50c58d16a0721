"""OpenCV's trackers: the same boxes whatever the workers, the order and what else draws; silent."""

import ctypes
import dataclasses
import sys

import cv2
import numpy as np
import pytest
from rich.console import Console

from chase_fast.data.evaluation import open_evaluation
from chase_fast.evaluate.peers import OpenCV, parse_peer
from chase_fast.evaluate.results import read_results
from chase_fast.evaluate.runner import track_sequence
from chase_fast.evaluate.running import Effort, RunOnDisk
from tests.benchmarks import got10k_tree

LENGTHS = {"a": 5, "b": 6, "c": 4}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = got10k_tree(tmp_path_factory.mktemp("data"), LENGTHS)
    return open_evaluation(f"got10k:{root}:val")


def boxes_of(data, out, effort):
    name, mil = parse_peer("mil")
    run = RunOnDisk(out, name, data, mil, 0, True)
    assert run.track(data.sequences, effort, Console(quiet=True), True) == []
    return read_results(run.folder, LENGTHS)[0]


def test_mil_does_not_depend_on_workers_or_order(data, tmp_path):
    """Fault: it drew from the C library's rand(), which nothing seeded."""
    here = boxes_of(data, tmp_path / "here", Effort(0, 1))
    backwards = dataclasses.replace(data, sequences=data.sequences[::-1])
    two = boxes_of(data, tmp_path / "two", Effort(2, 1))
    for other in (boxes_of(backwards, tmp_path / "back", Effort(0, 1)), two):
        for name in LENGTHS:
            np.testing.assert_array_equal(here[name], other[name])


def test_nothing_that_draws_in_between_changes_mil(data):
    _, mil = parse_peer("mil")
    library = ctypes.CDLL("ucrtbase" if sys.platform == "win32" else None)

    def draw(count):
        library.rand()
        cv2.randu(np.zeros(5, np.uint8), 0, 255)

    plain, _ = track_sequence(mil, data.sequences[1], 3)
    disturbed = [np.empty(4)]
    session = mil.start(1)
    draw(0)
    session = mil.start(_seed(data.sequences[1].name))
    draw(0)
    session.init(data.sequences[1].frame(0), data.sequences[1].first_box)
    for k in range(1, 6):
        draw(k)
        disturbed.append(session.update(data.sequences[1].frame(k)).box)
    np.testing.assert_array_equal(plain[1:], disturbed[1:])


def _seed(name):
    from chase_fast.runs import stream

    return stream(3, "evaluate", name)


def test_another_seed_is_another_tracker(data):
    _, mil = parse_peer("mil")
    frames = [data.sequences[1].frame(k) for k in range(6)]

    def track(seed):
        session = mil.start(seed)
        session.init(frames[0], (2, 2, 30, 30))  # more than the square: there is something to draw
        return [session.update(f).box for f in frames[1:]]

    assert track(1) == track(1) and len({str(track(seed)) for seed in range(4)}) > 1


def test_results_seeded_in_the_old_way_are_not_continued():
    assert OpenCV("mil").identity()["generators"] and "generators" not in OpenCV("nano").identity()


def test_loading_a_network_is_silent(monkeypatch, capfd, tmp_path):
    """Fault: two warnings of OpenCV per sequence, under --quiet too. Here they are of a missing file."""

    def create(parameters):
        cv2.imread(str(tmp_path / "missing.png"))
        return "tracker"

    monkeypatch.setattr(cv2.TrackerNano, "create", create)
    before = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_WARNING)
    OpenCV("nano", ("a.onnx", "b.onnx")).start(0)
    assert capfd.readouterr().err == ""
    cv2.imread(str(tmp_path / "missing.png"))  # the level is as it was
    cv2.utils.logging.setLogLevel(before)
    assert "missing.png" in capfd.readouterr().err
