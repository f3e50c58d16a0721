"""Curves and strips of an evaluation as inline SVG; colours come from the page's style sheet (--t0 ...)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from chase_fast.report.svg import element, line, text

# apart also under red-green colour blindness; light, dark, and RGB for drawing into frames
LIGHT = ("#0a62c9", "#c2410c", "#00806a", "#8b2fb8", "#8a6d00", "#b3124f", "#4b5563", "#5b7a00")
DARK = ("#6aa6ff", "#ff9a5c", "#3ddbb8", "#d29bff", "#e3c34a", "#ff7fab", "#b6bec9", "#b5d65a")
DASHES = ("", "7 3", "2 3", "9 3 2 3", "", "7 3", "2 3", "9 3 2 3")
STRIP_POINTS = 240  # of a strip: longer sequences show means of neighbouring frames

AXES = {
    "success": "overlap threshold",
    "precision": "centre error, pixels",
    "normalised_precision": "centre error over target size",
}


@dataclass(frozen=True)
class Curve:
    """One tracker: its number (colour), thresholds [K] and values [K]."""

    number: int
    x: np.ndarray
    y: np.ndarray


def css() -> str:
    """Custom properties of the trackers' colours, light with a dark override on screens."""
    light, dark = ("".join(f"--t{i}:{c};" for i, c in enumerate(colours)) for colours in (LIGHT, DARK))
    return f":root{{{light}}}@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}"


def colour(number: int) -> str:
    return f"var(--t{number % len(LIGHT)})"


def dash(number: int) -> str | None:
    return DASHES[number % len(DASHES)] or None


def rgb(number: int) -> tuple[int, int, int]:
    """The dark scheme's colour, bright enough for boxes on frames."""
    code = DARK[number % len(DARK)]
    return int(code[1:3], 16), int(code[3:5], 16), int(code[5:7], 16)


def curve_chart(kind: str, title: str, curves: Sequence[Curve]) -> Markup:
    """Success, precision or normalised precision over thresholds: shares 0 ... 1 over 0 ... the last one."""
    width, height, left, right, top, bottom = 400, 264, 38, 388, 12, 222
    end = max(float(c.x[-1]) for c in curves)

    def place(x: float, y: float) -> tuple[float, float]:
        return left + (right - left) * x / end, bottom - (bottom - top) * min(max(y, 0.0), 1.0)

    parts = []
    for share in (0, 0.2, 0.4, 0.6, 0.8, 1):
        _, y = place(0, share)
        parts.append(line(left, y, right, y, class_="grid"))
        parts.append(text(f"{share:g}", left - 6, y + 4, class_="tick", text_anchor="end"))
        x, _ = place(end * share, 0)
        parts.append(text(f"{end * share:g}", x, bottom + 16, class_="tick", text_anchor="middle"))
    parts.append(line(left, bottom, right, bottom, class_="axis"))
    words = AXES.get(kind, "threshold")
    parts.append(text(words, (left + right) / 2, height - 6, class_="tick", text_anchor="middle"))
    for c in reversed(curves):  # the first tracker on top
        path = "L".join("{:.1f} {:.1f}".format(*place(x, y)) for x, y in zip(c.x, np.nan_to_num(c.y)))
        style = f"stroke:{colour(c.number)}"
        parts.append(
            element("path", class_="line", d=f"M{path}", style=style, stroke_dasharray=dash(c.number))
        )
    return _svg("chart", title, width, height, parts)


def strip(title: str, values: Sequence[tuple[int, np.ndarray]]) -> Markup:
    """Overlap [T] over the frames of a sequence, one line per (tracker number, values); NaN leaves a gap."""
    width, height, top, bottom = 300, 44, 3, 41
    length = max(len(v) for _, v in values)
    parts = [line(0, y, width, y, class_="grid") for y in (top, (top + bottom) / 2, bottom)]
    for number, series in reversed(values):  # the first tracker on top
        path, pen = [], "M"
        for x, y in _thinned(series):
            if np.isnan(y):
                pen = "M"
                continue
            px, py = width * x / max(length - 1, 1), bottom - (bottom - top) * y
            path.append(f"{pen}{px:.1f} {py:.1f}")
            pen = "L"
        style = f"stroke:{colour(number)}"
        if path:
            parts.append(element("path", class_="line", d="".join(path), style=style))
    return _svg("strip", title, width, height, parts, preserveAspectRatio="none")


def _thinned(values: np.ndarray) -> list[tuple[float, float]]:
    """(frame, value) of at most STRIP_POINTS groups of neighbouring frames; NaN where all are."""
    groups = np.array_split(np.arange(len(values)), min(len(values), STRIP_POINTS))
    known = [(float(g.mean()), values[g][~np.isnan(values[g])]) for g in groups]
    return [(x, float(v.mean()) if len(v) else float("nan")) for x, v in known]


def swatch(number: int) -> Markup:
    """A tracker's line for legends."""
    style = f"stroke:{colour(number)}"
    parts = [line(1, 5, 27, 5, class_="line", style=style, stroke_dasharray=dash(number))]
    return _svg("swatch", "", 28, 10, parts)


def _svg(kind: str, title: str, width: int, height: int, parts: Sequence[str], **more: str) -> Markup:
    box = f"0 0 {width} {height}"
    return Markup(element("svg", *parts, class_=kind, role="img", aria_label=title, viewBox=box, **more))
