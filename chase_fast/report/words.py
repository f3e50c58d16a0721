"""Values as words."""

import math
from collections.abc import Sequence
from typing import Any

from chase_fast.draw.charts import label
from chase_fast.report.files import is_number
from chase_fast.report.spread import Spread


def plain(value: Any) -> str:
    """A JSON value for reading."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(plain(v) for v in value) or "–"
    return label(value) if is_number(value) else str(value)


def big(value: float | None) -> str:
    """A count with three digits and k, M or G."""
    if value is None:
        return "–"
    for power, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= power:
            return f"{value / power:.3g} {unit}"
    return f"{value:.0f}"


def memory(megabytes: float) -> str:
    return f"{megabytes / 1024:.2f} GB" if megabytes >= 1024 else f"{megabytes:.0f} MB"


def duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def digits(value: float | None) -> str:
    """Four significant digits, zeros at the end too."""
    if value is None:
        return "–"
    return label(value) if abs(value) >= 1000 else f"{value:#.4g}"


def with_deviation(value: Spread | None) -> str:
    """mean ± deviation, both to the second digit of the deviation; the mean alone for one seed."""
    if value is None:
        return "–"
    if not value.deviation:
        return digits(value.mean) + (" ± 0" if value.deviation == 0 else "")
    places = max(0, 1 - math.floor(math.log10(value.deviation)))
    return f"{value.mean:.{places}f} ± {value.deviation:.{places}f}"


def span(values: Sequence[Any]) -> str:
    """The only value, or the smallest and the largest, of sorted ones."""
    return " to ".join(dict.fromkeys((str(values[0]), str(values[-1])))) if values else "–"


def amounts(values: Sequence[float | None]) -> str:
    """The same of counts, some of which may be unknown."""
    return span([big(v) for v in sorted(v for v in values if v is not None)])
