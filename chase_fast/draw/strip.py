"""A strip chart: one row per run, a dot per seed, a bar at the mean in a band of the deviation."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from chase_fast.draw.charts import label, ticks, value_range
from chase_fast.draw.svg import element, line, picture, rect, text

ROW, LEFT, RIGHT, TOP, BOTTOM = 30, 190, 20, 8, 30  # px
NAME = 28  # letters of a name that fit on the left


@dataclass(frozen=True)
class Row:
    """A run: its CSS colour, the values of its seeds, their mean and deviation where they have one."""

    name: str
    colour: str
    values: Sequence[float]
    mean: float = 0.0
    deviation: float | None = None

    @property
    def band(self) -> tuple[float, ...]:
        """Lower and upper end of the band."""
        return () if self.deviation is None else (self.mean - self.deviation, self.mean + self.deviation)


def strip(title: str, rows: Sequence[Row], width: int = 1120) -> Markup:
    """An SVG of rows on one scale.

    Args:
        title: accessible name.
        width: of the view box in px; the page scales it.
    """
    low, high = value_range([v for row in rows for v in (*row.values, *row.band)])
    bottom = TOP + ROW * len(rows)

    def x(value: float) -> float:
        return LEFT + (width - LEFT - RIGHT) * (value - low) / (high - low)

    parts = []
    for value in ticks(low, high, 8):
        parts.append(line(x(value), TOP, x(value), bottom, class_="grid"))
        parts.append(text(label(value), x(value), bottom + 15, class_="tick", text_anchor="middle"))
    parts.append(line(LEFT, bottom, width - RIGHT, bottom, class_="axis"))
    for i, row in enumerate(rows):
        y = TOP + ROW * (i + 0.5)
        short = row.name if len(row.name) <= NAME else f"…{row.name[1 - NAME :]}"
        parts.append(text(short, LEFT - 12, y + 4, class_="name", text_anchor="end"))
        parts.append(_row(row, y, x))
    return picture("chart strip", title, (width, bottom + BOTTOM), parts)


def _row(row: Row, y: float, x: Callable[[float], float]) -> str:
    fill = f"fill:{row.colour}"
    parts = []
    if row.band:
        left, right = map(x, row.band)
        parts.append(rect(left, y - 8, right - left, 16, class_="spread", style=fill))
        parts.append(rect(x(row.mean) - 1, y - 10, 2, 20, style=fill))
    for value in row.values:
        hint = element("title", label(value))
        parts.append(element("circle", hint, class_="dot", cx=x(value), cy=y, r=4.5, style=fill))
    return element("g", *parts)
