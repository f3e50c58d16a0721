"""A strip chart: one row per run, a dot per seed, a bar at the mean in a band of the deviation."""

from collections.abc import Sequence

from markupsafe import Markup

from chase_fast.report.charts import Series, label, ticks, value_range
from chase_fast.report.spread import spread
from chase_fast.report.svg import element, line, rect, text

ROW, LEFT, RIGHT, TOP, BOTTOM = 30, 190, 20, 8, 30  # px
NAME = 28  # letters of a name that fit on the left


def strip(title: str, rows: Sequence[tuple[str, str, Sequence[float]]], width: int = 1120) -> Markup:
    """An SVG of (name, CSS colour, values) rows on one scale.

    Args:
        title: accessible name.
        rows: values are those of the seeds.
        width: of the view box in px; the page scales it.
    """
    low, high = value_range([_reach(values) for _, _, values in rows])
    height = TOP + ROW * len(rows) + BOTTOM
    bottom = height - BOTTOM

    def x(value: float) -> float:
        return LEFT + (width - LEFT - RIGHT) * (value - low) / (high - low)

    parts = []
    for value in ticks(low, high, 8):
        parts.append(line(x(value), TOP, x(value), bottom, class_="grid"))
        parts.append(text(label(value), x(value), bottom + 15, class_="tick", text_anchor="middle"))
    parts.append(line(LEFT, bottom, width - RIGHT, bottom, class_="axis"))
    for i, (name, colour, values) in enumerate(rows):
        y = TOP + ROW * (i + 0.5)
        short = name if len(name) <= NAME else f"…{name[1 - NAME :]}"
        parts.append(text(short, LEFT - 12, y + 4, class_="name", text_anchor="end"))
        parts.append(_row(y, colour, values, x))
    view = f"0 0 {width} {height}"
    return Markup(element("svg", *parts, class_="chart strip", role="img", aria_label=title, viewBox=view))


def _reach(values: Sequence[float]) -> Series:
    """What a row must have room for: its dots and its band."""
    found = spread(values)
    points = list(enumerate(values))
    if found is None or found.deviation is None:
        return Series("", points, "")
    ends = [(0, found.mean - found.deviation), (0, found.mean + found.deviation)]
    return Series("", points + ends, "")


def _row(y: float, colour: str, values: Sequence[float], x) -> str:
    fill = f"fill:{colour}"
    found = spread(values)
    parts = []
    if found and found.deviation is not None:
        left, right = x(found.mean - found.deviation), x(found.mean + found.deviation)
        parts.append(rect(left, y - 8, right - left, 16, class_="spread", style=fill))
        parts.append(rect(x(found.mean) - 1, y - 10, 2, 20, style=fill))
    for value in values:
        hint = element("title", label(value))
        parts.append(element("circle", hint, class_="dot", cx=x(value), cy=y, r=4.5, style=fill))
    return element("g", *parts)
