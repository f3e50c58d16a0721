"""The scores as text: tables on the console, scores.json, scores.csv."""

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from chase_fast.evaluate.protocols import PROTOCOLS, Scores
from chase_fast.evaluate.remarked import by_rule, entries, notices
from chase_fast.evaluate.scoring import Board
from chase_fast.files import write_atomic
from chase_fast.runs import git_commit, versions

# metrics that count something; the others are fractions of 1
COUNTS = ("frames_scored", "dropped_from_success", "dropped_from_precision")


def number(name: str, value: float) -> str:
    """A metric for people: four decimals, counts whole, an en dash for NaN."""
    if math.isnan(value):
        return "–"
    return f"{value:.0f}" if name in COUNTS else f"{value:.4f}"


def print_board(board: Board, console: Console) -> None:
    """One table per protocol, every row says whose rules its numbers follow; then the speed."""
    names = [o.name for o in board.outcomes]
    for protocol, scores in board.scores.items():
        facts = PROTOCOLS[protocol]
        console.print(f"\n{protocol}: rules of {facts.toolkit}; {facts.rules}", markup=False)
        if done := by_rule(board, protocol):
            console.print(f"by these rules: {'; '.join(done)}", markup=False)
        table = Table("metric", "protocol", box=SIMPLE_HEAD, pad_edge=False)
        for name in names:
            table.add_column(name, justify="right", overflow="fold")
        for metric in next(iter(scores.values())).metrics:
            table.add_row(metric, protocol, *(number(metric, scores[n].metrics[metric]) for n in names))
        console.print(table)
    _print_speed(board, console)
    lines = [e.line for e in entries(board) if e.who and not e.rule]
    lines += [f"{name}: {text}" for name, text in notices(board).items()]
    if lines:
        console.print("\nremarks (all sequences are in scores.json):")
    for line in lines:
        console.print(f"  {line}", markup=False)


def _print_speed(board: Board, console: Console) -> None:
    timed = [(o, o.speed) for o in board.outcomes if o.speed]
    if not timed:
        return
    console.print("\nspeed: frames per second of init and update, without reading frames")
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in ("tracker", "frames / total time", "mean of 1 / time (got10k)", "measured with"):
        table.add_column(column, justify="left" if column in ("tracker", "measured with") else "right")
    for o, speed in timed:
        total, mean = f"{speed.fps_total:.1f}", f"{speed.fps_mean_of_frames:.1f}"
        table.add_row(o.name, total, mean, o.note)
    console.print(table)


def _plain(value: Any) -> Any:
    """Numbers for JSON: NaN becomes null, counts are whole."""
    if isinstance(value, dict):
        return {k: int(v) if k in COUNTS and v == v else _plain(v) for k, v in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _entry(scores: Scores) -> dict[str, Any]:
    curves = {n: {"thresholds": x.tolist(), "values": y.tolist()} for n, (x, y) in scores.curves.items()}
    return {"metrics": scores.metrics, "per_sequence": scores.per_sequence, "curves": curves}


def write_scores(board: Board, out: Path, unknown: str) -> None:
    """scores.json (everything) and scores.csv (tracker, protocol, sequence, metric, value)."""
    protocols = {}
    for protocol, scores in board.scores.items():
        facts, subsets = PROTOCOLS[protocol], board.by_attribute[protocol]
        protocols[protocol] = {
            "toolkit": facts.toolkit,
            "rules": facts.rules,
            "trackers": {name: _entry(one) for name, one in scores.items()},
            "per_attribute": {
                a: {
                    "sequences": len(board.attributes[a]),
                    "trackers": {name: s.metrics for name, s in found.items()},
                }
                for a, found in subsets.items()
            },
        }
    speeds = {o.name: vars(o.speed) | {"run": o.note} for o in board.outcomes if o.speed}
    trackers = {o.name: {"run": o.note, "about": o.about, "trained_on": o.trained_on} for o in board.outcomes}
    content = {
        "data": board.data.spec,
        "sequences": len(board.data.sequences),
        "scored": len(board.data.scored),
        "unknown_boxes": unknown,
        "remarks": [e.data() for e in entries(board)],
        "trackers": trackers,
        "protocols": protocols,
        "speed": speeds,
        "versions": versions(),
        "commit": git_commit(),
    }
    write_atomic(out / "scores.json", (json.dumps(_plain(content), indent=1) + "\n").encode())
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("tracker", "protocol", "sequence", "metric", "value"))
    for protocol, scores in board.scores.items():
        for name, one in scores.items():
            for sequence, metrics in {"ALL": one.metrics, **one.per_sequence}.items():
                table.writerows((name, protocol, sequence, k, repr(v)) for k, v in metrics.items())
    write_atomic(out / "scores.csv", text.getvalue().encode(errors="backslashreplace"))
