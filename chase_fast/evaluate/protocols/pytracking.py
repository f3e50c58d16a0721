"""OTB, UAV123 and LaSOT as pytracking scores them, with both denominators."""

from functools import partial

import numpy as np

from chase_fast.errors import ChaseError
from chase_fast.evaluate.protocols.curves import (
    AT_20_PERCENT,
    AT_20_PIXELS,
    AT_50,
    AT_75,
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
from chase_fast.evaluate.protocols.ope import (
    Curves,
    fit_length,
    need_absent,
    note_invalid,
    note_odd,
    note_unknown,
    replace_by_previous,
    score_curves,
    set_first,
)
from chase_fast.evaluate.protocols.types import Protocol, Scores, Truth
from chase_fast.remarks import Notes


def score(
    dataset: str, valid_only: bool, protocol: str, truths: list[Truth], predictions: dict[str, np.ndarray]
) -> Scores:
    """pytracking's analysis of result files, in float64 (its own curves are float32: equal to 1e-6).

    Rules: a predicted box with w = 0 or h = 0 on a frame with a known box becomes the one before it; then the
    first box is replaced by the annotated one and counts; longer predictions are cut, shorter ones filled
    up with zeros (`lasot`: refused). A frame is valid if all of x, y, w, h of the annotation are > 0 and,
    for `lasot`, the target is not absent: a correct box that touches the left or upper border is invalid.
    Overlap of pixel boxes, not clipped, > t at 21 thresholds, -1 on invalid frames. Centre error <= t at 0
    ... 50 pixels, on invalid frames -1, a hit, for `uav` and infinite for the others; centre error in
    annotated sizes at 51 thresholds up to 0.5, -1 on invalid frames, infinite where absent. Denominator:
    all frames, or with `valid_only` the valid frames, while the hits of invalid frames stay: P20 and
    NP_at_0p2 can exceed 1. mean_iou_valid: overlap over valid frames.

    Raises:
        ChaseError: where the toolkit stops: NaN or negative sizes predicted, unknown boxes annotated (but for
            `uav`), `lasot` with too few boxes or no absence flags.
    """
    of_sequence = partial(_curves, dataset, valid_only, protocol)
    return score_curves(protocol, truths, predictions, of_sequence, _read)


def _check(dataset: str, protocol: str, truth: Truth, boxes: np.ndarray) -> None:
    bad = np.isnan(boxes).any(1) | (boxes[:, 2:] < 0).any(1)
    if bad.any():
        raise ChaseError(
            f"sequence {truth.name}: predicted box {int(np.argmax(bad)) + 1} is NaN or of negative size, "
            f"which protocol {protocol} refuses: repair the result file or choose another protocol"
        )
    unknown = np.isnan(truth.boxes).any(1)
    if dataset != "uav" and unknown.any():
        raise ChaseError(
            f"sequence {truth.name}: annotated box {int(np.argmax(unknown)) + 1} is NaN, which "
            f"protocol {protocol} refuses: choose another protocol, or score with unknown boxes as zero or "
            "removed"
        )


def _curves(
    dataset: str, valid_only: bool, protocol: str, truth: Truth, boxes: np.ndarray, note: Notes
) -> Curves:
    _check(dataset, protocol, truth, boxes)
    true = truth.boxes
    known = ~np.isnan(true).any(1)
    both = min(len(boxes), len(true))
    replace_by_previous(boxes[:both], (boxes[:both, 2:] == 0).any(1) & known[:both], note)
    shorter = "refuse" if dataset == "lasot" else "zeros"
    note_odd(boxes[:both], note)
    boxes = fit_length(protocol, truth, boxes, note, longer="cut", shorter=shorter)
    set_first(boxes, truth, note)
    valid = (true > 0).all(1)
    absent = need_absent(protocol, truth) if dataset == "lasot" else np.zeros(len(true), bool)
    valid &= ~absent
    invalid = "are misses for success, hits for precision" if dataset == "uav" else "are misses"
    invalid += ", out of the denominator" if valid_only else ""
    note_unknown(truth, note, invalid)
    note_invalid(true[~absent], note, invalid)
    note("frames marked absent are misses", np.count_nonzero(absent), rule=True)

    overlaps = np.where(valid, overlap_of_pixels(boxes, true), -1)
    errors = distance(centre(boxes), centre(true))
    errors = np.where(valid, errors, -1 if dataset == "uav" else np.inf)
    relative = np.where(valid, distance_in_sizes(boxes, true, true[:, 2:]), -1)
    relative = np.where(absent, np.inf, relative)
    frames = int(valid.sum()) if valid_only else len(true)
    return {
        "success": share_above(overlaps, OVERLAPS, frames),
        "precision": share_within(errors, PIXELS, frames),
        "normalised_precision": share_within(relative, SIZES, frames),
        "mean_iou_valid": np.asarray(overlaps[valid].mean() if valid.any() else np.nan),
    }


def _read(curves: Curves) -> dict[str, float]:
    success = curves["success"]
    return {
        "AUC": success.mean(),
        "OP50": success[AT_50],
        "OP75": success[AT_75],
        "P20": curves["precision"][AT_20_PIXELS],
        "NP_at_0p2": curves["normalised_precision"][AT_20_PERCENT],
        "mean_iou_valid": curves["mean_iou_valid"],
    }


def _protocols(name: str, dataset: str, rule: str) -> list[Protocol]:
    return [
        Protocol(
            name,
            f"pytracking, dataset {dataset}",
            f"mean of sequences, denominator: all frames; {rule}",
            partial(score, dataset, False, name),
        ),
        Protocol(
            f"{name}-valid",
            f"pytracking, dataset {dataset}, exclude_invalid_frames",
            f"mean of sequences, denominator: valid frames; {rule}",
            partial(score, dataset, True, f"{name}-valid"),
        ),
    ]


PROTOCOLS = [
    *_protocols("uav123-pytracking", "uav", "invalid frames are misses for success, hits for precision"),
    *_protocols("otb-pytracking", "otb", "invalid frames are misses, unknown boxes refused"),
    *_protocols("lasot-pytracking", "lasot", "invalid and absent frames are misses, unknown boxes refused"),
]
