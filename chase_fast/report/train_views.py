"""What each section of a training's page shows: summary, losses, optimiser, speed, sizes, next steps, ..."""

import shlex
import statistics
from collections.abc import Sequence

from chase_fast.nn.operations import WEIGHT_FREE
from chase_fast.report.charts import Marks, Series, chart, label
from chase_fast.report.files import flatten
from chase_fast.report.read_train import PARTS, TERMS, TrainRun
from chase_fast.report.views import legend, plain

LOSSES = (("training", "train", "var(--train)", "2 3"), ("validation", "val", "var(--val)", ""))
TITLES = {
    "loss": "Total loss",
    "final": "Target classifier: last iterate",
    "initial": "Target classifier: first iterate",
    "middle": "Target classifier: iterates between",
    "box": "Box regressor",
}
WORDS = {
    "loss": "total",
    "final": "last iterate",
    "initial": "first iterate",
    "middle": "between",
    "box": "box",
}
SPEED = (
    ("Samples per second", "samples_per_second", "var(--val)"),
    ("Time per step (ms)", "step_ms", "var(--val)"),
    ("Share of the time spent waiting for data", "data_wait_share", "var(--holdout)"),
    ("Peak memory (MB)", "peak_memory_mb", "var(--train)"),
)
ORIGIN = ("command", "versions", "commit", "threads")  # about the machine, not about the result
DATA = ("train", "val")


def marks(run: TrainRun) -> Marks:
    words = "checkpoint: epoch" if run.ended else "best so far: epoch"
    return Marks(run.last_epoch, 0, run.chosen, words)


def big(value: float | None) -> str:
    """A count with three digits and k, M or G."""
    if value is None:
        return "–"
    for power, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= power:
            return f"{value / power:.3g} {unit}"
    return f"{value:.0f}"


def memory(megabytes: float) -> str:
    return f"{megabytes / 1024:.2f} GB" if megabytes >= 1024 else f"{megabytes:.0f} MB"


def duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def neck(run: TrainRun) -> str:
    """What stands between backbone and classifier, in words."""
    if run.plain:
        return "plain block"
    if run.genotype is None:
        return "unknown"
    ops = [op for genes in run.genotype.nodes for op, _ in genes]
    free = sum(op in WEIGHT_FREE for op in ops)
    name = run.setting("cell")
    known = f"{name}: " if isinstance(name, str) and "/" not in name and not name.endswith(".json") else ""
    return f"{known}cell of {len(run.genotype.nodes)} nodes, {len(ops)} operations, {free} weight-free"


def summary(run: TrainRun) -> list[tuple[str, str, str]]:
    """(name, value, note) of the numbers at the top."""
    tiles = []
    first, found = run.at(0, "val_loss"), run.at(run.chosen, "val_loss")
    if found is not None:
        note = "row 0 is missing"
        if first:
            change = 100 * (found / first - 1)
            side = "below" if change < 0 else "above"
            note = f"{abs(change):.1f} % {side} row 0 ({label(first)}), the untrained net"
        tiles.append(("Best validation loss", label(found), f"epoch {run.chosen}: {note}"))
    elif first is not None:
        tiles.append(("Validation loss of row 0", label(first), "the untrained net"))
    if (total := run.size("parameters", "total")) is not None:
        share = run.size("parameters", "neck")
        tiles.append(("Parameters", big(total), f"{big(share)} of them between backbone and classifier"))
    if (total := run.size("macs", "total")) is not None:
        tiles.append(("MACs", big(total), f"per frame, neck {big(run.size('macs', 'neck'))}"))
    return tiles + _costs(run)


def _costs(run: TrainRun) -> list[tuple[str, str, str]]:
    tiles = []
    if rates := [v for epoch, v in run.series("samples_per_second", "perf") if epoch > 0]:
        waits = [v for epoch, v in run.series("data_wait_share", "perf") if epoch > 0]
        note = f"median; {statistics.median(waits):.1%} of the time waiting for data" if waits else "median"
        tiles.append(("Samples per second", label(round(statistics.median(rates), 2)), note))
    if peaks := [v for _, v in run.series("peak_memory_mb", "perf")]:
        tiles.append(("Peak memory", memory(max(peaks)), "of the process"))
    if seconds := [v for _, v in run.series("seconds", "perf")]:
        tiles.append(("Training time", duration(sum(seconds)), "sum over the epochs"))
    return tiles


