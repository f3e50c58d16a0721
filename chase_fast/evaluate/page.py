"""Writes evaluation.html: curves, tables, strips and pictures of an evaluation on one page."""

from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from chase_fast.draw.charts import Marks, Series, chart, spark
from chase_fast.draw.page import render
from chase_fast.draw.palette import series_look
from chase_fast.evaluate.names import data_set, metric
from chase_fast.evaluate.pictures import worst_pictures
from chase_fast.evaluate.protocols import PROTOCOLS
from chase_fast.evaluate.remarked import by_rule, entries, notices
from chase_fast.evaluate.scoring import Board, overlaps
from chase_fast.evaluate.tables import number
from chase_fast.files import write_atomic
from chase_fast.remarks import counted

PAGE = "evaluation.html"
TITLES = {
    "success": "Success",
    "precision": "Precision",
    "normalised_precision": "Normalised precision",
}
AXES = {
    "success": "overlap threshold",
    "precision": "centre error, pixels",
    "normalised_precision": "centre error over target size",
}
SPARK_POINTS = 240  # longer sequences show means of neighbouring frames


def write_page(board: Board, out: Path, pictures: int) -> Path:
    """Writes OUT/evaluation.html.

    Args:
        pictures: at most so many pictures of bad frames of the first tracker.

    Raises:
        ChaseError: the page cannot be written.
    """
    path = out / PAGE
    page = render(
        Path(__file__).parent / "page.html.j2",
        title=f"Evaluation on {data_set(board.data)}",
        summary=board.data.summary(),
        notices=notices(board),
        remarks=[e for e in entries(board) if not e.rule],
        trackers=[(o.name, *series_look(i), o.note) for i, o in enumerate(board.outcomes)],
        protocols=[_protocol(board, p) for p in board.scores],
        speeds=[(o.name, o.speed, o.note) for o in board.outcomes if o.speed],
        sequences=_sequences(board),
        headline=_headline(board),
        pictures=worst_pictures(board, pictures),
        number=number,
        metric=metric,
        counted=counted,
        colour=lambda i: series_look(i)[0],
    )
    write_atomic(path, page.encode(errors="backslashreplace"))  # names in other encodings
    return path


def _headline(board: Board) -> str:
    """`AO (got10k)`: the first metric of the first protocol; empty if nothing is scored."""
    for protocol, scores in board.scores.items():
        return f"{next(iter(next(iter(scores.values())).metrics))} ({protocol})"
    return ""


def _protocol(board: Board, protocol: str) -> dict[str, Any]:
    scores, facts = board.scores[protocol], PROTOCOLS[protocol]
    names = list(next(iter(scores.values())).metrics)
    charts = [
        (
            TITLES.get(kind, kind),
            _curves(
                kind,
                f"{TITLES.get(kind, kind)} of all trackers, protocol {protocol}",
                {name: s.curves[kind] for name, s in scores.items()},
            ),
        )
        for kind in next(iter(scores.values())).curves
    ]
    first = names[0]
    attributes = [
        (a, len(board.attributes[a]), [s.metrics[first] for s in found.values()])
        for a, found in board.by_attribute[protocol].items()
    ]
    return {
        "name": protocol,
        "toolkit": facts.toolkit,
        "rules": facts.rules,
        "done": by_rule(board, protocol),
        "metrics": names,
        "rows": [(name, [s.metrics[k] for k in names]) for name, s in scores.items()],
        "charts": charts,
        "attributes": attributes,
    }


def _sequences(board: Board) -> list[dict[str, Any]]:
    """A row per sequence, the lowest headline number of the first tracker first."""
    rows = []
    for protocol, scores in list(board.scores.items())[:1]:
        first = next(iter(next(iter(scores.values())).metrics))
        for sequence in board.data.scored:
            values = {o.name: overlaps(o, sequence) for o in board.outcomes}
            title = f"Overlap over the frames of {sequence.name}"
            found = [s.per_sequence[sequence.name].get(first, np.nan) for s in scores.values()]
            rows.append(
                {
                    "name": sequence.name,
                    "frames": len(sequence.frames),
                    "scores": found,
                    "spark": _overlaps(title, values),
                    "protocol": protocol,
                }
            )
    return sorted(rows, key=lambda r: np.nan_to_num(r["scores"][0], nan=-1.0))


def _curves(kind: str, title: str, curves: dict[str, tuple[np.ndarray, np.ndarray]]) -> Markup:
    """Shares 0 .. 1 of frames over thresholds, a line per tracker: (thresholds [K], values [K])."""
    lines = [
        Series(name, list(zip(x.tolist(), np.nan_to_num(y).tolist())), *series_look(i))
        for i, (name, (x, y)) in enumerate(curves.items())
    ]
    marks = Marks(max(line.points[-1][0] for line in lines), axis=AXES.get(kind, "threshold"))
    return chart(title, lines[::-1], marks, (400, 264), (0.0, 1.0))  # the first tracker on top


def _overlaps(title: str, values: dict[str, np.ndarray]) -> Markup:
    """Overlap [T] over the frames of a sequence, a line per tracker; NaN leaves a gap."""
    lines = [Series(name, _thinned(v), series_look(i)[0]) for i, (name, v) in enumerate(values.items())]
    return spark(title, lines[::-1], max(map(len, values.values())) - 1)


def _thinned(values: np.ndarray) -> list[tuple[float, float]]:
    """(frame, value) of at most SPARK_POINTS groups of neighbouring frames; NaN where all are."""
    groups = np.array_split(np.arange(len(values)), min(len(values), SPARK_POINTS))
    known = [(float(g.mean()), values[g][~np.isnan(values[g])]) for g in groups]
    return [(x, float(v.mean()) if len(v) else float("nan")) for x, v in known]
