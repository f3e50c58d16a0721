"""GOT-10k: average overlap and success rate over frames."""

import numpy as np

from chase_fast.errors import ChaseError
from chase_fast.evaluate.protocols.curves import overlap, share_above
from chase_fast.evaluate.protocols.ope import fit_length, note_odd
from chase_fast.evaluate.protocols.types import Protocol, Scores, Truth
from chase_fast.remarks import Notes, Remark

THRESHOLDS = np.linspace(0, 1, 101)


def inside(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Boxes [T, 4] bounded by a picture as the toolkit does it: corner first, then size by the moved corner.

    A box that begins left of the picture is therefore moved to x = 0 with its full width, not cropped.
    """
    limit = np.asarray(size, np.float64)
    corner = np.clip(boxes[:, :2], 0, limit)
    return np.concatenate([corner, np.clip(boxes[:, 2:], 0, limit - corner)], axis=1)


def score(truths: list[Truth], predictions: dict[str, np.ndarray]) -> Scores:
    """The report of the got10k toolkit (ExperimentGOT10k).

    Rules: the first frame is left out; both boxes are bounded by the picture (see `inside`); overlap is
    continuous; frames with cover 0 are not scored, without cover flags every frame is; absence flags are not
    read. The frames of all sequences and repetitions are put end to end, so a long sequence weighs more:
    AO = mean overlap, SR50 and SR75 = part of the frames with an overlap > 0.5, > 0.75, AUC101 = mean of the
    success curve at 101 thresholds. AO_seqmean and SR50_seqmean weigh every sequence the same. A frame
    without a known box but with cover > 0 makes AO NaN, as in the toolkit.

    Args:
        predictions: sequence -> boxes [T, 4], or [R, T, 4] of R repetitions.

    Raises:
        ChaseError: a sequence has no picture size, or not one box per frame.
    """
    frames, remarks = {}, list[Remark]()
    for truth in truths:
        runs, note = predictions[truth.name], Notes(truth.name, remarks)
        runs = runs[None] if runs.ndim == 2 else runs
        note("repetitions of a sequence all count", len(runs) * (len(runs) > 1), "repetition")
        frames[truth.name] = np.concatenate([_overlaps(truth, boxes, note) for boxes in runs])
        _note_rules(truth, runs, note)
    per_sequence = {name: _numbers(overlaps) for name, overlaps in frames.items()}
    together = np.concatenate(list(frames.values()))
    metrics = _numbers(together)
    for name in ("AO", "SR50"):
        metrics[f"{name}_seqmean"] = float(np.mean([numbers[name] for numbers in per_sequence.values()]))
    curves = {"success": (THRESHOLDS, share_above(together, THRESHOLDS))}
    return Scores("got10k", metrics, per_sequence, curves, tuple(remarks))


def _note_rules(truth: Truth, runs: np.ndarray, note: Notes) -> None:
    """What becomes of the annotation [T, 4] and of the boxes [R, T, 4]."""
    assert truth.size is not None, "_overlaps asks for it"
    boxes, true = np.concatenate(runs[:, 1:]), truth.boxes[1:]
    note_odd(boxes, note, "make AO no number")
    counts = np.ones(len(true), bool) if truth.cover is None else np.asarray(truth.cover)[1:] > 0
    unknown = np.isnan(true).any(1) & counts
    note("frames without a known box make AO no number", np.count_nonzero(unknown))
    note("first frames are not scored", 1, rule=True)
    note("frames with cover 0 are not scored", np.count_nonzero(~counts), rule=True)
    for whose, exact in (("predicted", boxes), ("annotated", true)):
        moved = (inside(exact, truth.size) != exact).any(1) & ~np.isnan(exact).any(1)
        note(f"{whose} boxes are bounded by the picture", np.count_nonzero(moved), "box", rule=True)


def _overlaps(truth: Truth, boxes: np.ndarray, note: Notes) -> np.ndarray:
    if truth.size is None:
        raise ChaseError(
            f"sequence {truth.name} has no picture size, which protocol got10k needs: give its frames or "
            "choose another protocol"
        )
    boxes = fit_length("got10k", truth, boxes, note)
    overlaps = overlap(inside(boxes[1:], truth.size), inside(truth.boxes[1:], truth.size))
    return overlaps if truth.cover is None else overlaps[np.asarray(truth.cover)[1:] > 0]


def _numbers(overlaps: np.ndarray) -> dict[str, float]:
    count = len(overlaps)
    return {
        "AO": float(overlaps.mean()) if count else float("nan"),
        "SR50": float((overlaps > 0.5).mean()) if count else float("nan"),
        "SR75": float((overlaps > 0.75).mean()) if count else float("nan"),
        "AUC101": float(share_above(overlaps, THRESHOLDS).mean()),
        "frames_scored": float(count),
    }


PROTOCOLS = [
    Protocol(
        "got10k",
        "got10k toolkit, ExperimentGOT10k",
        "all frames together but first ones and those with cover 0, boxes bounded by the picture",
        score,
    )
]
