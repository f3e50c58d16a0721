"""TrackingNet: whole pixels and areas under curves."""

import numpy as np

from chase_fast.evaluate.protocols.curves import OVERLAPS, distance, share_within
from chase_fast.evaluate.protocols.ope import (
    Curves,
    fit_length,
    note_odd,
    note_unknown,
    score_curves,
    set_first,
)
from chase_fast.evaluate.protocols.types import Protocol, Scores, Truth
from chase_fast.remarks import Notes

NAME = "trackingnet"
THRESHOLDS = {
    "success": OVERLAPS,
    "precision": np.linspace(0, 50, 21),
    "normalised_precision": np.linspace(0, 0.5, 21),
}


def score(truths: list[Truth], predictions: dict[str, np.ndarray]) -> Scores:
    """The metrics of the TrackingNet development kit and server.

    Rules: all coordinates are rounded, half to even; the first box is replaced by the annotated one and
    counts. Overlap of pixel boxes >= t (so 0 is always reached, and a perfect tracker has AUC 1), centre
    error <= t at 21 thresholds up to 50 pixels, and in annotated sizes up to 0.5. Denominator: all frames;
    NaN is a miss at every threshold; absent or invalid annotations are not treated. AUC, P and NP are areas
    under the three mean curves by the trapezoidal rule, over 0 ... 1. Longer predictions are cut, missing
    boxes are NaN. coverage: part of all frames of all sequences whose rounded box has x + y + w + h > 0.
    """
    scores = score_curves(NAME, truths, predictions, _curves, _read, thresholds=THRESHOLDS)
    frames = np.array([len(t.boxes) for t in truths])
    covered = np.array([numbers["coverage"] for numbers in scores.per_sequence.values()])
    metrics = scores.metrics | {"coverage": float((covered * frames).sum() / frames.sum())}
    return Scores(NAME, metrics, scores.per_sequence, scores.curves, scores.remarks)


def _curves(truth: Truth, boxes: np.ndarray, note: Notes) -> Curves:
    note_odd(boxes[: len(truth.boxes)], note)
    boxes = fit_length(NAME, truth, boxes, note, longer="cut", shorter="nan")
    set_first(boxes, truth, note)
    note_unknown(truth, note, "are misses")
    for whose, exact in (("predicted", boxes), ("annotated", truth.boxes)):
        moved = (np.round(exact) != exact).any(1) & ~np.isnan(exact).any(1)
        note(f"{whose} boxes are rounded to whole pixels", np.count_nonzero(moved), "box", rule=True)
    boxes, true = np.round(boxes), np.round(truth.boxes)
    low = np.maximum(boxes[:, :2], true[:, :2])
    high = np.minimum(boxes[:, :2] + boxes[:, 2:] - 1, true[:, :2] + true[:, 2:] - 1)
    shared = np.maximum(np.round(high - low + 1), 0).prod(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        overlaps = shared / (boxes[:, 2:].prod(1) + true[:, 2:].prod(1) - shared)
        apart = (boxes[:, :2] + (boxes[:, 2:] + 1) / 2) - (true[:, :2] + (true[:, 2:] + 1) / 2)
        relative = apart / true[:, 2:]
    origin = np.zeros_like(apart)
    return {
        "success": (overlaps[:, None] >= THRESHOLDS["success"]).mean(0),
        "precision": share_within(distance(apart, origin), THRESHOLDS["precision"]),
        "normalised_precision": share_within(distance(relative, origin), THRESHOLDS["normalised_precision"]),
        "coverage": np.mean(boxes.sum(1) > 0),
    }


def _read(curves: Curves) -> dict[str, float]:
    return {
        "AUC": float(np.trapezoid(curves["success"], OVERLAPS)),
        "P": float(np.trapezoid(curves["precision"], OVERLAPS)),
        "NP": float(np.trapezoid(curves["normalised_precision"], OVERLAPS)),
        "coverage": float(curves["coverage"]),
    }


PROTOCOLS = [
    Protocol(
        NAME,
        "TrackingNet development kit",
        "mean of sequences, boxes rounded to pixels, areas under the curves by trapezoids, all frames count",
        score,
    )
]