def losses(run: TrainRun, term: str = "loss") -> list[Series]:
    """Training and validation curves of one term."""
    lines = [Series(name, run.series(f"{kind}_{term}"), colour, dash) for name, kind, colour, dash in LOSSES]
    return [s for s in lines if s.points]


def terms(run: TrainRun) -> list[dict]:
    """One chart per term of the loss."""
    items = []
    for term in TERMS:
        if lines := losses(run, term):
            title = TITLES[term]
            items.append({"title": title, "legend": [], "chart": chart(title, lines, marks(run))})
    return items


def optimiser(run: TrainRun) -> list[dict]:
    """Charts of learning rates and gradient norm, logarithmic."""
    rates = [
        Series("classifier", run.series("lr"), "var(--val)"),
        Series("backbone", run.series("lr_backbone"), "var(--holdout)", "6 3"),
    ]
    norm = [Series("gradient norm", run.series("grad_norm"), "var(--val)")]
    items = []
    for title, lines in (("Learning rates", rates), ("Norm of the gradient, mean of the epoch", norm)):
        lines = [s for s in lines if any(v > 0 for _, v in s.points)]
        if lines:
            picture = chart(f"{title}, logarithmic", lines, Marks(run.last_epoch), logarithmic=True)
            items.append(
                {"title": title, "legend": legend(lines) if len(lines) > 1 else [], "chart": picture}
            )
    return items


def speed(run: TrainRun) -> list[dict]:
    items = []
    for title, key, colour in SPEED:
        points = [(epoch, v) for epoch, v in run.series(key, "perf") if epoch > 0]  # row 0 has no steps
        if points:
            picture = chart(title, [Series(title, points, colour)], Marks(run.last_epoch))
            items.append({"title": title, "legend": [], "chart": picture})
    return items


def sizes(runs: Sequence[TrainRun]) -> list[dict]:
    """Rows (part, parameters, MACs), ranges where the runs differ; [] before a result.json is written."""

    def span(what: str, part: str) -> str:
        values = sorted({v for run in runs if (v := run.size(what, part)) is not None})
        return " to ".join(dict.fromkeys(big(v) for v in (values[0], values[-1]))) if values else "–"

    if not any(run.result for run in runs):
        return []
    names = {"neck": "neck (cell or plain block)", "box": "box regressor"}
    rows = [
        {"part": names.get(p, p), "parameters": span("parameters", p), "macs": span("macs", p)} for p in PARTS
    ]
    return [row for row in rows if (row["parameters"], row["macs"]) != ("–", "–")]


def table(run: TrainRun) -> dict | None:
    """All rows of history.jsonl."""
    keys = dict.fromkeys(k for row in run.history.values() for k in row if k != "epoch")
    rows = [(e, [e] + [plain(run.history[e].get(k)) for k in keys]) for e in sorted(run.history)]
    return {"head": ["epoch"] + [k.replace("_", " ") for k in keys], "rows": rows} if rows else None


def sources(run: TrainRun) -> list[tuple[str, str]]:
    """(training or validation, data source), as named on the command line and as result.json counts them."""
    rows = []
    for key, words in zip(DATA, ("training", "validation")):
        named, found = run.setting(key), run.result.get(key)
        for value in dict.fromkeys(plain(v) for v in (*_many(named), *_many(found))):
            rows.append((words, value))
    return rows


def _many(value) -> list:
    if isinstance(value, list):
        return value
    return [] if value is None else [value]


def facts(run: TrainRun) -> tuple[list, list]:
    """(rows of the configuration, rows of versions and provenance)."""
    flags = run.config.get("config")
    flags = flatten(flags) if isinstance(flags, dict) else {}
    origin = {k: run.config.get(k, run.result.get(k)) for k in ORIGIN}
    rows = [(k, plain(v)) for k, v in flags.items() if k not in DATA]
    return rows, [(k, plain(v)) for k, v in flatten(origin).items() if v is not None]


def next_steps(run: TrainRun) -> tuple[str, str, str]:
    """(Python lines that load the network, a sentence, shell lines)."""
    file = run.path / "best.safetensors"
    python = f"""from chase_fast.checkpoint import load_tracker

net = load_tracker({str(file)!r}).net  # evaluation mode, on the CPU"""
    if run.ended:
        compare = f"python -m chase_fast.report {shlex.quote(str(run.path))} OTHER_RUN"
        return python, "Set this run beside others:", compare
    note = "This run can go on where its last checkpoint ends, with the same result as if never interrupted:"
    return python, note, f"python -m chase_fast.train --out {shlex.quote(str(run.path))} --resume"
