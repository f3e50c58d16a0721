"""The picture of a derived cell: an arc diagram, as a stand-alone SVG, or as PNG through matplotlib.

States stand on one line (layer2, layer3, the nodes, the output). Every gene is an arc above the line that
carries the name of its operation; the comb below is the concatenation. Upright, for a narrow place: the line
runs down, the arcs lie on its right.
"""

from html import escape
from pathlib import Path
from typing import Any

from markupsafe import Markup

from chase_fast.draw import palette
from chase_fast.draw.arcs import (
    BOX_H,
    BOX_W,
    INPUTS,
    PILL_H,
    UPRIGHT_STEP,
    Gene,
    Layout,
    Point,
    arrange,
    comb,
)
from chase_fast.draw.svg import element, picture, points, rect, text
from chase_fast.nn.genotype import Genotype

FONTS = "system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif"


def describe(genotype: Genotype) -> str:
    """The cell in one sentence per node, for screen readers and alternative texts."""
    states = INPUTS + tuple(f"node {i + 2}" for i in range(len(genotype.nodes)))
    sums = [" + ".join(f"{op}({states[s]})" for op, s in genes) or "nothing" for genes in genotype.nodes]
    return " ".join(f"Node {i + 2} = {s}." for i, s in enumerate(sums))


def draw_cell(genotype: Genotype, background: bool = False, upright: bool = False) -> Markup:
    """The cell as SVG text that needs nothing else; follows the reader's light or dark scheme.

    Args:
        genotype: the derived cell.
        background: paint a surface behind it (for a file that is shown on an unknown page).
        upright: the line of states runs down: narrow, to set cells side by side.
    """
    layout = arrange(genotype, upright)
    words = describe(genotype)
    width, height = round(layout.width), round(layout.height)
    parts = [
        element("desc", escape(words)),
        element("style", _style({g.colour for g in layout.genes})),
    ]
    if background:
        look = {"rx": 10, "fill": palette.SURFACE[0], "stroke": palette.LINE[0]}
        parts.append(rect(0.5, 0.5, width - 1, height - 1, class_="ground", **look))
    parts += _svg_comb(layout)
    parts += [_svg_arc(gene, layout.upright) for gene in layout.genes]
    parts += [_svg_label(gene) for gene in layout.genes]  # above all arcs
    parts += [_svg_state(layout, state) for state in range(len(layout.names))]
    kind, space = "cell upright" if upright else "cell", "http://www.w3.org/2000/svg"
    return picture(kind, words, (width, height), parts, xmlns=space, width=width, height=height)


def _style(colours: set[int]) -> str:
    """Fonts, and the dark scheme; the light one stands in the attributes, for viewers without CSS."""
    dark = [
        (".ground,.pill,.box", "fill", palette.SURFACE[1]),
        ("text", "fill", palette.INK[1]),
        (".ground,.comb", "stroke", palette.LINE[1]),
        (".box", "stroke", palette.MUTED[1]),
        (".combhead", "fill", palette.LINE[1]),
        (".quiet", "fill", palette.MUTED[1]),
    ]
    for c in sorted(colours):
        dark.append((f".op{c} path,.op{c} .pill", "stroke", palette.dark(c)))
        dark.append((f".op{c} .tint,.op{c} .head", "fill", palette.dark(c)))
    rules = "".join(
        f"{','.join(f'.cell {s}' for s in selectors.split(','))}{{{key}:{value}}}"
        for selectors, key, value in dark
    )
    return f".cell text{{font-family:{FONTS}}}@media screen and (prefers-color-scheme:dark){{{rules}}}"


def _svg_comb(layout: Layout) -> list[str]:
    grey = palette.LINE[0]
    look: dict[str, Any] = {"fill": "none", "stroke": grey, "stroke_width": 2.5, "stroke_linejoin": "round"}
    paths = comb(layout)
    x, y = paths[-1][-1]
    head = [(x - 5, y + 3), (x + 5, y + 3), (x, y - 6)]
    place = (x - 10, y + 37)
    words: dict[str, Any] = {"class_": "quiet", "font_size": 12, "fill": palette.MUTED[0]}
    if layout.upright:
        head = [(x - 3, y - 5), (x - 3, y + 5), (x + 6, y)]
        place = (x - 26, layout.centres[-1] - UPRIGHT_STEP)
        words["transform"] = f"rotate(-90 {place[0]:.1f} {place[1]:.1f})"
    return [
        *(element("polyline", class_="comb", points=points(path), **look) for path in paths),
        element("polygon", class_="combhead", points=points(head), fill=grey),
        text("concatenation", *place, text_anchor="middle" if layout.upright else "end", **words),
    ]


