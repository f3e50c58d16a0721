"""One-pass evaluation: curves of every sequence, their mean, numbers read from the curves."""

from collections.abc import Callable

import numpy as np

from chase_fast.errors import ChaseError
from chase_fast.evaluate.protocols.curves import OVERLAPS, PIXELS, SIZES
from chase_fast.evaluate.protocols.types import Scores, Truth

# name of a curve -> values [K], or of a plain number -> [] (a curve with no thresholds)
Curves = dict[str, np.ndarray]
THRESHOLDS = {"success": OVERLAPS, "precision": PIXELS, "normalised_precision": SIZES}


def mean_of_sequences(curves: list[np.ndarray]) -> np.ndarray:
    """Every sequence weighs the same, whatever its length."""
    return np.mean(curves, axis=0)


def score_curves(
    protocol: str,
    truths: list[Truth],
    predictions: dict[str, np.ndarray],
    of_sequence: Callable[[Truth, np.ndarray], Curves],
    read: Callable[[Curves], dict[str, float]],
    mean: Callable[[list[np.ndarray]], np.ndarray] = mean_of_sequences,
    thresholds: dict[str, np.ndarray] = THRESHOLDS,
) -> Scores:
    """Scores from curves: `read` takes numbers from the curves of one sequence and from the mean curves
    alike.

    Args:
        of_sequence: curves of one sequence from its truth and its boxes [T, 4] (a copy, free to change).
        mean: curves [K] of all sequences -> [K].

    Raises:
        ChaseError: a sequence has repetitions, which one-pass evaluation does not know.
    """
    all_curves = []
    for truth in truths:
        boxes = predictions[truth.name]
        if boxes.ndim == 3:
            raise ChaseError(
                f"sequence {truth.name} has {len(boxes)} repetitions: protocol {protocol} scores one run, "
                "choose one of them or protocol got10k"
            )
        all_curves.append(of_sequence(truth, boxes.copy()))
    means = {name: mean([c[name] for c in all_curves]) for name in all_curves[0]}
    return Scores(
        protocol=protocol,
        metrics=_floats(read(means)),
        per_sequence={t.name: _floats(read(c)) for t, c in zip(truths, all_curves, strict=True)},
        curves={name: (thresholds[name], means[name]) for name in means if name in thresholds},
    )


def fit_length(
    protocol: str, truth: Truth, boxes: np.ndarray, longer: str = "refuse", shorter: str = "refuse"
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
        return boxes[:missing]
    if missing > 0 and shorter != "refuse":
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


def replace_by_previous(boxes: np.ndarray, bad: np.ndarray) -> None:
    """Every bad row [T] but the first takes the row before it, which may have been replaced itself."""
    for i in np.flatnonzero(bad):
        if i:
            boxes[i] = boxes[i - 1]


def _floats(numbers: dict[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in numbers.items()}
