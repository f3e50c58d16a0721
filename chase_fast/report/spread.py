"""Means and deviations over seeds, and whether two means differ by more than the seeds do."""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from chase_fast.draw.strip import Row
from chase_fast.report.run import Run

LEVEL = 0.95  # of the confidence interval of a difference


@dataclass(frozen=True)
class Spread:
    """Mean, standard deviation (n - 1 in the denominator; None for one value) and number of the values."""

    mean: float
    deviation: float | None
    n: int


@dataclass(frozen=True)
class Difference:
    """Of two means: first minus second, the half width of its 95 % interval, both None for one seed each.

    pooled: the difference in units of the pooled deviation of the seeds; None if that is 0 or unknown.
    """

    value: float
    half_width: float | None
    pooled: float | None

    @property
    def beyond(self) -> bool:
        """Whether the interval excludes 0."""
        return self.half_width is not None and abs(self.value) > self.half_width

    @property
    def verdict(self) -> str:
        """What the seeds allow to say."""
        if self.half_width is None:
            return "one seed each: seed noise unknown"
        return f"{'beyond' if self.beyond else 'difference within'} seed noise"


def spread(values: Iterable[float | None]) -> Spread | None:
    """Of the values that are known; None if none is."""
    known = [v for v in values if v is not None]
    if not known:
        return None
    deviation = statistics.stdev(known) if len(known) > 1 else None
    return Spread(statistics.fmean(known), deviation, len(known))


def strip_row(name: str, colour: str, values: Iterable[float | None]) -> Row:
    """A run in a strip chart."""
    known = [v for v in values if v is not None]
    found = spread(known)
    return Row(name, colour, known, found.mean, found.deviation) if found else Row(name, colour, known)


def difference(a: Spread, b: Spread) -> Difference:
    """Student's interval for the difference of two means with one common deviation, seeds taken as unpaired.

    Pooled variance: sum of squares of both over n_a + n_b - 2 degrees of freedom (Snedecor and Cochran).
    """
    freedom = a.n + b.n - 2
    value = a.mean - b.mean
    if freedom < 1:
        return Difference(value, None, None)
    squares = sum((s.n - 1) * s.deviation**2 for s in (a, b) if s.deviation is not None)
    deviation = math.sqrt(squares / freedom)
    half = student(freedom) * deviation * math.sqrt(1 / a.n + 1 / b.n)
    return Difference(value, half, value / deviation if deviation > 0 else None)


def student(freedom: int, level: float = LEVEL) -> float:
    """t with P(|T| <= t) = level for that many degrees of freedom, by bisection of the distribution."""
    low, high = 0.0, 1.0
    while _inside(high, freedom) < level:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _inside(middle, freedom) < level else (low, middle)
    return high


def _inside(t: float, freedom: int) -> float:
    """P(|T| <= t) for whole degrees of freedom (Abramowitz and Stegun 26.7.3, 26.7.4)."""
    angle = math.atan(t / math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    term = cosine if odd else 1.0
    total = 0.0
    for k in range(freedom // 2):
        total += term
        term *= cosine**2 * (2 * k + 1 + odd) / (2 * k + 2 + odd)
    return 2 / math.pi * (angle + sine * total) if odd else sine * total


def curve(runs: Sequence[Run], key: str) -> tuple[list[tuple[int, float]], dict[float, float]]:
    """Mean and deviation over the runs at every epoch that all of them have.

    Returns:
        (epoch, mean) points, and the deviation per epoch (empty for one run).
    """
    tables = [dict(run.series(key)) for run in runs]
    epochs = sorted(set.intersection(*map(set, tables))) if tables else []
    points = [(e, statistics.fmean(t[e] for t in tables)) for e in epochs]
    if len(tables) < 2:
        return points, {}
    return points, {e: statistics.stdev([t[e] for t in tables]) for e in epochs}
