"""LaSOT as its own Matlab toolkit scores it."""

import numpy as np

from chase_fast.evaluate.protocols.matlab import frame_curves, score_dropping
from chase_fast.evaluate.protocols.ope import (
    Curves,
    fit_length,
    need_absent,
    note_invalid,
    note_odd,
    replace_by_previous,
    set_first,
)
from chase_fast.evaluate.protocols.types import Protocol, Scores, Truth
from chase_fast.remarks import Notes

NAME = "lasot-official"
INVALID = "are misses for success, hits for precision"


def score(truths: list[Truth], predictions: dict[str, np.ndarray]) -> Scores:
    """The LaSOT evaluation toolkit.

    Rules: predictions longer than the annotation are cut; a predicted box with a NaN, w <= 0 or h <= 0 on a
    frame with a known box becomes the one before it; then the first box is replaced by the annotated one
    and counts. Absent frames are taken out while the denominator stays all frames, so they are misses in
    every curve. Curves: see `matlab.frame_curves`. In the mean, a sequence whose whole curve is zero is
    left out, separately for each curve; `*_without_drop` are the plain means.

    Raises:
        ChaseError: no absence flags, or too few boxes.
    """
    return score_dropping(NAME, truths, predictions, _curves)


def _curves(truth: Truth, boxes: np.ndarray, note: Notes) -> Curves:
    true = truth.boxes
    boxes = fit_length(NAME, truth, boxes, note, longer="cut")
    bad = np.isnan(boxes).any(1) | (boxes[:, 2:] <= 0).any(1)
    replace_by_previous(boxes, bad & ~np.isnan(true).any(1), note)
    set_first(boxes, truth, note)
    note_odd(boxes, note)
    present = ~need_absent(NAME, truth)
    note("frames marked absent are misses", np.count_nonzero(~present), rule=True)
    note_invalid(true[present], note, INVALID)
    unknown = np.isnan(true[present]).any(1)
    note(f"frames without a known box {INVALID}", np.count_nonzero(unknown), rule=True)
    return frame_curves(boxes[present], true[present], frames=len(true), normalised=True)


PROTOCOLS = [
    Protocol(
        NAME,
        "LaSOT evaluation toolkit (Matlab)",
        "mean of sequences that do not fail everywhere, denominator: all frames, absent ones are misses",
        score,
    )
]
