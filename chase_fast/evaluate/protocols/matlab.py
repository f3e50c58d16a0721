"""What the Matlab toolkits of LaSOT and VisDrone share; both come from the OTB toolkit."""

import numpy as np

from chase_fast.evaluate.protocols.curves import (
    AT_20_PERCENT,
    AT_20_PIXELS,
    AT_50,
    EPS,
    OVERLAPS,
    PIXELS,
    SIZES,
    centre,
    distance,
    distance_in_sizes,
    overlap_of_pixels,
    share_above,
    share_within,
)
from chase_fast.evaluate.protocols.ope import Curves, score_curves
from chase_fast.evaluate.protocols.types import Scores
from chase_fast.remarks import Remark


def frame_curves(boxes: np.ndarray, true: np.ndarray, frames: int, normalised: bool) -> Curves:
    """Curves of boxes [T, 4] with `frames` as the denominator.

    A frame is valid if all of x, y, w, h of the annotation are > 0. Overlap of pixel boxes, not clipped, >
    t at 0, 0.05 ... 1; centre error <= t at 0 ... 50 pixels, and in annotated sizes up to 0.5. All are -1
    on invalid frames: misses for success, hits for precision.
    """
    valid = (true > 0).all(1)
    errors = distance(centre(boxes), centre(true))
    curves = {
        "success": share_above(np.where(valid, overlap_of_pixels(boxes, true), -1), OVERLAPS, frames + EPS),
        "precision": share_within(np.where(valid, errors, -1), PIXELS, frames + EPS),
    }
    if normalised:
        relative = np.where(valid, distance_in_sizes(boxes, true, true[:, 2:]), -1)
        curves["normalised_precision"] = share_within(relative, SIZES, frames + EPS)
    return curves


def read(curves: Curves) -> dict[str, float]:
    """The numbers that both toolkits rank by."""
    numbers = {
        "AUC": curves["success"].mean(),
        "SR50": curves["success"][AT_50],
        "P20": curves["precision"][AT_20_PIXELS],
    }
    if "normalised_precision" in curves:
        numbers["NP_at_0p2"] = curves["normalised_precision"][AT_20_PERCENT]
    return numbers


def mean_without_failures(curves: list[np.ndarray]) -> np.ndarray:
    """Mean over sequences, leaving out those whose curve is zero everywhere; NaN if all are."""
    kept = [curve for curve in curves if curve.sum() > EPS]
    return np.mean(kept, axis=0) if kept else np.full_like(curves[0], np.nan)


def score_dropping(protocol, truths, predictions, of_sequence) -> Scores:
    """`score_curves` with the toolkits' mean; `*_without_drop` are the numbers of the plain mean.

    Every sequence says whether it was left out: dropped_from_success and dropped_from_precision, 1 or 0.
    """

    def read_sequence(curves: Curves) -> dict[str, float]:
        dropped = {f"dropped_from_{c}": curves[c].sum() <= EPS for c in ("success", "precision")}
        return read(curves) | dropped

    dropping = score_curves(protocol, truths, predictions, of_sequence, read, mean_without_failures)
    plain = score_curves(protocol, truths, predictions, of_sequence, read_sequence)
    without = {f"{name}_without_drop": plain.metrics[name] for name in dropping.metrics}
    dropped = tuple(
        Remark(f"a {curve} of zero everywhere is left out of the mean {curve}", name, 1, "sequence")
        for curve in ("success", "precision")
        for name, numbers in plain.per_sequence.items()
        if numbers[f"dropped_from_{curve}"]
    )
    remarks = dropping.remarks + dropped
    return Scores(protocol, dropping.metrics | without, plain.per_sequence, dropping.curves, remarks)
