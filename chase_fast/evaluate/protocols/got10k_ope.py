"""OTB, UAV123 and LaSOT as the got10k toolkit scores them."""

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
    overlap,
    share_above,
    share_within,
)
from chase_fast.evaluate.protocols.ope import (
    SURPLUS,
    Curves,
    note_odd,
    note_unknown,
    score_curves,
    set_first,
)
from chase_fast.evaluate.protocols.types import Protocol, Scores, Truth
from chase_fast.remarks import Notes

MISSING = "fewer boxes than annotated frames, those after the last box are not scored"


def score(
    protocol: str, known_only: bool, normalised: bool, truths: list[Truth], predictions: dict[str, np.ndarray]
) -> Scores:
    """The report of the got10k toolkit (ExperimentOTB, ExperimentUAV123, ExperimentLaSOT).

    Rules: the first box is replaced by the annotated one and counts; the longer of annotation and
    prediction is cut; overlap is continuous and not bounded by the picture, success > t at 21 thresholds,
    centre error <= t at 0 ... 50 pixels. An annotated box without area is a miss for success, its centre
    counts. Absence flags are not read. `known_only` (UAV123, LaSOT): frames without a known box are left
    out of the denominator too; OTB keeps them, as misses. `normalised` (LaSOT): centre error divided by
    max(1, w) and max(1, h), <= t at 51 thresholds up to 0.5; NP_mean, the mean of that curve, is what the
    toolkit reports.
    """
    of_sequence = partial(_curves, known_only=known_only, normalised=normalised)
    return score_curves(protocol, truths, predictions, of_sequence, _read)


def _curves(truth: Truth, boxes: np.ndarray, note: Notes, known_only: bool, normalised: bool) -> Curves:
    frames = min(len(boxes), len(truth.boxes))
    note(MISSING, len(truth.boxes) - frames)
    note(SURPLUS, len(boxes) - frames, "box")
    boxes, true = boxes[:frames], truth.boxes[:frames]
    set_first(boxes, truth, note)
    note_odd(boxes, note)
    note_unknown(truth, note, "are not scored" if known_only else "are misses")
    no_area = ~np.isnan(true).any(1) & (true[:, 2:] <= 0).any(1)
    note("annotated boxes of no size are misses for success", np.count_nonzero(no_area), rule=True)
    if known_only:
        known = ~np.isnan(true).any(1)
        boxes, true = boxes[known], true[known]
    curves = {
        "success": share_above(overlap(boxes, true), OVERLAPS),
        "precision": share_within(distance(centre(boxes), centre(true)), PIXELS),
    }
    if normalised:
        error = (centre(boxes) - centre(true)) / np.maximum(1, true[:, 2:])
        curves["normalised_precision"] = share_within(distance(error, np.zeros_like(error)), SIZES)
    return curves


def _read(curves: Curves) -> dict[str, float]:
    success = curves["success"]
    numbers = {"AUC": success.mean(), "P20": curves["precision"][AT_20_PIXELS], "SR50": success[AT_50]}
    if "normalised_precision" in curves:
        normalised = curves["normalised_precision"]
        numbers["NP_mean"] = normalised.mean()
        numbers["NP_at_0p2"], numbers["NP_at_0p5"] = normalised[AT_20_PERCENT], normalised[-1]
    return numbers


PROTOCOLS = [
    Protocol(
        "otb",
        "got10k toolkit, ExperimentOTB",
        "mean of sequences, first frame set and counted, frames without a known box are misses",
        partial(score, "otb", False, False),
    ),
    Protocol(
        "uav123-got10k",
        "got10k toolkit, ExperimentUAV123",
        "mean of sequences, first frame set and counted, denominator: frames with a known box",
        partial(score, "uav123-got10k", True, False),
    ),
    Protocol(
        "lasot-got10k",
        "got10k toolkit, ExperimentLaSOT",
        "as uav123-got10k, with normalised precision as the mean of its curve; absence flags not read",
        partial(score, "lasot-got10k", True, True),
    ),
]
