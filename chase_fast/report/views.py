"""What each section of a run's page shows: summary, genes, edges, diagnostics, timings, next steps, ..."""

import json
import shlex
import statistics

from chase_fast.nn.operations import WEIGHT_FREE, known_operations
from chase_fast.report import palette
from chase_fast.report.charts import Marks, Series, chart, label, value_range
from chase_fast.report.files import flatten, is_number
from chase_fast.report.layout import INPUTS
from chase_fast.report.read import Run

LOSSES = (
    ("training", "train_loss", "var(--train)", "2 3"),
    ("validation", "val_loss", "var(--val)", "7 3"),
    ("hold-out", "holdout_loss", "var(--holdout)", ""),
)
TIMINGS = (
    ("Time per iteration (ms)", "iteration_ms", "var(--val)"),
    ("Share of the time spent waiting for data", "data_wait_share", "var(--holdout)"),
    ("Peak memory (MB)", "peak_memory_mb", "var(--train)"),
)
ORIGIN = ("command", "versions", "commit", "threads")  # keys of config.json and cell.json about the machine
BACKBONES = {"resnet18": (128, 256), "resnet50": (512, 1024)}  # channels of layer2, layer3


def marks(run: Run) -> Marks:
    words = "stop: cell of epoch" if run.ended else "best so far: epoch"
    return Marks(max(run.last_epoch, max(run.alphas, default=0)), run.warmup_end, run.chosen, words)


def legend(series: list[Series]) -> list[tuple[str, str, str]]:
    return [(s.name, s.colour, s.dash) for s in series]


def op_colour(op: str, ops: tuple[str, ...]) -> str:
    return f"var(--op{palette.index(op, ops)})"


def row0(run: Run) -> float | None:
    """Hold-out loss of the untrained net."""
    return dict(run.series("holdout_loss")).get(0)


def best(run: Run) -> float | None:
    """Hold-out loss of the chosen epoch."""
    return dict(run.series("holdout_loss")).get(run.chosen)


def counts(run: Run) -> tuple[int, int, int]:
    """Skip connections, weight-free operations and genes of the derived cell."""
    ops = [op for genes in run.genotype.nodes for op, _ in genes] if run.genotype else []
    return ops.count("skip_connect"), sum(op in WEIGHT_FREE for op in ops), len(ops)


def summary(run: Run) -> list[tuple[str, str, str]]:
    """(name, value, note) of the numbers at the top."""
    tiles = []
    first, found = row0(run), best(run)
    if found is not None:
        note = "row 0 is missing"
        if first:
            change = 100 * (found / first - 1)
            side = "below" if change < 0 else "above"
            note = f"{abs(change):.1f} % {side} row 0 ({label(first)}), the untrained net"
        tiles.append(("Best hold-out loss", label(found), note))
    elif first is not None:
        tiles.append(("Hold-out loss of row 0", label(first), "the untrained net"))
    if run.chosen is not None:
        tiles.append(("Chosen epoch", str(run.chosen), f"of {run.last_epoch} run"))
    if run.genotype:
        skips, free, genes = counts(run)
        tiles.append(("Weight-free in the cell", f"{free} of {genes}", f"{skips} of them skip connections"))
    return tiles + _costs(run)


def _costs(run: Run) -> list[tuple[str, str, str]]:
    tiles = []
    times = {epoch: v for epoch, v in run.series("iteration_ms", "perf") if epoch > 0}
    with_alpha = {e: v for e, v in times.items() if run.history.get(e, {}).get("alpha_active")}
    if times:
        value = statistics.median((with_alpha or times).values())
        text = f"{value:.0f} ms" if value < 10_000 else f"{value / 1000:.1f} s"
        what = "alpha and weight step" if with_alpha else "weight step"
        tiles.append(("Time per iteration", text, f"median, {what}"))
    if memory := [v for _, v in run.series("peak_memory_mb", "perf")]:
        top = max(memory)
        text = f"{top / 1024:.2f} GB" if top >= 1024 else f"{top:.0f} MB"
        tiles.append(("Peak memory", text, "of the process"))
    if seconds := [v for _, v in run.series("seconds", "perf")]:
        total = sum(seconds)
        short = f"{total:.0f} s" if total < 120 else f"{total / 60:.1f} min"
        tiles.append(
            ("Search time", short if total < 7200 else f"{total / 3600:.1f} h", "sum over the epochs")
        )
    return tiles


def losses(run: Run) -> list[Series]:
    lines = [Series(name, run.series(key), colour, dash) for name, key, colour, dash in LOSSES]
    return [s for s in lines if s.points]


def genes(run: Run) -> list[dict]:
    """Rows of the table beside the drawing."""
    if run.genotype is None:
        return []
    states = INPUTS + tuple(f"node {i + 2}" for i in range(len(run.genotype.nodes)))
    weights = run.probabilities().get(run.chosen, [])
    rows = []
    for i, incoming in enumerate(run.genotype.nodes):
        for op, source in incoming:
            edge = i * (i + 3) // 2 + source
            known = edge < len(weights) and op in run.ops
            weight = f"{weights[edge][run.ops.index(op)]:.4f}" if known else "–"
            row = {"node": states[i + 2], "source": states[source], "op": op, "weight": weight}
            rows.append(row | {"colour": op_colour(op, run.ops)})
    return rows


