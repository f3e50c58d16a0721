"""What each section of a search's page shows: summary, genes, edges, diagnostics, next steps, ..."""

import json
import shlex
import statistics
from typing import Any

from chase_fast.draw.arcs import INPUTS
from chase_fast.draw.charts import Marks, Series, chart, value_range
from chase_fast.draw.palette import op_look
from chase_fast.nn.operations import known_operations
from chase_fast.report.files import flatten
from chase_fast.report.parts import Tile, card, cost_charts, cost_tiles, loss_tiles, resume
from chase_fast.report.search.read import SearchRun
from chase_fast.report.words import plain

LOSSES = (
    ("training", "train_loss", "var(--train)", "2 3"),
    ("validation", "val_loss", "var(--val)", "7 3"),
    ("hold-out", "holdout_loss", "var(--holdout)", ""),
)
DIAGNOSTICS = (
    ("Entropy of the mixing weights, mean over the edges (nats)", "alpha_entropy", "var(--val)"),
    ("Largest Hessian eigenvalue of the validation loss in alpha", "hessian_eigenvalue", "var(--holdout)"),
    ("Learning rate of the weights", "lr", "var(--val)"),
    ("Dropout rate of the skip connections", "dropout", "var(--op3)"),
)
TIMINGS = (
    ("Time per iteration (ms)", "iteration_ms", "var(--val)"),
    ("Share of the time spent waiting for data", "data_wait_share", "var(--holdout)"),
    ("Peak memory (MB)", "peak_memory_mb", "var(--train)"),
)
ORIGIN = ("command", "versions", "commit", "threads")  # keys of config.json and cell.json about the machine
BACKBONES = {"resnet18": (128, 256), "resnet50": (512, 1024)}  # channels of layer2, layer3


def marks(run: SearchRun) -> Marks:
    words = "stop: cell of epoch" if run.ended else "best so far: epoch"
    return Marks(max(run.last_epoch, max(run.alphas, default=0)), run.warmup_end, run.chosen, words)


def summary(run: SearchRun) -> list[Tile]:
    """(name, value, note) of the numbers at the top."""
    tiles = loss_tiles(run, "hold-out loss")
    if run.chosen is not None:
        tiles.append(("Chosen epoch", str(run.chosen), f"of {run.last_epoch} run"))
    if run.genotype:
        skips, free, genes = run.operations()
        tiles.append(("Weight-free in the cell", f"{free} of {genes}", f"{skips} of them skip connections"))
    times = dict(run.costs("iteration_ms"))
    with_alpha = {e: v for e, v in times.items() if run.history.get(e, {}).get("alpha_active")}
    if times:
        value = statistics.median((with_alpha or times).values())
        text = f"{value:.0f} ms" if value < 10_000 else f"{value / 1000:.1f} s"
        what = "alpha and weight step" if with_alpha else "weight step"
        tiles.append(("Time per iteration", text, f"median, {what}"))
    return tiles + cost_tiles(run, "Search time")


def losses(run: SearchRun) -> list[Series]:
    lines = [Series(name, run.series(key), colour, dash) for name, key, colour, dash in LOSSES]
    return [s for s in lines if s.points]


def genes(run: SearchRun) -> list[dict[str, str]]:
    """Rows of the table beside the drawing."""
    if run.genotype is None:
        return []
    states = INPUTS + tuple(f"node {i + 2}" for i in range(len(run.genotype.nodes)))
    weights = run.probabilities().get(run.chosen, []) if run.chosen is not None else []
    rows = []
    for i, incoming in enumerate(run.genotype.nodes):
        for op, source in incoming:
            edge = i * (i + 3) // 2 + source
            known = edge < len(weights) and op in run.ops
            weight = f"{weights[edge][run.ops.index(op)]:.4f}" if known else "–"
            row = {"node": states[i + 2], "source": states[source], "op": op, "weight": weight}
            rows.append(row | {"colour": op_look(op, run.ops)[0]})
    return rows


def genotype_text(run: SearchRun) -> str:
    """The genotype as JSON, a line per node."""
    nodes = run.genotype.to_data()["nodes"] if run.genotype else []
    return '{"nodes": [' + ",\n  ".join(json.dumps(node) for node in nodes) + "]}"


