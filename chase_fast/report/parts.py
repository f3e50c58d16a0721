"""Parts of the pages of searches and trainings: tiles, charts of costs, tables of rows, drawings of cells."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from chase_fast.draw.cell import draw_cell
from chase_fast.draw.charts import Marks, Series, chart, label
from chase_fast.draw.page import render
from chase_fast.draw.palette import series_look
from chase_fast.nn.genotype import Genotype
from chase_fast.report.run import Entry, Run
from chase_fast.report.words import duration, memory, plain

WIDE = (1120, 360)  # px, view box of the loss chart
PLAIN = "No searched cell: the residual block and the convolution of PrDiMP and DiMP."
AnyRun = TypeVar("AnyRun", bound=Run)
Tile = tuple[str, str, str]  # name, value, note


def page(template: Path, arguments: Sequence[str | Path], **values: Any) -> str:
    """A page as text; `arguments` of the report command write it again."""
    return render(template, arguments=shlex.join(map(str, arguments)), **values)


def subtitle(path: Path, run: Run, *names: str) -> str:
    """The folder's name, and the flags of these names."""
    known = [f"{k} {v}" for k in names if (v := run.setting(k)) is not None]
    return " · ".join([path.resolve().name, *known])


def legend(series: Sequence[Series]) -> list[tuple[str, str, str]]:
    return [(s.name, s.colour, s.dash) for s in series]


def card(title: str, picture: str, lines: Sequence[Series] = ()) -> dict[str, Any]:
    return {"title": title, "legend": legend(lines), "chart": picture}


def loss_tiles(run: Run, loss: str) -> list[Tile]:
    """The best loss against that of the untrained net."""
    first, found = run.row0, run.best
    if found is None:
        return [] if first is None else [(f"{loss.capitalize()} of row 0", label(first), "the untrained net")]
    note = "row 0 is missing"
    if first:
        change = 100 * (found / first - 1)
        side = "below" if change < 0 else "above"
        note = f"{abs(change):.1f} % {side} row 0 ({label(first)}), the untrained net"
    return [(f"Best {loss}", label(found), f"epoch {run.chosen}: {note}")]


def cost_tiles(run: Run, time: str) -> list[Tile]:
    tiles = []
    if peaks := [v for _, v in run.series("peak_memory_mb", "perf")]:
        tiles.append(("Peak memory", memory(max(peaks)), "of the process"))
    if seconds := [v for _, v in run.series("seconds", "perf")]:
        tiles.append((time, duration(sum(seconds)), "sum over the epochs"))
    return tiles


def cost_charts(run: Run, kinds: Sequence[tuple[str, str, str]], last: int) -> list[dict]:
    """Charts of perf.jsonl; kinds: (title, key, CSS colour)."""
    found = [Series(title, run.costs(key), colour) for title, key, colour in kinds]
    return [card(line.name, chart(line.name, [line], Marks(last))) for line in found if line.points]


def lowest(runs: Sequence[AnyRun]) -> AnyRun | None:
    """The run with the lowest loss."""
    losses = {i: loss for i, run in enumerate(runs) if (loss := run.best) is not None}
    return runs[min(losses, key=losses.__getitem__)] if losses else None


def seed_lines(runs: Sequence[Run]) -> list[Series]:
    """The loss of every seed."""
    return [
        Series(run.path.name.replace("_", " "), run.series(run.LOSS), *series_look(i))
        for i, run in enumerate(runs)
    ]


def rows(run: Run) -> dict[str, Any] | None:
    """All rows of history.jsonl."""
    keys = dict.fromkeys(k for row in run.history.values() for k in row if k not in ("epoch", "genotype"))
    found = [(e, [e] + [plain(run.history[e].get(k)) for k in keys]) for e in sorted(run.history)]
    return {"head": ["epoch"] + [k.replace("_", " ") for k in keys], "rows": found} if found else None


def resume(run: Run) -> tuple[str, str]:
    """A sentence, and the shell line that lets an unfinished run go on."""
    note = "This run can go on where its last checkpoint ends, with the same result as if never interrupted:"
    return note, f"python -m chase_fast.{run.KIND} --out {shlex.quote(str(run.path))} --resume"


def cells(entries: Sequence[Entry]) -> list[dict]:
    """Every different cell of every entry: name, what it is, the seeds that have it, the drawing (upright if
    there are several)."""
    items = []
    several = len({(entry.name, run.genotype) for entry in entries for run in entry.runs}) > 1
    for entry in entries:
        found: dict[Genotype | None, list[Run]] = {}
        for run in entry.runs:
            found.setdefault(run.genotype, []).append(run)
        for genotype, runs in found.items():
            note = runs[0].neck
            if len(found) > 1:
                note += ", seed " + ", ".join(str(run.setting("seed", "?")) for run in runs)
            item: dict[str, Any] = {"name": entry.name, "colour": entry.look[0], "note": note}
            item["drawing"] = draw_cell(genotype, upright=several) if genotype else None
            item["has_none"] = runs[0].has_none
            item["instead"] = PLAIN if runs[0].plain else "No cell is known yet."
            items.append(item)
    return items
