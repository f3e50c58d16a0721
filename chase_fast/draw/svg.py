"""Writes SVG elements as text, every value escaped."""

from collections.abc import Iterable
from html import escape

from markupsafe import Markup


def element(name: str, *children: str, **attributes: object) -> str:
    """`<name attributes>children</name>`. Children are markup (see `text`), attribute values are plain.

    `class_` stands for class, an underscore inside a name for a hyphen; floats keep one digit, None is left
    out.
    """
    parts = [name]
    for key, value in attributes.items():
        if value is None:
            continue
        value = f"{value:.1f}" if isinstance(value, float) else str(value)
        parts.append(f'{key.rstrip("_").replace("_", "-")}="{escape(value)}"')
    return f"<{' '.join(parts)}>{''.join(children)}</{name}>"


def picture(
    kind: str, title: str, size: tuple[int, int], parts: Iterable[str], **attributes: object
) -> Markup:
    """A whole SVG of the CSS class `kind`, with its accessible name; the page scales it."""
    view = f"0 0 {size[0]} {size[1]}"
    return Markup(
        element("svg", *parts, class_=kind, role="img", aria_label=title, viewBox=view, **attributes)
    )


def text(content: object, x: float, y: float, **attributes: object) -> str:
    return element("text", escape(str(content)), x=float(x), y=float(y), **attributes)


def line(x1: float, y1: float, x2: float, y2: float, **attributes: object) -> str:
    return element("line", x1=float(x1), y1=float(y1), x2=float(x2), y2=float(y2), **attributes)


def rect(x: float, y: float, width: float, height: float, **attributes: object) -> str:
    return element("rect", x=float(x), y=float(y), width=float(width), height=float(height), **attributes)


def points(pairs: Iterable[tuple[float, float]]) -> str:
    """[(x, y), ...] for a polyline or a polygon."""
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in pairs)