def edges(run: SearchRun) -> list[dict[str, Any]]:
    """One small chart per edge, all on the same scale; row and column of the edge's place in the grid."""
    history = run.probabilities()
    if not history:
        return []
    ops = run.ops
    at = run.chosen if run.chosen in history else max(history)
    nodes = run.genotype.nodes if run.genotype else ()
    kept = {(i, source) for i, incoming in enumerate(nodes) for _, source in incoming}
    bounds = value_range([v for rows in history.values() for row in rows for v in row], least=0.01)
    uniform = None if run.mixed else 0.5 if run.mixing == "sigmoid" else 1 / len(ops)
    pictures = []
    for e, (node, source) in enumerate(run.edges):
        name = f"{INPUTS[source] if source < 2 else f'node {source}'} → node {node + 2}"
        weights = history[at][e]
        top = ops[weights.index(max(weights))]
        title = f"Mixing weights of the edge {name} over the epochs, largest at epoch {at}: {top}"
        lines = [
            Series(op, [(epoch, rows[e][k]) for epoch, rows in history.items()], *op_look(op, ops))
            for k, op in enumerate(ops)
        ]
        picture = chart(title, lines, marks(run), (216, 150), bounds, reference=uniform, small=True)
        place = {"row": node + 1, "column": source + 1, "kept": (node, source) in kept}
        pictures.append({"name": name, "top": top, "colour": op_look(top, ops)[0], "chart": picture} | place)
    return pictures


def op_legend(run: SearchRun) -> list[tuple[str, str, str]]:
    return [(op, *op_look(op, run.ops)) for op in run.ops]


def diagnostics(run: SearchRun) -> list[dict[str, Any]]:
    """Charts of the collapse indicators and of the schedules."""
    free = [
        Series("weight-free operations", run.series("weight_free_count"), "var(--val)"),
        Series("of them skip connections", run.series("skip_count"), "var(--op3)", "6 3"),
    ]
    title = "Weight-free operations in the derived cell"
    lines = [Series(title, run.series(key), colour) for title, key, colour in DIAGNOSTICS]
    return [card(title, chart(title, free, marks(run), whole=True), free)] + [
        card(line.name, chart(line.name, [line], marks(run))) for line in lines if line.points
    ]


def timings(run: SearchRun) -> list[dict[str, Any]]:
    return cost_charts(run, TIMINGS, int(marks(run).last))


def facts(run: SearchRun) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """(rows of the configuration, rows of versions and provenance)."""
    config = {k: v for k, v in run.config.items() if k not in ORIGIN}
    origin = {k: v for k, v in run.config.items() if k in ORIGIN}
    same = {k for k in ORIGIN if k in run.cell and run.cell[k] == origin.get(k)}
    origin["cell"] = {k: v for k, v in run.cell.items() if k != "genotype" and k not in same}
    rows = [(k.removeprefix("config."), plain(v)) for k, v in flatten(config).items()]
    return rows, [(k, plain(v)) for k, v in flatten(origin).items()]


def next_steps(run: SearchRun) -> tuple[str, str, str]:
    """(Python lines that build the cell, a sentence, shell lines)."""
    file = run.path / "cell.json"
    channels = run.setting("channels", default=256)
    layer2, layer3 = BACKBONES.get(str(run.setting("backbone")), BACKBONES["resnet50"])
    nodes = len(run.genotype.nodes) if run.genotype else 4
    out = nodes * channels if isinstance(channels, int) else f"{nodes}C"
    form = "json" if isinstance(run.cell.get("genotype"), str) else "data"
    flavour = str(run.setting("flavour", default="chase"))
    genes = [op for node in run.genotype.nodes for op, _ in node] if run.genotype else []
    own = dict.fromkeys(op for op in genes if op not in known_operations())
    first = f"# call register_operation for {', '.join(own)} first\n" if own else ""
    python = f"""{first}import json
from pathlib import Path
from chase_fast.nn.genotype import Genotype
from chase_fast.nn.neck import DerivedNeck

cell = json.loads(Path({str(file)!r}).read_text())
genotype = Genotype.from_{form}(cell["genotype"])
neck = DerivedNeck(({layer2}, {layer3}), genotype, channels={channels!r}, flavour={flavour!r})
features = neck(layer2, layer3)  # [N, {layer2}, 2h, 2w], [N, {layer3}, h, w] -> [N, {out}, h, w]"""
    if run.ended:
        draw = f"python -m chase_fast.report --cell {shlex.quote(str(file))} --svg cell.svg"
        return python, "Draw the cell into a file of its own:", draw
    return python, *resume(run)
