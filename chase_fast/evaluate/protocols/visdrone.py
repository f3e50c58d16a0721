"""VisDrone single-object tracking as its Matlab toolkit scores it."""

import numpy as np

from chase_fast.evaluate.protocols.matlab import frame_curves, score_dropping
from chase_fast.evaluate.protocols.ope import (
    Curves,
    fit_length,
    note_invalid,
    note_odd,
    note_unknown,
    replace_by_previous,
    set_first,
)
from chase_fast.evaluate.protocols.types import Protocol, Scores, Truth
from chase_fast.remarks import Notes

NAME = "visdrone"
INVALID = "are misses for success, hits for precision"


def score(truths: list[Truth], predictions: dict[str, np.ndarray]) -> Scores:
    """The VisDrone2018-SOT toolkit.

    Rules: a predicted box that is all NaN or has w <= 0 or h <= 0 on a frame with a known box becomes the one
    before it; then the first box is replaced by the annotated one and counts. Denominator: all frames; no
    absence flags. Curves: see `matlab.frame_curves`. In the mean, a sequence whose whole curve is zero is
    left out, separately for each curve; `*_without_drop` are the plain means. The toolkit ranks by P20
    unless told otherwise.

    Raises:
        ChaseError: not one box per frame.
    """
    return score_dropping(NAME, truths, predictions, _curves)


def _curves(truth: Truth, boxes: np.ndarray, note: Notes) -> Curves:
    boxes = fit_length(NAME, truth, boxes, note)
    bad = np.isnan(boxes).all(1) | (boxes[:, 2:] <= 0).any(1)
    replace_by_previous(boxes, bad & ~np.isnan(truth.boxes).any(1), note)
    set_first(boxes, truth, note)
    note_odd(boxes, note)
    note_unknown(truth, note, INVALID)
    note_invalid(truth.boxes, note, INVALID)
    return frame_curves(boxes, truth.boxes, frames=len(truth.boxes), normalised=False)


PROTOCOLS = [
    Protocol(
        NAME,
        "VisDrone2018-SOT toolkit (Matlab)",
        "mean of sequences that do not fail everywhere, denominator: all frames, no absence flags",
        score,
    )
]
