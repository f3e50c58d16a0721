"""Protocols on real sequences and the result files of two public trackers, which are not in the project:

CHASE_FAST_GOLDEN=FULL_SET CHASE_FAST_SEQUENCES=FOLDER; FOLDER has val/ (GOT-10k layout) and results/TRACKER.
"""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

from chase_fast.evaluate.protocols import Truth, score
from chase_fast.evaluate.results import read_results
from tests.metric_goldens import PROTOCOL_OF, assert_numbers, numbers
from tests.tolerances import METRIC, METRIC_FLOAT32

FOLDER = os.environ.get("CHASE_FAST_SEQUENCES")
needs_data = pytest.mark.skipif(
    FOLDER is None or "real" not in numbers(),
    reason="set CHASE_FAST_SEQUENCES to the real sequences and CHASE_FAST_GOLDEN to the full golden set",
)


def truth(name: str, about: dict) -> Truth:
    folder = Path(FOLDER) / "val" / name
    text = (folder / "groundtruth.txt").read_bytes()
    assert hashlib.sha256(text).hexdigest()[:16] == about["groundtruth_sha256"]
    cover = np.loadtxt(folder / "cover.label", dtype=int)
    boxes = np.loadtxt(folder / "groundtruth.txt", delimiter=",")
    return Truth(name, boxes, cover == 0, cover, (about["width"], about["height"]))


@needs_data
@pytest.mark.parametrize("tracker", ["CSRT", "NANOv2"])
@pytest.mark.parametrize("toolkit", PROTOCOL_OF)
def test_real_sequences_get_the_numbers_of_the_toolkit(toolkit, tracker):
    about, entry = numbers()["real_inputs"][tracker], numbers()["real"][tracker][toolkit]
    lengths = {name: a["frames"] for name, a in about.items()}
    predictions, times = read_results(Path(FOLDER) / "results" / tracker, list(about), lengths)
    assert set(times) == set(about) and len(about) == 18
    scores = score(PROTOCOL_OF[toolkit], [truth(name, a) for name, a in about.items()], predictions)
    tolerance = METRIC_FLOAT32 if toolkit.startswith("pytracking") else METRIC
    assert_numbers(scores.metrics, entry["aggregate"], tolerance, f"{toolkit} {tracker}")
    for name, expected in entry["per_sequence"].items():
        assert_numbers(scores.per_sequence[name], expected, tolerance, f"{toolkit} {tracker} {name}")
