"""Scores by named protocol. The same boxes get different numbers from different toolkits: a number without
the name
of its protocol says little, so every `Scores` carries it."""

from dataclasses import replace

import numpy as np

from chase_fast.errors import ChaseError
from chase_fast.evaluate.protocols import (
    got10k,
    got10k_ope,
    lasot_official,
    pysot,
    pytracking,
    trackingnet,
    visdrone,
)
from chase_fast.evaluate.protocols.types import Protocol, Scores, Truth
from chase_fast.evaluate.protocols.unknown import UNKNOWN, note_treatment, treat_unknown

PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for module in (got10k, got10k_ope, pytracking, pysot, lasot_official, trackingnet, visdrone)
    for protocol in module.PROTOCOLS
}
__all__ = [
    "PROTOCOLS",
    "UNKNOWN",
    "Protocol",
    "Scores",
    "Truth",
    "score",
    "treat_unknown",
]


def score(
    protocol: str, truths: list[Truth], predictions: dict[str, np.ndarray], unknown: str = "toolkit"
) -> Scores:
    """Scores a tracker, equal to what the toolkit behind the protocol reports on the same boxes.

    Args:
        protocol: a name in PROTOCOLS.
        truths: the sequences that are scored.
        predictions: sequence name -> boxes [T, 4] x, y, w, h in pixels, or [R, T, 4] of R repetitions
            (`got10k` only); the first one is the given box. Sequences that are not in `truths` are not
            looked at.
        unknown: what to do about NaN in the annotation: as the `toolkit` does (some refuse), or `zero` or
            `remove` (see `treat_unknown`) before the toolkit's rules.

    Raises:
        ChaseError: unknown protocol, no sequences, sequences without predictions, boxes of a wrong shape,
            or input that the toolkit refuses.
    """
    if protocol not in PROTOCOLS:
        raise ChaseError(f"no protocol {protocol!r}: choose one of {', '.join(PROTOCOLS)}")
    if not truths:
        raise ChaseError("no sequences to score: check the dataset and its split")
    missing = [t.name for t in truths if t.name not in predictions]
    if missing:
        raise ChaseError(f"no results for {some(missing)}: run the tracker on them or leave them out")
    checked = {t.name: _checked(t, predictions[t.name]) for t in truths}
    remarks = note_treatment(truths, unknown)
    truths, checked = treat_unknown(truths, checked, unknown)
    scores = PROTOCOLS[protocol].score(truths, checked)
    return replace(scores, remarks=(*remarks, *scores.remarks))


def _checked(truth: Truth, boxes: np.ndarray) -> np.ndarray:
    boxes = np.asarray(boxes, np.float64)
    if boxes.ndim not in (2, 3) or boxes.shape[-1] != 4 or 0 in boxes.shape:
        raise ChaseError(f"boxes of sequence {truth.name} have shape {boxes.shape}: they must be [frames, 4]")
    rows = {name: len(v) for name in ("absent", "cover") if (v := getattr(truth, name)) is not None}
    wrong = [f"{count} {name} flags" for name, count in rows.items() if count != len(truth.boxes)]
    if wrong:
        raise ChaseError(
            f"sequence {truth.name} has {len(truth.boxes)} annotated boxes but {wrong[0]}: repair the dataset"
        )
    return boxes


def some(names: list[str], most: int = 5) -> str:
    """Names for a message, the first few of many."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
