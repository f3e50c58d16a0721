"""One-pass evaluation: curves of every sequence, their mean, numbers read from the curves."""

from collections.abc import Callable

import numpy as np

from chase_fast.errors import ChaseError
from chase_fast.evaluate.protocols.curves import OVERLAPS, PIXELS, SIZES
from chase_fast.evaluate.protocols.types import Scores, Truth
from chase_fast.remarks import Notes, Remark

# name of a curve -> values [K], or of a plain number -> [] (a curve with no thresholds)
Curves = dict[str, np.ndarray]
SURPLUS = "more boxes than annotated frames, the surplus is cut off"
FAR = 1e5  # px: no picture is so large
THRESHOLDS = {"success": OVERLAPS, "precision": PIXELS, "normalised_precision": SIZES}


def mean_of_sequences(curves: list[np.ndarray]) -> np.ndarray:
    """Every sequence weighs the same, whatever its length."""
    return np.mean(curves, axis=0)


def score_curves(
    protocol: str,
    truths: list[Truth],
    predictions: dict[str, np.ndarray],
    of_sequence: Callable[[Truth, np.ndarray, Notes], Curves],
    read: Callable[[Curves], dict[str, float]],
    mean: Callable[[list[np.ndarray]], np.ndarray] = mean_of_sequences,
    thresholds: dict[str, np.ndarray] = THRESHOLDS,
) -> Scores:
    """Scores from curves: `read` takes numbers from the curves of one sequence and from the mean curves
    alike.

    Args:
        of_sequence: curves of one sequence from its truth and its boxes [T, 4] (a copy, free to change); it
            notes what it cuts, fills up, replaces or leaves out.
        mean: curves [K] of all sequences -> [K].

    Raises:
        ChaseError: a sequence has repetitions, which one-pass evaluation does not know.
    """
    all_curves, remarks = [], list[Remark]()
    for truth in truths:
        boxes = predictions[truth.name]
        if boxes.ndim == 3:
            raise ChaseError(
                f"sequence {truth.name} has {len(boxes)} repetitions: protocol {protocol} scores one run, "
                "choose one of them or protocol got10k"
            )
        with np.errstate(over="ignore", invalid="ignore"):  # of absurd boxes
            all_curves.append(of_sequence(truth, boxes.copy(), Notes(truth.name, remarks)))
    means = {name: mean([c[name] for c in all_curves]) for name in all_curves[0]}
    return Scores(
        protocol=protocol,
        metrics=_floats(read(means)),
        per_sequence={t.name: _floats(read(c)) for t, c in zip(truths, all_curves, strict=True)},
        curves={name: (thresholds[name], means[name]) for name in means if name in thresholds},
        remarks=tuple(remarks),
    )


def fit_length(
    protocol: str,
    truth: Truth,
    boxes: np.ndarray,
    note: Notes,
    longer: str = "refuse",
    shorter: str = "refuse",
) -> np.ndarray:
    """Boxes [T', 4] -> [T, 4] for T annotated frames, in the way of a toolkit.

    Args:
        longer: `cut` the end off, or `refuse`.
        shorter: fill up with `zeros` or `nan`, or `refuse`.

    Raises:
        ChaseError: the number of boxes is refused.
    """
    missing = len(truth.boxes) - len(boxes)
    if missing < 0 and longer == "cut":
        note(SURPLUS, -missing, "box")
        return boxes[:missing]
    if missing > 0 and shorter != "refuse":
        note("fewer boxes than annotated frames, those without a box are misses", missing)
        rows = np.full((missing, 4), 0.0 if shorter == "zeros" else np.nan)
        return np.concatenate([boxes, rows])
    if missing:
        raise ChaseError(
            f"sequence {truth.name} has {len(boxes)} predicted boxes for {len(truth.boxes)} frames: "
            f"protocol {protocol} needs one per frame, run the tracker on it again"
        )
    return boxes


def need_absent(protocol: str, truth: Truth) -> np.ndarray:
    """The absence flags [T] of a sequence.

    Raises:
        ChaseError: it has none.
    """
    if truth.absent is None:
        raise ChaseError(
            f"sequence {truth.name} has no absence flags, which protocol {protocol} needs: add them to the "
            "dataset or choose another protocol"
        )
    return np.asarray(truth.absent, bool)


def replace_by_previous(boxes: np.ndarray, bad: np.ndarray, note: Notes) -> None:
    """Every bad row [T] but the first takes the row before it, which may have been replaced itself."""
    note(
        "predicted boxes of no size (or NaN) are replaced by the box before", np.count_nonzero(bad[1:]), "box"
    )
    for i in np.flatnonzero(bad):
        if i:
            boxes[i] = boxes[i - 1]


def set_first(boxes: np.ndarray, truth: Truth, note: Notes) -> None:
    """The first box becomes the annotated one. Results in whole pixels differ by less than one: no remark."""
    other = not (np.abs(boxes[0] - truth.boxes[0]) < 1).all() and not np.isnan(truth.boxes[0]).any()
    note("the first box is not the annotated one, which counts in its place", other, "box")
    boxes[0] = truth.boxes[0]


def note_odd(boxes: np.ndarray, note: Notes, of_nan: str = "are misses") -> None:
    """Notes predicted boxes that no tracker should give; they are scored as the toolkit does it.

    Args:
        of_nan: what becomes of NaN.
    """
    nan = np.isnan(boxes).any(1)
    note(f"predicted boxes that are NaN {of_nan}", np.count_nonzero(nan), "box")
    note("predicted boxes of no size overlap nothing, their centres count",
         np.count_nonzero(~nan & (boxes[:, 2:] <= 0).any(1)), "box")  # fmt: skip
    far = (np.abs(boxes) > FAR).any(1)
    note(
        f"predicted boxes with numbers over {FAR:.0f} px lie in no picture and are scored as they are",
        np.count_nonzero(far),
        "box",
    )


def note_unknown(truth: Truth, note: Notes, then: str) -> None:
    """Notes frames whose annotated box is unknown (NaN)."""
    count = np.count_nonzero(np.isnan(truth.boxes).any(1))
    note(f"frames without a known box {then}", count, rule=True)


def note_invalid(true: np.ndarray, note: Notes, then: str) -> None:
    """Notes known boxes [T, 4] of which x, y, w or h is not above 0: what four toolkits call invalid."""
    known = ~np.isnan(true).any(1)
    note(
        f"annotated boxes with x, y, w or h <= 0 {then}",
        np.count_nonzero(known & ~(true > 0).all(1)),
        rule=True,
    )


def _floats(numbers: dict[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in numbers.items()}