def genotype_text(run: Run) -> str:
    """The genotype as JSON, a line per node."""
    nodes = run.genotype.to_data()["nodes"] if run.genotype else []
    return '{"nodes": [' + ",\n  ".join(json.dumps(node) for node in nodes) + "]}"


def edges(run: Run) -> list[dict]:
    """One small chart per edge, all on the same scale; row and column of the edge's place in the grid."""
    history = run.probabilities()
    if not history:
        return []
    epochs, ops = list(history), run.ops
    at = run.chosen if run.chosen in history else epochs[-1]
    kept = (
        {(i, source) for i, incoming in enumerate(run.genotype.nodes) for _, source in incoming}
        if run.genotype
        else ()
    )
    lines = [
        [
            Series(
                op,
                [(epoch, history[epoch][e][k]) for epoch in epochs],
                op_colour(op, ops),
                palette.dash(palette.index(op, ops)),
            )
            for k, op in enumerate(ops)
        ]
        for e in range(len(history[at]))
    ]
    bounds = value_range([line for edge in lines for line in edge], least=0.01)
    uniform = 0.5 if run.sigmoid else 1 / len(ops)
    pictures = []
    for e, (node, source) in enumerate(run.edges):
        name = f"{INPUTS[source] if source < 2 else f'node {source}'} → node {node + 2}"
        top = ops[max(range(len(ops)), key=lambda k, e=e: history[at][e][k])]
        title = f"Mixing weights of the edge {name} over the epochs, largest at epoch {at}: {top}"
        picture = chart(title, lines[e], marks(run), (216, 150), bounds, reference=uniform, small=True)
        place = {"row": node + 1, "column": source + 1, "kept": (node, source) in kept}
        pictures.append({"name": name, "top": top, "colour": op_colour(top, ops), "chart": picture} | place)
    return pictures


def op_legend(run: Run) -> list[tuple[str, str, str]]:
    return [(op, op_colour(op, run.ops), palette.dash(palette.index(op, run.ops))) for op in run.ops]


def diagnostics(run: Run) -> list[dict]:
    """Charts of the collapse indicators and of the schedules."""
    free = [
        Series("weight-free operations", run.series("weight_free_count"), "var(--val)"),
        Series("of them skip connections", run.series("skip_count"), "var(--op3)", "6 3"),
    ]
    title = "Weight-free operations in the derived cell"
    items = [{"title": title, "legend": legend(free), "chart": chart(title, free, marks(run), whole=True)}]
    for title, key, colour in (
        ("Entropy of the mixing weights, mean over the edges (nats)", "alpha_entropy", "var(--val)"),
        (
            "Largest Hessian eigenvalue of the validation loss in alpha",
            "hessian_eigenvalue",
            "var(--holdout)",
        ),
        ("Learning rate of the weights", "lr", "var(--val)"),
        ("Dropout rate of the skip connections", "dropout", "var(--op3)"),
    ):
        if points := run.series(key):
            picture = chart(title, [Series(title, points, colour)], marks(run))
            items.append({"title": title, "legend": [], "chart": picture})
    return items


def timings(run: Run) -> list[dict]:
    items = []
    for title, key, colour in TIMINGS:
        points = [(epoch, v) for epoch, v in run.series(key, "perf") if epoch > 0]  # row 0 has no iterations
        if points:
            picture = chart(title, [Series(title, points, colour)], Marks(marks(run).last))
            items.append({"title": title, "chart": picture})
    return items


def table(run: Run) -> dict | None:
    """All rows of history.jsonl."""
    keys = dict.fromkeys(k for row in run.history.values() for k in row)
    keys = [k for k in keys if k not in ("epoch", "genotype")]
    rows = [(e, [e] + [plain(run.history[e].get(k)) for k in keys]) for e in sorted(run.history)]
    return {"head": ["epoch"] + [k.replace("_", " ") for k in keys], "rows": rows} if rows else None


def plain(value) -> str:
    """A JSON value for reading."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(plain(v) for v in value) or "–"
    return label(value) if is_number(value) else str(value)


def facts(run: Run) -> tuple[list, list]:
    """(rows of the configuration, rows of versions and provenance)."""
    config = {k: v for k, v in run.config.items() if k not in ORIGIN}
    origin = {k: v for k, v in run.config.items() if k in ORIGIN}
    same = {k for k in ORIGIN if k in run.cell and run.cell[k] == origin.get(k)}
    origin["cell"] = {k: v for k, v in run.cell.items() if k != "genotype" and k not in same}
    rows = [(k.removeprefix("config."), plain(v)) for k, v in flatten(config).items()]
    return rows, [(k, plain(v)) for k, v in flatten(origin).items()]


def next_steps(run: Run) -> tuple[str, str, str]:
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
    note = "This run can go on where its last checkpoint ends, with the same result as if never interrupted:"
    return python, note, f"python -m chase_fast.search --out {shlex.quote(str(run.path))} --resume"
