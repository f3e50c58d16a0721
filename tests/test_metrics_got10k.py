"""Protocol got10k and the result files beside the got10k package's own report on the same files."""

import numpy as np
import pytest

from chase_fast.evaluate.protocols import Truth, score
from chase_fast.evaluate.results import read_results, write_sequence
from chase_fast.evaluate.speed import speed
from tests.tolerances import METRIC

SIZE = (64, 48)


def write_truth(folder, length: int, rng: np.random.Generator) -> Truth:
    folder.mkdir(parents=True)
    for i in range(length):
        (folder / f"{i + 1:08d}.jpg").touch()  # the report counts frames, it opens none
    corner = np.cumsum(rng.normal(0, 4, (length, 2)), 0) + [20, 15]  # leaves the picture on every side
    boxes = np.concatenate([corner, rng.uniform(5, 30, (length, 2))], 1).round(4)
    cover = rng.integers(0, 9, length)
    np.savetxt(folder / "groundtruth.txt", boxes, fmt="%.4f", delimiter=",")
    for name, values in (("cover", cover), ("absence", cover == 0), ("cut_by_image", cover * 0)):
        np.savetxt(folder / f"{name}.label", values, fmt="%d")
    (folder / "meta_info.ini").write_text(f"[METAINFO]\nurl: none\nresolution: {SIZE}\n")
    return Truth(folder.name, boxes, cover == 0, cover, SIZE)


def test_the_got10k_package_reports_the_same_numbers_on_the_same_files(tmp_path, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "Agg")
    pytest.importorskip("six", reason="got10k needs six: pip install six")
    experiments = pytest.importorskip("got10k.experiments", reason="pip install got10k to compare live")
    rng = np.random.default_rng(5)
    names = [f"GOT-10k_Val_{i:06d}" for i in (1, 2, 3)]
    root, results = tmp_path / "data", tmp_path / "results" / "GOT-10k" / "mine"
    truths = [
        write_truth(root / "val" / n, length, rng) for n, length in zip(names, (20, 33, 41), strict=True)
    ]
    (root / "val" / "list.txt").write_text("\n".join(names))
    for truth in truths:
        for repetition in (1, 2):
            boxes = truth.boxes + rng.normal(0, 2, truth.boxes.shape)
            boxes[0] = truth.boxes[0]
            times = rng.uniform(0.001, 0.02, len(boxes))
            write_sequence(results, "got10k", truth.name, boxes, times, repetition=repetition)

    experiment = experiments.ExperimentGOT10k(
        str(root), subset="val", result_dir=str(tmp_path / "results"), report_dir=str(tmp_path / "reports")
    )
    theirs = experiment.report(["mine"])["mine"]

    predictions, times = read_results(results, names)
    scores = score("got10k", truths, predictions)
    ours = {"ao": scores.metrics["AO"], "sr": scores.metrics["SR50"]}
    ours["speed_fps"] = speed(times).fps_mean_of_frames
    assert 0.2 < ours["ao"] < 0.9
    for metric, value in ours.items():
        assert value == pytest.approx(theirs["overall"][metric], abs=METRIC, rel=METRIC)
    np.testing.assert_allclose(scores.curves["success"][1], theirs["overall"]["succ_curve"], atol=METRIC)
    for name in names:
        expected = theirs["seq_wise"][name]
        assert scores.per_sequence[name]["AO"] == pytest.approx(expected["ao"], abs=METRIC)
        assert scores.per_sequence[name]["SR50"] == pytest.approx(expected["sr"], abs=METRIC)
        assert speed({name: times[name]}).fps_mean_of_frames == pytest.approx(
            expected["speed_fps"], rel=METRIC
        )
