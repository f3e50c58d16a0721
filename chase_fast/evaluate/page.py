"""Writes evaluation.html: curves, tables, strips and pictures of an evaluation on one page."""

import functools
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from chase_fast._version import __version__
from chase_fast.evaluate.names import data_set, metric
from chase_fast.evaluate.pictures import worst_pictures
from chase_fast.evaluate.plots import Curve, colour, css, curve_chart, strip, swatch
from chase_fast.evaluate.protocols import PROTOCOLS
from chase_fast.evaluate.remarked import by_rule, entries, notices
from chase_fast.evaluate.scoring import Board, overlaps
from chase_fast.evaluate.tables import number
from chase_fast.files import write_atomic
from chase_fast.remarks import counted

HERE = Path(__file__).parent
PAGE = "evaluation.html"
TITLES = {
    "success": "Success",
    "precision": "Precision",
    "normalised_precision": "Normalised precision",
}


def write_page(board: Board, out: Path, pictures: int) -> Path:
    """Writes OUT/evaluation.html.

    Args:
        pictures: at most so many pictures of bad frames of the first tracker.

    Raises:
        ChaseError: the page cannot be written.
    """
    path = out / PAGE
    page = _template().render(
        version=__version__,
        style=Markup((HERE / "page.css").read_text(encoding="utf-8") + css()),
        title=f"Evaluation on {data_set(board.data)}",
        summary=board.data.summary(),
        notices=notices(board),
        remarks=[e for e in entries(board) if not e.rule],
        trackers=[(o.name, swatch(i), o.note) for i, o in enumerate(board.outcomes)],
        protocols=[_protocol(board, p) for p in board.scores],
        speeds=[(o.name, o.speed, o.note) for o in board.outcomes if o.speed],
        sequences=_sequences(board),
        headline=_headline(board),
        pictures=worst_pictures(board, pictures),
        number=number,
        metric=metric,
        counted=counted,
        colour=colour,
    )
    write_atomic(path, page.encode(errors="backslashreplace"))  # names in other encodings
    return path


@functools.cache
def _template():
    loader = FileSystemLoader(HERE)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("page.html.j2")


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
            curve_chart(
                kind,
                f"{TITLES.get(kind, kind)} of all trackers, protocol {protocol}",
                [Curve(i, *s.curves[kind]) for i, s in enumerate(scores.values())],
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
            values = [(i, overlaps(o, sequence)) for i, o in enumerate(board.outcomes)]
            title = f"Overlap over the frames of {sequence.name}"
            found = [s.per_sequence[sequence.name].get(first, np.nan) for s in scores.values()]
            rows.append(
                {
                    "name": sequence.name,
                    "frames": len(sequence.frames),
                    "scores": found,
                    "strip": strip(title, values),
                    "protocol": protocol,
                }
            )
    return sorted(rows, key=lambda r: np.nan_to_num(r["scores"][0], nan=-1.0))
