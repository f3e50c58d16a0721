"""Frames whose box is unknown (NaN), treated before a protocol sees them."""

from dataclasses import replace

import numpy as np

from chase_fast.errors import ChaseError
from chase_fast.evaluate.protocols.types import Truth
from chase_fast.remarks import Notes, Remark

UNKNOWN = ("toolkit", "zero", "remove")


def note_treatment(truths: list[Truth], how: str) -> list[Remark]:
    """Remarks on what `treat_unknown` changes."""
    remarks: list[Remark] = []
    done = {"zero": "count as boxes of no size", "remove": "are removed"}
    for truth in truths if how in done else ():
        unknown = np.count_nonzero(np.isnan(truth.boxes).any(1))
        Notes(truth.name, remarks)(f"frames without a known box {done[how]} (--unknown {how})", unknown)
    return remarks


def treat_unknown(
    truths: list[Truth], predictions: dict[str, np.ndarray], how: str
) -> tuple[list[Truth], dict[str, np.ndarray]]:
    """Annotations and predictions without NaN in the annotation.

    `zero`: every NaN becomes 0, so the frame is invalid and stays in the denominator. `remove`: the frame is
    taken out of annotation, flags and prediction. `toolkit`: nothing changes.

    Raises:
        ChaseError: another word; a first box that is unknown, or a wrong number of boxes, when frames are
            removed.
    """
    if how not in UNKNOWN:
        raise ChaseError(f"cannot treat unknown boxes as {how!r}: choose one of {', '.join(UNKNOWN)}")
    if how == "toolkit":
        return truths, predictions
    if how == "zero":
        return [replace(t, boxes=np.nan_to_num(t.boxes, nan=0.0)) for t in truths], predictions
    treated, kept = [], {}
    for truth in truths:
        known, boxes = ~np.isnan(truth.boxes).any(1), predictions[truth.name]
        if not known[0]:
            raise ChaseError(f"sequence {truth.name} has no known first box: leave the sequence out")
        if boxes.shape[-2] != len(known):
            raise ChaseError(
                f"sequence {truth.name} has {boxes.shape[-2]} predicted boxes for {len(known)} frames: "
                "frames can only be removed where there is one box per frame"
            )
        absent, cover = (None if v is None else np.asarray(v)[known] for v in (truth.absent, truth.cover))
        treated.append(replace(truth, boxes=truth.boxes[known], absent=absent, cover=cover))
        kept[truth.name] = boxes[..., known, :]
    return treated, kept
