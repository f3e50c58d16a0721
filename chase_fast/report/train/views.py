"""What each section of a training's page shows: summary, losses, optimiser, speed, sizes, next steps, ..."""

import shlex
import statistics
from collections.abc import Sequence
from typing import Any

from chase_fast.draw.charts import Marks, Series, chart, label
from chase_fast.report.files import flatten
from chase_fast.report.parts import Tile, card, cost_charts, cost_tiles, loss_tiles, resume
from chase_fast.report.train.read import PARTS, TERMS, TrainRun
from chase_fast.report.words import amounts, big, plain

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


def summary(run: TrainRun) -> list[Tile]:
    """(name, value, note) of the numbers at the top."""
    tiles = loss_tiles(run, "validation loss")
    if (total := run.size("parameters", "total")) is not None:
        share = run.size("parameters", "neck")
        tiles.append(("Parameters", big(total), f"{big(share)} of them between backbone and classifier"))
    if (total := run.size("macs", "total")) is not None:
        tiles.append(("MACs", big(total), f"per frame, neck {big(run.size('macs', 'neck'))}"))
    if rates := [v for _, v in run.costs("samples_per_second")]:
        waits = [v for _, v in run.costs("data_wait_share")]
        note = f"median; {statistics.median(waits):.1%} of the time waiting for data" if waits else "median"
        tiles.append(("Samples per second", label(round(statistics.median(rates), 2)), note))
    return tiles + cost_tiles(run, "Training time")


def losses(run: TrainRun, term: str = "loss") -> list[Series]:
    """Training and validation curves of one term."""
    lines = [Series(name, run.series(f"{kind}_{term}"), colour, dash) for name, kind, colour, dash in LOSSES]
    return [s for s in lines if s.points]


def terms(run: TrainRun) -> list[dict[str, Any]]:
    """One chart per term of the loss."""
    found = {TITLES[term]: losses(run, term) for term in TERMS}
    return [card(title, chart(title, lines, marks(run))) for title, lines in found.items() if lines]


def optimiser(run: TrainRun) -> list[dict[str, Any]]:
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
            items.append(card(title, picture, lines if len(lines) > 1 else ()))
    return items


def speed(run: TrainRun) -> list[dict[str, Any]]:
    return cost_charts(run, SPEED, run.last_epoch)


def sizes(runs: Sequence[TrainRun]) -> list[dict[str, Any]]:
    """Rows (part, parameters, MACs), ranges where the runs differ; [] before a result.json is written."""
    if not any(run.result for run in runs):
        return []
    names = {"neck": "neck (cell or plain block)", "box": "box regressor"}
    rows = [
        {"part": names.get(part, part)}
        | {kind: amounts([run.size(kind, part) for run in runs]) for kind in ("parameters", "macs")}
        for part in PARTS
    ]
    return [row for row in rows if (row["parameters"], row["macs"]) != ("–", "–")]


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
    return python, *resume(run)
