"""Line charts as inline SVG; colours from the page's style sheet, hover values in data-chart."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from markupsafe import Markup

from chase_fast.draw.svg import element, line, picture, points, rect, text

WIDE = 800  # px of a view box, above which a chart scrolls on narrow pages, not to make its words too small


@dataclass(frozen=True)
class Series:
    """One line: (x, value) points, a CSS colour and an SVG dash pattern. Missing x are bridged, NaN is a gap.

    deviation: per x; drawn as a band of value - deviation .. value + deviation.
    """

    name: str
    points: Sequence[tuple[float, float]]
    colour: str
    dash: str = ""
    deviation: Mapping[float, float] = field(default_factory=dict)

    @property
    def values(self) -> list[float]:
        """All that needs room: the values, and the ends of the band."""
        return [v for _, v in self.points] + [v for _, *ends in self.edges() for v in ends]

    def edges(self) -> list[tuple[float, float, float]]:
        """(x, lower, upper) of the band; a point without a deviation has none."""
        return [
            (e, v - self.deviation[e], v + self.deviation[e]) for e, v in self.points if e in self.deviation
        ]

    def positive(self) -> "Series":
        """Without the values that a logarithmic axis cannot show."""
        return replace(self, points=[(e, v) for e, v in self.points if v > 0], deviation={})


@dataclass(frozen=True)
class Marks:
    """The x axis, `first` to `last`; what to mark on it: the warm-up (up to `warmup`) and the chosen epoch.

    axis: what stands there; epochs are whole.
    """

    last: float
    warmup: int = 0
    chosen: int | None = None
    words: str = "stop: cell of epoch"
    first: float = 0
    axis: str = "epoch"


@dataclass(frozen=True)
class Frame:
    """Plot area in a view box, and the scales: x start .. end, values (or their log10) low .. high."""

    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int
    end: float
    low: float
    high: float
    logarithmic: bool = False
    start: float = 0

    def x(self, at: float) -> float:
        return self.left + (self.right - self.left) * (at - self.start) / (self.end - self.start)

    def y(self, value: float) -> float:
        value = math.log10(value) if self.logarithmic else value
        return self.top + (self.bottom - self.top) * (self.high - value) / (self.high - self.low)


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers in [low, high], about `count` of them."""
    span = high - low if high > low else max(abs(high), 1.0)
    power = 10.0 ** math.floor(math.log10(span / count))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= span / count * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(k * step, 12) for k in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten between the two exponents; powers alone over more than two decades."""
    steps = (1, 2, 5) if high - low < 2.2 else (1,)
    powers = range(math.floor(low), math.ceil(high) + 1)
    marks = [m * 10.0**p for p in powers for m in steps]
    return [v for v in marks if low <= math.log10(v) <= high]


def label(value: float) -> str:
    """Four digits, whole numbers below ten million written out."""
    return f"{value:.0f}" if 1e4 <= abs(value) < 1e7 else f"{value:.4g}"


def value_range(values: Sequence[float], least: float = 0.0) -> tuple[float, float]:
    """Smallest and largest value with 6 % air, at least `least` and 1 % of the values apart."""
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
    logarithmic: bool = False,
) -> Markup:
    """An SVG chart of all series over marks.first .. marks.last, where all points must lie.

    Args:
        title: accessible name.
        series: the lines.
        marks: the x axis, warm-up band and chosen epoch.
        size: width, height of the view box in px; the page scales it.
        bounds: range of y; None: that of the data.
        reference: a dotted horizontal line (row 0, the uniform mixing weight).
        whole: integer y axis from 0 (counts).
        small: a small multiple: fewer ticks, no words on the marks.
        logarithmic: logarithmic y axis; values that are not positive are left out.
    """
    if logarithmic:
        series = [s.positive() for s in series]
        bounds = value_range([math.log10(v) for s in series for v in s.values], least=0.5)
    low, high = bounds or value_range([v for s in series for v in s.values])
    if whole:
        low, high = 0.0, max(math.ceil(high), 1) * 1.04
    if reference is not None:
        low, high = min(low, reference), max(high, reference)
    left, right, top, bottom = (40, 8, 8, 20) if small else (52, 14, 22, 30)
    place = (left, size[0] - right, top, size[1] - bottom)
    end = marks.last if marks.last > marks.first else marks.first + 1
    frame = Frame(*size, *place, end, low, high, logarithmic, marks.first)
    parts = _axes(frame, marks, whole, small)
    if reference is not None:
        y = frame.y(reference)
        parts.append(line(frame.left, y, frame.right, y, class_="reference"))
    parts += _stop(frame, marks, small)
    parts += [_band(frame, s) for s in series if s.deviation]
    for s in series:
        parts += _curve(frame, s, marks.chosen, small)
    if not any(s.points for s in series):
        parts.append(text("no values yet", size[0] / 2, size[1] / 2, class_="note", text_anchor="middle"))
    kind = "chart small" if small else "chart wide" if size[0] > WIDE else "chart"
    return picture(kind, title, size, parts, data_chart=_hover(frame, marks.axis, series))


def spark(title: str, series: Sequence[Series], last: float, size: tuple[int, int] = (300, 44)) -> Markup:
    """An SVG of lines of values 0 .. 1 over 0 .. last, small and without axes; the page stretches it."""
    width, height = size
    frame = Frame(width, height, 0, width, 3, height - 3, max(last, 1), 0.0, 1.0)
    parts = [line(0, frame.y(v), width, frame.y(v), class_="grid") for v in (0, 0.5, 1)]
    parts += [part for s in series for part in _curve(frame, s, None, small=True)]
    return picture("spark", title, size, parts, preserveAspectRatio="none")


def _axes(frame: Frame, marks: Marks, whole: bool, small: bool) -> list[str]:
    parts = []
    if marks.warmup > 0:
        x, x1 = frame.x(0), frame.x(marks.warmup)
        parts.append(rect(x, frame.top, x1 - x, frame.bottom - frame.top, class_="warmup"))
        room = marks.chosen is None or frame.x(marks.chosen) > x + 150
        if room and not small:
            parts.append(text("warm-up", x, frame.top - 8, class_="note"))
    values = ticks(frame.low, frame.high, 3 if small else 5)
    for value in log_ticks(frame.low, frame.high) if frame.logarithmic else values:
        if whole and value != int(value):
            continue
        y = frame.y(value)
        parts.append(line(frame.left, y, frame.right, y, class_="grid"))
        parts.append(text(label(value), frame.left - 6, y + 3.5, class_="tick", text_anchor="end"))
    for at in ticks(frame.start, frame.end, 3 if small else 8):
        if at == int(at) or marks.axis != "epoch":
            parts.append(text(label(at), frame.x(at), frame.bottom + 15, class_="tick", text_anchor="middle"))
    parts.append(line(frame.left, frame.bottom, frame.right, frame.bottom, class_="axis"))
    if not small:
        parts.append(text(marks.axis, frame.right, frame.height - 3, class_="tick", text_anchor="end"))
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


def _band(frame: Frame, series: Series) -> str:
    edges = series.edges()
    outline = [(frame.x(e), frame.y(high)) for e, _, high in edges]
    outline += [(frame.x(e), frame.y(low)) for e, low, _ in reversed(edges)]
    return element("polygon", class_="spread", points=points(outline), style=f"fill:{series.colour}")


def _curve(frame: Frame, series: Series, chosen: int | None, small: bool) -> list[str]:
    """The line, with a dot at the chosen epoch, or at its only point."""
    if not series.points:
        return []
    stroke = f"stroke:{series.colour}"
    path = _path(frame, series.points)
    parts = [element("path", class_="line", d=path, style=stroke, stroke_dasharray=series.dash or None)]
    dots = [(e, v) for e, v in series.points if len(series.points) == 1 or (e == chosen and not small)]
    for epoch, value in dots:
        place = {"cx": frame.x(epoch), "cy": frame.y(value), "r": 2.5 if small else 4.0}
        parts.append(element("circle", class_="dot", **place, style=f"fill:{series.colour}"))
    return parts


def _path(frame: Frame, pairs: Sequence[tuple[float, float]]) -> str:
    """A line through the known values, begun anew after every gap."""
    parts, pen = [], "M"
    for at, value in pairs:
        known = not math.isnan(value)
        parts += [f"{pen}{frame.x(at):.1f} {frame.y(value):.1f}"] if known else []
        pen = "L" if known else "M"
    return "".join(parts)


def _hover(frame: Frame, axis: str, series: Sequence[Series]) -> str:
    """What hover.js needs to name the values under the pointer."""

    def words(s: Series, at: float, value: float) -> str:
        return f"{label(value)} ± {s.deviation[at]:.2g}" if at in s.deviation else label(value)

    values = [[s.name, s.colour, [[at, words(s, at, v)] for at, v in s.points]] for s in series]
    place = {k: getattr(frame, k) for k in ("left", "right", "top", "bottom", "start", "end")}
    return json.dumps(place | {"axis": axis, "series": values}, separators=(",", ":"))
