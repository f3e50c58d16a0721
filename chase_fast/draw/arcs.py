"""Geometry of the drawing of a cell: states on one line, every gene an arc beside it that carries a label.

The line lies flat with the arcs above it; or it is upright, for a narrow place, with the arcs on its right.
"""

import dataclasses
from dataclasses import dataclass

from chase_fast.draw import palette
from chase_fast.nn.genotype import Genotype

STEP, BOX_W, BOX_H = 172, 84, 40  # px: distance of two states, size of a state's box
LEVEL, PILL_H, MARGIN = 50, 24, 18  # px: height of one arc level, of an operation's label; outer margin
UPRIGHT_STEP, UPRIGHT_LEVEL = 78, 58  # px: the same two of the upright drawing
INPUTS = ("layer2", "layer3")
Point = tuple[float, float]


@dataclass(frozen=True)
class Gene:
    """One arc: cubic Bezier `curve` (4 points), centre and width of its label, colour number."""

    op: str
    source: int
    target: int
    colour: int
    curve: tuple[Point, Point, Point, Point]
    label: Point
    label_width: float


@dataclass(frozen=True)
class Layout:
    width: float
    height: float
    axis: float  # y of the line of states; x if it is upright
    centres: tuple[float, ...]  # x of every state, the output last; y if upright
    names: tuple[str, ...]
    genes: tuple[Gene, ...]
    upright: bool = False

    def place(self, state: int) -> Point:
        """Centre of a state's box."""
        centre = self.centres[state]
        return (self.axis, centre) if self.upright else (centre, self.axis)

    def radius(self, state: int) -> float:
        """Of the corners of a state's box: inputs are rectangles, all others round."""
        return 6.0 if state < len(INPUTS) else BOX_H / 2


def _parts(genotype: Genotype) -> tuple[tuple[str, ...], list[tuple[str, int, int]], list[int], list[float]]:
    """Names of the states; per gene (op, source, target), its level and the width of its label."""
    nodes = genotype.nodes
    names = INPUTS + tuple(f"node {i + 2}" for i in range(len(nodes))) + ("output",)
    pairs = [(op, source, i + 2) for i, genes in enumerate(nodes) for op, source in genes]
    levels = _levels([(source, target) for _, source, target in pairs])
    return names, pairs, levels, [6.9 * len(op) + 22 for op, _, _ in pairs]


def _genes(pairs: list[tuple[str, int, int]], curves: list, widths: list[float], boxes: list[Point]) -> list:
    ops = tuple(dict.fromkeys(op for op, _, _ in pairs))
    genes = [
        Gene(op, source, target, palette.index(op, ops), curve, _bezier(curve, 0.5), width)
        for (op, source, target), curve, width in zip(pairs, curves, widths)
    ]
    return _place_labels(genes, boxes)


def arrange(genotype: Genotype, upright: bool = False) -> Layout:
    """Positions of everything in the drawing, in px."""
    return _arrange_upright(genotype) if upright else _arrange_flat(genotype)


def _arrange_flat(genotype: Genotype) -> Layout:
    names, pairs, levels, widths = _parts(genotype)
    step = max([STEP] + [w + 64 for w in widths])
    centres = tuple(MARGIN + BOX_W / 2 + step * i for i in range(len(names)))
    axis = MARGIN + LEVEL * max(levels, default=0) + PILL_H / 2 + BOX_H / 2 + 4
    top = axis - BOX_H / 2
    curves = []
    for level, (x0, x1) in zip(levels, _ports(pairs, levels, centres, BOX_W / 2 - 10)):
        rise = top - level * LEVEL * 4 / 3  # a cubic reaches 3/4 of its control height
        lean = 0.06 * (x1 - x0)
        curves.append(((x0, top), (x0 + lean, rise), (x1 - lean, rise), (x1, top - 5)))
    genes = _genes(pairs, curves, widths, [(x, axis) for x in centres])
    width, height = centres[-1] + BOX_W / 2 + MARGIN, axis + BOX_H / 2 + 52
    return Layout(width, height, axis, centres, names, tuple(genes))


