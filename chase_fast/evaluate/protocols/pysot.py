"""OTB, UAV123 and LaSOT as pysot scores them."""

from functools import partial

import numpy as np

from chase_fast.evaluate.protocols.curves import (
    AT_20_PERCENT,
    AT_20_PIXELS,
    AT_50,
    OVERLAPS,
    PIXELS,
    SIZES,
    centre,
    distance,
    distance_in_sizes,
    overlap,
    share_above,
    share_within,
)
from chase_fast.evaluate.protocols.ope import Curves, fit_length, need_absent, note_odd, score_curves
from chase_fast.evaluate.protocols.types import Protocol, Scores, Truth
from chase_fast.remarks import Notes


def score(protocol: str, use_absent: bool, truths: list[Truth], predictions: dict[str, np.ndarray]) -> Scores:
    """pysot's OPEBenchmark.

    Rules: the first box is used as predicted and counts; the denominator is always all annotated frames.
    `use_absent`: frames marked absent are taken out before, so they are misses in every curve. Overlap is
    continuous, clipped, > t at 21 thresholds; it is -1 (a miss) unless the annotated width and height are >
    0. Centre error <= t at 0 ... 50 pixels, and normalised error (centres divided by the annotated size
    first) at 51 thresholds up to 0.5; both are -1, a hit, unless the annotated centre has x > 0 and y > 0:
    a frame without a known box is a miss for success and a hit for precision.

    Raises:
        ChaseError: not one box per frame; no absence flags though `use_absent`.
    """
    return score_curves(protocol, truths, predictions, partial(_curves, protocol, use_absent), _read)


def _curves(protocol: str, use_absent: bool, truth: Truth, boxes: np.ndarray, note: Notes) -> Curves:
    boxes, true, frames = fit_length(protocol, truth, boxes, note), truth.boxes, len(truth.boxes)
    note_odd(boxes, note)
    if use_absent:
        present = ~need_absent(protocol, truth)
        boxes, true = boxes[present], true[present]
        note("frames marked absent are misses", frames - len(true), rule=True)
    has_area = (true[:, 2:] > 0).all(1)
    has_centre = (centre(true) > 0).all(1)
    note(
        "annotated boxes unknown or of no size are misses for success", np.count_nonzero(~has_area), rule=True
    )
    note(
        "annotated centres unknown or not inside the picture are hits for precision",
        np.count_nonzero(~has_centre),
        rule=True,
    )
    errors = distance(centre(boxes), centre(true))
    relative = distance_in_sizes(boxes, true, true[:, 2:] + 1e-16)
    return {
        "success": share_above(np.where(has_area, overlap(boxes, true), -1), OVERLAPS, frames),
        "precision": share_within(np.where(has_centre, errors, -1), PIXELS, frames),
        "normalised_precision": share_within(np.where(has_centre, relative, -1), SIZES, frames),
    }


def _read(curves: Curves) -> dict[str, float]:
    return {
        "AUC": curves["success"].mean(),
        "P20": curves["precision"][AT_20_PIXELS],
        "NP_at_0p2": curves["normalised_precision"][AT_20_PERCENT],
        "SR50": curves["success"][AT_50],
    }


PROTOCOLS = [
    Protocol(
        "pysot",
        "pysot, OPEBenchmark",
        "mean of sequences, denominator: all frames; invalid ones are misses for success, hits for precision",
        partial(score, "pysot", False),
    ),
    Protocol(
        "pysot-absent",
        "pysot, OPEBenchmark for LaSOT",
        "as pysot, with frames marked absent as misses",
        partial(score, "pysot-absent", True),
    ),
]
