"""What goes into a protocol and what comes out."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from chase_fast.remarks import Remark


@dataclass(frozen=True)
class Truth:
    """The annotation of one sequence of T frames.

    Attributes:
        name: as in the result files.
        boxes: [T, 4] float64 x, y, w, h (top-left, pixels); a row of NaN is unknown.
        absent: [T] bool, True where the target is not in the picture; None if the dataset does not say.
        cover: [T] int 0 ... 8, visible eighths (GOT-10k); None if the dataset does not say.
        size: width and height of the frames; only `got10k` needs it.
    """

    name: str
    boxes: np.ndarray
    absent: np.ndarray | None = None
    cover: np.ndarray | None = None
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Scores:
    """The numbers of one tracker under one protocol, as fractions of 1. NaN: no frame could be scored.

    Attributes:
        metrics: over all sequences, by the protocol's own way of averaging; the headline metric comes first.
        per_sequence: the same for each sequence alone.
        curves: `success`, `precision`, `normalised_precision` -> (thresholds [K], values [K]), as averaged.
        remarks: what the protocol cut, filled up, replaced or left out on the way to these numbers.
    """

    protocol: str
    metrics: dict[str, float]
    per_sequence: dict[str, dict[str, float]]
    curves: dict[str, tuple[np.ndarray, np.ndarray]] = field(repr=False)
    remarks: tuple[Remark, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class Protocol:
    """A named way of scoring: whose toolkit, and what sets it apart, in one line each."""

    name: str
    toolkit: str
    rules: str
    score: Callable[[list[Truth], dict[str, np.ndarray]], Scores] = field(repr=False)