def _arrange_upright(genotype: Genotype) -> Layout:
    names, pairs, levels, widths = _parts(genotype)
    centres = tuple(MARGIN + BOX_H / 2 + UPRIGHT_STEP * i for i in range(len(names)))
    axis = MARGIN + 42 + BOX_W / 2
    side = axis + BOX_W / 2
    curves = []
    for level, (y0, y1) in zip(levels, _ports(pairs, levels, centres, BOX_H / 2 - 4)):
        reach = side + (level * UPRIGHT_LEVEL + 16) * 4 / 3
        lean = 0.06 * (y1 - y0)
        curves.append(((side, y0), (reach, y0 + lean), (reach, y1 - lean), (side + 5, y1)))
    genes = _genes(pairs, curves, widths, [(axis, y) for y in centres])
    right = max((g.label[0] + g.label_width / 2 for g in genes), default=side)
    right = max([right] + [_bezier(g.curve, 0.5)[0] for g in genes])
    return Layout(right + MARGIN, centres[-1] + BOX_H / 2 + MARGIN, axis, centres, names, tuple(genes), True)


def _levels(spans: list[tuple[int, int]]) -> list[int]:
    """Height of every arc: one more than the highest arc nested under it (equal spans stack in order)."""
    order = sorted(range(len(spans)), key=lambda g: (spans[g][1] - spans[g][0], g))
    levels = [0] * len(spans)
    for position, g in enumerate(order):
        i, j = spans[g]
        nested = [levels[f] for f in order[:position] if i <= spans[f][0] and spans[f][1] <= j]
        levels[g] = 1 + max(nested, default=0)
    return levels


def _ports(
    pairs: list[tuple[str, int, int]], levels: list[int], centres: tuple[float, ...], half: float
) -> list[list[float]]:
    """Where along the line every arc leaves its source and lands on its target, up to `half` from the middle
    of the box; higher arcs nearer to it."""
    spans = [(source, target) for _, source, target in pairs]
    ports = [[0.0, 0.0] for _ in spans]
    for end, side in ((0, 1), (1, -1)):
        for state, centre in enumerate(centres):
            arcs = sorted((g for g, s in enumerate(spans) if s[end] == state), key=lambda g: levels[g])
            gap = min(11.0, (half - 2) / max(len(arcs), 1))
            for rank, g in enumerate(arcs):
                ports[g][end] = centre + side * (half - gap * rank)
    return ports


def _bezier(curve: tuple[Point, Point, Point, Point], t: float) -> Point:
    weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3)
    x, y = (sum(w * p[axis] for w, p in zip(weights, curve)) for axis in (0, 1))
    return x, y


def _place_labels(genes: list[Gene], boxes: list[Point]) -> list[Gene]:
    """Slides every label along its own arc to where it hides no other arc, label or box; best at the top."""
    samples = [[_bezier(g.curve, k / 48) for k in range(49)] for g in genes]
    placed: dict[int, Point] = {}

    def cost(g: int, t: float) -> float:
        x, y = _bezier(genes[g].curve, t)
        half = genes[g].label_width / 2

        def near(p: Point, dx: float, dy: float) -> bool:
            return abs(p[0] - x) < dx and abs(p[1] - y) < dy

        arcs = sum(
            near(p, half + 5, PILL_H / 2 + 4) for f, path in enumerate(samples) if f != g for p in path
        )
        labels = sum(
            near(p, half + genes[f].label_width / 2 + 6, PILL_H + 6) for f, p in placed.items() if f != g
        )
        box = any(near(p, half + BOX_W / 2, PILL_H / 2 + BOX_H / 2 + 8) for p in boxes)
        return arcs + 60 * labels + 60 * box + 14 * abs(t - 0.5)

    for _ in range(2):  # the second pass knows where all others went
        for g in range(len(genes)):
            best = min((0.5 + sign * k / 40 for k in range(15) for sign in (1, -1)), key=lambda t: cost(g, t))
            placed[g] = _bezier(genes[g].curve, best)
    return [dataclasses.replace(gene, label=placed[g]) for g, gene in enumerate(genes)]


def comb(layout: Layout) -> list[list[Point]]:
    """The concatenation: from every node to one bar and along it to the output, on the side without arcs."""
    away = -1 if layout.upright else 1
    edge = layout.axis + away * (BOX_W if layout.upright else BOX_H) / 2
    bar, out, nodes = edge + away * 24, layout.centres[-1], layout.centres[len(INPUTS) : -1]
    lines = [[(c, edge), (c, bar)] for c in nodes]
    lines.append([(nodes[0], bar), (out, bar), (out, edge + away * 5)])
    return [[(y, x) for x, y in line] for line in lines] if layout.upright else lines
