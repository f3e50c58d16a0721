"""Geometry of the drawing of a cell: states on one line, every gene an arc above it that carries a label."""

import dataclasses
from dataclasses import dataclass

from chase_fast.nn.genotype import Genotype
from chase_fast.report import palette

STEP, BOX_W, BOX_H = 172, 84, 40  # px: distance of two states, size of a state's box
LEVEL, PILL_H, MARGIN = 50, 24, 18  # px: height of one arc level, of an operation's label; outer margin
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
    axis: float  # y of the line of states
    centres: tuple[float, ...]  # x of every state, the output last
    names: tuple[str, ...]
    genes: tuple[Gene, ...]

    def radius(self, state: int) -> float:
        """Of the corners of a state's box: inputs are rectangles, all others round."""
        return 6.0 if state < len(INPUTS) else BOX_H / 2


def arrange(genotype: Genotype) -> Layout:
    """Positions of everything in the drawing, in px."""
    nodes = genotype.nodes
    names = INPUTS + tuple(f"node {i + 2}" for i in range(len(nodes))) + ("output",)
    pairs = [(op, source, i + 2) for i, genes in enumerate(nodes) for op, source in genes]
    ops = tuple(dict.fromkeys(op for op, _, _ in pairs))
    spans = [(source, target) for _, source, target in pairs]
    levels = _levels(spans)
    widths = [6.9 * len(op) + 22 for op, _, _ in pairs]
    step = max([STEP] + [w + 64 for w in widths])
    centres = tuple(MARGIN + BOX_W / 2 + step * i for i in range(len(names)))
    axis = MARGIN + LEVEL * max(levels, default=0) + PILL_H / 2 + BOX_H / 2 + 4
    top = axis - BOX_H / 2
    genes = []
    for (op, source, target), level, (x0, x1), width in zip(
        pairs, levels, _ports(spans, levels, centres), widths
    ):
        rise = top - level * LEVEL * 4 / 3  # a cubic reaches 3/4 of its control height
        lean = 0.06 * (x1 - x0)
        curve = ((x0, top), (x0 + lean, rise), (x1 - lean, rise), (x1, top - 5))
        genes.append(Gene(op, source, target, palette.index(op, ops), curve, _bezier(curve, 0.5), width))
    genes = _place_labels(genes, [(x, axis) for x in centres])
    width, height = centres[-1] + BOX_W / 2 + MARGIN, axis + BOX_H / 2 + 52
    return Layout(width, height, axis, centres, names, tuple(genes))


def _levels(spans: list[tuple[int, int]]) -> list[int]:
    """Height of every arc: one more than the highest arc nested under it (equal spans stack in order)."""
    order = sorted(range(len(spans)), key=lambda g: (spans[g][1] - spans[g][0], g))
    levels = [0] * len(spans)
    for position, g in enumerate(order):
        i, j = spans[g]
        nested = [levels[f] for f in order[:position] if i <= spans[f][0] and spans[f][1] <= j]
        levels[g] = 1 + max(nested, default=0)
    return levels


def _ports(spans: list[tuple[int, int]], levels: list[int], centres: tuple[float, ...]) -> list[list[float]]:
    """x where every arc leaves its source and lands on its target; higher arcs nearer the box's centre."""
    ports = [[0.0, 0.0] for _ in spans]
    for end, side in ((0, 1), (1, -1)):
        for state, centre in enumerate(centres):
            arcs = sorted((g for g, s in enumerate(spans) if s[end] == state), key=lambda g: levels[g])
            gap = min(11.0, (BOX_W / 2 - 12) / max(len(arcs), 1))
            for rank, g in enumerate(arcs):
                ports[g][end] = centre + side * (BOX_W / 2 - 10 - gap * rank)
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
    """The concatenation: from under every node along one bar up to the output."""
    bottom, out = layout.axis + BOX_H / 2, layout.centres[-1]
    bar = bottom + 24
    nodes = layout.centres[len(INPUTS) : -1]
    return [[(x, bottom), (x, bar)] for x in nodes] + [[(nodes[0], bar), (out, bar), (out, bottom + 5)]]