def _head(gene: Gene, upright: bool = False) -> list[Point]:
    x, y = gene.curve[3]
    if upright:
        return [(x + 4, y - 4.5), (x + 4, y + 4.5), (x - 5, y)]
    return [(x - 4.5, y - 4), (x + 4.5, y - 4), (x, y + 5)]


def _svg_arc(gene: Gene, upright: bool) -> str:
    start, *rest = (f"{x:.1f} {y:.1f}" for x, y in gene.curve)
    colour = palette.light(gene.colour)
    look = {"fill": "none", "stroke": colour, "stroke_width": 2.2}
    arc = element(
        "path", d=f"M{start}C{' '.join(rest)}", stroke_dasharray=palette.dash(gene.colour) or None, **look
    )
    head = element("polygon", class_="head", points=points(_head(gene, upright)), fill=colour)
    return element("g", arc, head, class_=f"op{gene.colour}")


def _svg_label(gene: Gene) -> str:
    (x, y), width, colour = gene.label, gene.label_width, palette.light(gene.colour)
    place = (x - width / 2, y - PILL_H / 2, width, PILL_H)
    rx = PILL_H // 2
    return element(
        "g",
        rect(*place, class_="pill", rx=rx, fill=palette.SURFACE[0], stroke=colour, stroke_width=1.6),
        rect(*place, class_="tint", rx=rx, fill=colour, fill_opacity="0.13"),
        text(gene.op, x, y + 4.3, text_anchor="middle", font_size=12.5, fill=palette.INK[0]),
        class_=f"gene op{gene.colour}",
        data_op=gene.op,
        data_source=gene.source,
        data_target=gene.target,
    )


def _svg_state(layout: Layout, state: int) -> str:
    x, y = layout.place(state)
    look: dict[str, Any] = {"fill": palette.SURFACE[0], "stroke": palette.MUTED[0], "stroke_width": 1.8}
    place = (x - BOX_W / 2, y - BOX_H / 2, BOX_W, BOX_H)
    words: dict[str, Any] = {"text_anchor": "middle", "font_size": 14, "font_weight": 600}
    return element(
        "g",
        rect(*place, class_="box", rx=layout.radius(state), **look),
        text(layout.names[state], x, y + 5, fill=palette.INK[0], **words),
        class_="state",
        data_state=state,
    )


def save_svg(genotype: Genotype, path: str | Path) -> None:
    Path(path).write_text(draw_cell(genotype, background=True) + "\n", encoding="utf-8")


def save_png(genotype: Genotype, path: str | Path, scale: float = 2.0) -> None:
    """The same drawing as a bitmap on white, by matplotlib; `scale` is pixels per px of the drawing."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import FancyBboxPatch, PathPatch, Polygon
    from matplotlib.path import Path as Curve

    layout = arrange(genotype)
    figure = Figure(figsize=(layout.width / 72, layout.height / 72), dpi=72 * scale)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, layout.width)
    axes.set_ylim(layout.height, 0)
    axes.set_axis_off()

    def box(x: float, y: float, width: float, height: float, radius: float, **look) -> None:
        shape = f"round,pad=0,rounding_size={radius}"
        corner = (x - width / 2, y - height / 2)
        axes.add_patch(
            FancyBboxPatch(corner, width, height, boxstyle=shape, facecolor="white", zorder=3, **look)
        )

    def words(content: str, x: float, y: float, size: float, **look) -> None:
        axes.text(x, y, content, ha="center", va="center", fontsize=size, zorder=4, **look)

    for line in comb(layout):
        axes.plot(*zip(*line), color=palette.LINE[0], linewidth=2.5, zorder=1)
    for gene in layout.genes:
        colour, dash = palette.light(gene.colour), palette.dash(gene.colour)
        style = (0, tuple(float(d) for d in dash.split())) if dash else "-"
        curve = Curve(gene.curve, [Curve.MOVETO] + [Curve.CURVE4] * 3)
        axes.add_patch(PathPatch(curve, facecolor="none", edgecolor=colour, linewidth=2.2, linestyle=style))
        axes.add_patch(Polygon(_head(gene), facecolor=colour, linewidth=0))
        x, y = gene.label
        box(x, y, gene.label_width, PILL_H, PILL_H / 2, edgecolor=colour, linewidth=1.6)
        words(gene.op, x, y, 11.5, color=palette.INK[0])
    for state, (x, name) in enumerate(zip(layout.centres, layout.names)):
        look = {"edgecolor": palette.MUTED[0], "linewidth": 1.8}
        box(x, layout.axis, BOX_W, BOX_H, layout.radius(state), **look)
        words(name, x, layout.axis, 13, fontweight="bold", color=palette.INK[0])
    figure.savefig(path, format="png")
