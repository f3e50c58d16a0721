"""LaSOT as its own Matlab toolkit scores it."""

import numpy as np

from chase_fast.evaluate.protocols.matlab import frame_curves, score_dropping
from chase_fast.evaluate.protocols.ope import Curves, fit_length, need_absent, replace_by_previous
from chase_fast.evaluate.protocols.types import Protocol, Scores, Truth

NAME = "lasot-official"


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


def _curves(truth: Truth, boxes: np.ndarray) -> Curves:
    true = truth.boxes
    boxes = fit_length(NAME, truth, boxes, longer="cut")
    bad = np.isnan(boxes).any(1) | (boxes[:, 2:] <= 0).any(1)
    replace_by_previous(boxes, bad & ~np.isnan(true).any(1))
    boxes[0] = true[0]
    present = ~need_absent(NAME, truth)
    return frame_curves(boxes[present], true[present], frames=len(true), normalised=True)


PROTOCOLS = [
    Protocol(
        NAME,
        "LaSOT evaluation toolkit (Matlab)",
        "mean of sequences that do not fail everywhere, denominator: all frames, absent ones are misses",
        score,
    )
]
