"""Line charts over epochs as inline SVG; colours from the page's style sheet, hover values in data-chart."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from chase_fast.report.svg import element, line, rect, text


@dataclass(frozen=True)
class Series:
    """One line: (epoch, value) points, a CSS colour and an SVG dash pattern. Missing epochs are bridged."""

    name: str
    points: Sequence[tuple[int, float]]
    colour: str
    dash: str = ""


@dataclass(frozen=True)
class Marks:
    """What every chart of a run marks: the warm-up (epochs up to `warmup`) and the chosen epoch."""

    last: int
    warmup: int = 0
    chosen: int | None = None
    words: str = "stop: cell of epoch"


@dataclass(frozen=True)
class Frame:
    """Plot area in a view box, and the scales: epochs 0 .. end, values low .. high."""

    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int
    end: int
    low: float
    high: float

    def x(self, epoch: float) -> float:
        return self.left + (self.right - self.left) * epoch / self.end

    def y(self, value: float) -> float:
        return self.top + (self.bottom - self.top) * (self.high - value) / (self.high - self.low)


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers in [low, high], about `count` of them."""
    span = high - low if high > low else max(abs(high), 1.0)
    power = 10.0 ** math.floor(math.log10(span / count))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= span / count * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(k * step, 12) for k in range(first, last + 1)]


def label(value: float) -> str:
    """Four digits, whole numbers below ten million written out."""
    return f"{value:.0f}" if 1e4 <= abs(value) < 1e7 else f"{value:.4g}"


def value_range(series: Sequence[Series], least: float = 0.0) -> tuple[float, float]:
    """Smallest and largest value with 6 % air, at least `least` and 1 % of the values apart."""
    values = [v for s in series for _, v in s.points]
    if not values:
        return 0.0, 1.0
    low, high = min(values), max(values)
    least = max(least, 1e-2 * max(abs(high), abs(low)), 1e-12)
    if high - low < least:
        low, high = (low + high - least) / 2, (low + high + least) / 2
    return low - 0.06 * (high - low), high + 0.06 * (high - low)


def chart(
    title: str,
    series: Sequence[Series],
    marks: Marks,
    size: tuple[int, int] = (400, 236),
    bounds: tuple[float, float] | None = None,
    reference: float | None = None,
    whole: bool = False,
    small: bool = False,
) -> Markup:
    """An SVG chart of all series over the epochs 0 .. marks.last.

    Args:
        title: accessible name.
        series: the lines.
        marks: warm-up band and chosen epoch.
        size: width, height of the view box in px; the page scales it.
        bounds: range of y; None: that of the data.
        reference: a dotted horizontal line (row 0, the uniform mixing weight).
        whole: integer y axis from 0 (counts).
        small: a small multiple: fewer ticks, no words on the marks.
    """
    low, high = bounds or value_range(series)
    if whole:
        low, high = 0.0, max(math.ceil(high), 1) * 1.04
    if reference is not None:
        low, high = min(low, reference), max(high, reference)
    left, right, top, bottom = (40, 8, 8, 20) if small else (52, 14, 22, 30)
    frame = Frame(*size, left, size[0] - right, top, size[1] - bottom, max(marks.last, 1), low, high)
    parts = _axes(frame, marks, whole, small)
    if reference is not None:
        y = frame.y(reference)
        parts.append(line(frame.left, y, frame.right, y, class_="reference"))
    parts += _stop(frame, marks, small)
    for s in series:
        parts += _curve(frame, s, marks.chosen, small)
    if not any(s.points for s in series):
        parts.append(text("no values yet", size[0] / 2, size[1] / 2, class_="note", text_anchor="middle"))
    svg = element(
        "svg",
        *parts,
        class_="chart small" if small else "chart",
        role="img",
        aria_label=title,
        viewBox=f"0 0 {size[0]} {size[1]}",
        data_chart=_hover(frame, series),
    )
    return Markup(svg)


def _axes(frame: Frame, marks: Marks, whole: bool, small: bool) -> list[str]:
    parts = []
    if marks.warmup > 0:
        x, x1 = frame.x(0), frame.x(marks.warmup)
        parts.append(rect(x, frame.top, x1 - x, frame.bottom - frame.top, class_="warmup"))
        room = marks.chosen is None or frame.x(marks.chosen) > x + 150
        if room and not small:
            parts.append(text("warm-up", x, frame.top - 8, class_="note"))
    for value in ticks(frame.low, frame.high, 3 if small else 5):
        if whole and value != int(value):
            continue
        y = frame.y(value)
        parts.append(line(frame.left, y, frame.right, y, class_="grid"))
        parts.append(text(label(value), frame.left - 6, y + 3.5, class_="tick", text_anchor="end"))
    for epoch in ticks(0, frame.end, 3 if small else 8):
        if epoch == int(epoch):
            x = frame.x(epoch)
            parts.append(text(int(epoch), x, frame.bottom + 15, class_="tick", text_anchor="middle"))
    parts.append(line(frame.left, frame.bottom, frame.right, frame.bottom, class_="axis"))
    if not small:
        parts.append(text("epoch", frame.right, frame.height - 3, class_="tick", text_anchor="end"))
    return parts


def _stop(frame: Frame, marks: Marks, small: bool) -> list[str]:
    """The dashed line at the chosen epoch and its words, kept inside the picture."""
    if marks.chosen is None:
        return []
    x = frame.x(marks.chosen)
    parts = [line(x, frame.top - 4, x, frame.bottom, class_="stop", data_epoch=marks.chosen)]
    if not small:
        share = x / frame.width
        anchor = "end" if share > 0.8 else "start" if share < 0.2 else "middle"
        words = f"{marks.words} {marks.chosen}"
        parts.append(text(words, x, frame.top - 8, class_="note strong", text_anchor=anchor))
    return parts


def _curve(frame: Frame, series: Series, chosen: int | None, small: bool) -> list[str]:
    """The line, with a dot at the chosen epoch, or at its only point."""
    if not series.points:
        return []
    path = "L".join(f"{frame.x(e):.1f} {frame.y(v):.1f}" for e, v in series.points)
    stroke = f"stroke:{series.colour}"
    parts = [element("path", class_="line", d=f"M{path}", style=stroke, stroke_dasharray=series.dash or None)]
    dots = [(e, v) for e, v in series.points if len(series.points) == 1 or (e == chosen and not small)]
    for epoch, value in dots:
        place = {"cx": frame.x(epoch), "cy": frame.y(value), "r": 2.5 if small else 4.0}
        parts.append(element("circle", class_="dot", **place, style=f"fill:{series.colour}"))
    return parts


def _hover(frame: Frame, series: Sequence[Series]) -> str:
    """What hover.js needs to name the values under the pointer."""
    values = [[s.name, s.colour, [[e, label(v)] for e, v in s.points]] for s in series]
    place = {k: getattr(frame, k) for k in ("left", "right", "top", "bottom", "end")}
    return json.dumps(place | {"series": values}, separators=(",", ":"))
