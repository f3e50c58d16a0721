"""The comparison page: runs side by side, in groups whose losses compare."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from markupsafe import Markup

from chase_fast.draw.charts import Marks, Series, chart
from chase_fast.draw.strip import strip
from chase_fast.errors import ChaseError
from chase_fast.files import write_atomic
from chase_fast.report.compare import tables
from chase_fast.report.compare.entries import Group, groups, open_entries
from chase_fast.report.parts import card, cells, legend, page
from chase_fast.report.run import Entry
from chase_fast.report.spread import curve, strip_row
from chase_fast.report.tables import Table
from chase_fast.report.train.read import TERMS
from chase_fast.report.train.views import TITLES

PAGE = "report_comparison.html"
WIDE = (1120, 380)  # px
LATE = 6  # epochs, below which the second half gets no chart of its own


def write_comparison(
    paths: Sequence[str | Path], out: str | Path | None = None, names: Sequence[str] = ()
) -> Path:
    """Writes the page that sets searches and trainings side by side, and nothing else.

    Args:
        paths: folders of runs or of seeds (seed_K).
        out: the page, *.html; None: report_comparison.html in the deepest folder that holds all runs.
        names: what to call the runs; none: by their folders.

    Returns:
        Path of the page.

    Raises:
        ChaseError: a run cannot be compared (see `open_entries`), or the page cannot be written.
    """
    folders = [Path(path) for path in paths]
    entries = open_entries(folders, names)
    if out is not None and Path(out).suffix.lower() not in (".html", ".htm"):
        raise ChaseError(f"--out {out}: the page is HTML; give a name that ends in .html")
    path = Path(out) if out is not None else _common(folders) / PAGE
    write_atomic(path, _page(entries, _arguments(folders, out, names)).encode())
    return path


def markdown(paths: Sequence[str | Path], names: Sequence[str] = ()) -> str:
    """The tables of the comparison page as Markdown.

    Raises:
        ChaseError: a run cannot be compared (see `open_entries`).
    """
    entries = open_entries([Path(path) for path in paths], names)
    found = groups(entries)
    parts = [f"> {line}" for line in tables.warnings(entries, found)]
    parts = ["\n>\n".join(parts)] if parts else []
    for group in found:
        if len(found) > 1:
            parts.append(f"#### {_heading(group)}")
        parts += [table.markdown() for table in _tables(group)]
    for table in _common_tables(entries):
        parts.append(table.markdown())
    return "\n\n".join(parts) + "\n"


def _common(paths: Sequence[Path]) -> Path:
    resolved = [path.resolve() for path in paths]
    return resolved[0].parent if len(resolved) == 1 else Path(os.path.commonpath(resolved))


def _arguments(paths: Sequence[Path], out: str | Path | None, names: Sequence[str]) -> list[str]:
    words = [str(path) for path in paths]
    words += ["--out", str(out)] if out is not None else []
    return words + (["--names", *names] if names else [])


def _heading(group: Group) -> str:
    return f"{'Trainings' if group.kind == 'train' else 'Searches'}, measured on {group.title}"


def _tables(group: Group) -> list[Table]:
    if group.kind == "search":
        found = [tables.searches(group)]
    else:
        found = [tables.losses(group), tables.losses(group, last=True)]
    pairs = tables.pairs(group)
    return found + ([pairs] if pairs else [])


def _common_tables(entries: Sequence[Entry]) -> list[Table]:
    """Sizes of the trainings, and the settings that differ, by command."""
    trainings = [entry for entry in entries if entry.kind == "train"]
    found = [tables.sizes(trainings)] if trainings else []
    for kind in ("train", "search"):
        same = [entry for entry in entries if entry.kind == kind]
        if len(same) > 1 and (table := tables.conditions(same)):
            found.append(table)
    return found


def _page(entries: Sequence[Entry], arguments: list[str]) -> str:
    found = groups(entries)
    return page(
        Path(__file__).parent / "page.html.j2",
        arguments,
        title=f"{len(entries)} runs compared" if len(entries) > 1 else "One run",
        subtitle=" · ".join(entry.name for entry in entries),
        warnings=tables.warnings(entries, found),
        groups=[_section(group) for group in found],
        cells=cells(entries),
        tables=_common_tables(entries),
        runs=[(entry, ", ".join(dict.fromkeys(run.status for run in entry.runs))) for entry in entries],
    )


def _section(group: Group) -> dict:
    """Charts and tables of a group."""
    searches = group.kind == "search"
    key, what = ("holdout_loss", "Hold-out loss") if searches else ("val_loss", "Validation loss")
    lines = _lines(group, key)
    seeds = [strip_row(e.name, e.look[0], tables.losses_of(e, key)) for e in group.entries]
    small = []
    if not searches:
        keys = [(f"val_{term}", f"{TITLES[term]}, validation") for term in TERMS]
        for name, title in [*keys, ("train_loss", "Total loss, training")]:
            drawn = _lines(group, name)
            if any(line.points for line in drawn):
                small.append(card(title, chart(title, drawn, _marks(group))))
    return {
        "heading": _heading(group),
        "search": searches,
        "what": what,
        "legend": legend(lines),
        "chart": chart(f"{what} over the epochs", lines, _marks(group), WIDE),
        "late": _late(group, lines, what),
        "strip": strip(f"{what} of every seed", seeds),
        "small": small,
        "tables": _tables(group),
    }


def _late(group: Group, lines: Sequence[Series], what: str) -> Markup | None:
    """The second half of the epochs on a scale of its own; None for a few epochs."""
    last = _marks(group).last
    first = last - last // 2
    if last < LATE:
        return None
    parts = [replace(line, points=[p for p in line.points if p[0] >= first]) for line in lines]
    return chart(f"{what} over the last epochs", parts, Marks(last, first=first), WIDE)


def _marks(group: Group) -> Marks:
    return Marks(max(run.last_epoch for entry in group.entries for run in entry.runs))


def _lines(group: Group, key: str) -> list[Series]:
    """Mean and deviation over the seeds; without row 0, whose height would hide the differences."""
    lines = []
    for entry in group.entries:
        points, deviation = curve(entry.runs, key)
        lines.append(Series(entry.name, [p for p in points if p[0] > 0], *entry.look, deviation))
    return lines
