"""Pages of a training: one run, or the seeds of one side by side."""

from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from chase_fast.report import palette, train_views
from chase_fast.report.charts import Marks, Series, chart, label
from chase_fast.report.compare import Entry
from chase_fast.report.compare_tables import digits, seeds, with_deviation
from chase_fast.report.drawing import draw_cell
from chase_fast.report.read_train import TERMS, TrainRun
from chase_fast.report.render import render
from chase_fast.report.spread import curve, spread
from chase_fast.report.strip import strip
from chase_fast.report.tables import Table
from chase_fast.report.views import legend

WIDE = (1120, 360)  # px, view box of the loss chart
PLAIN = "No searched cell: the residual block and the convolution of PrDiMP and DiMP."
GREY = "var(--muted)"


def _title(run: TrainRun) -> str:
    recipe = run.setting("recipe")
    return "Training" + (f", recipe {recipe}" if recipe else "")


def _subtitle(path: Path, run: TrainRun, *names: str) -> str:
    known = [f"{k} {v}" for k in names if (v := run.setting(k)) is not None]
    return " · ".join([path.resolve().name, *known])


def train_page(run: TrainRun) -> str:
    """report.html of one training."""
    lines = train_views.losses(run)
    config, origin = train_views.facts(run)
    python, note, shell = train_views.next_steps(run)
    title = "Training and validation loss over the epochs"
    return render(
        "train.html.j2",
        [run.path],
        run=run,
        title=_title(run),
        subtitle=_subtitle(run.path, run, "seed", "backbone", "classifier"),
        summary=train_views.summary(run),
        neck=train_views.neck(run),
        drawing=Markup(draw_cell(run.genotype)) if run.genotype else None,
        loss_legend=legend(lines),
        loss_chart=chart(title, lines, train_views.marks(run), WIDE),
        terms=train_views.terms(run),
        optimiser=train_views.optimiser(run),
        speed=train_views.speed(run),
        sizes_rows=train_views.sizes([run]),
        table=train_views.table(run),
        usage_python=python,
        usage_note=note,
        usage_shell=shell,
        sources=train_views.sources(run),
        config=config,
        origin=origin,
    )


def train_seeds_page(path: Path, runs: Sequence[TrainRun]) -> str:
    """report.html of a training over several seeds."""
    entry = Entry(path.name, path, "train", tuple(runs), 0)
    started = [run for run in runs if run.chosen is not None]
    best = min(started, key=lambda run: run.at(run.chosen, "val_loss"), default=None)
    first = best or runs[0]
    lines = [
        Series(f"seed {_seed(run)}", run.series("val_loss"), *palette.run_look(i))
        for i, run in enumerate(runs)
    ]
    title = "Validation loss of every seed over the epochs"
    marks = Marks(max(run.last_epoch for run in runs))
    dots = [
        (line.name, line.colour, [run.at(run.chosen, "val_loss")])
        for line, run in zip(lines, runs)
        if run in started
    ]
    everything = [value for _, _, (value,) in dots]
    dots.append(("all seeds", GREY, everything))
    config, origin = train_views.facts(first)
    return render(
        "train_seeds.html.j2",
        [path],
        title=f"{_title(first)}, several seeds",
        subtitle=_subtitle(path, first, "backbone", "classifier"),
        status=seeds(entry, "seed") + (", in progress or interrupted" if entry.unfinished else ""),
        problems=[f"{run.path.name}/{line}" for run in runs for line in run.problems],
        summary=_summary(runs, started, best),
        links=[(f"seed {_seed(run)}", f"{run.path.name}/report.html", run.status) for run in runs],
        table=_seeds_table(runs, best, [line.colour for line in lines]),
        strip=strip("Lowest validation loss of every seed", dots) if len(everything) > 1 else None,
        loss_legend=legend(lines),
        loss_chart=chart(title, lines, marks, WIDE),
        terms=_mean_terms(runs, marks),
        cells=cells([entry]),
        sizes_rows=train_views.sizes(runs),
        sources=train_views.sources(first),
        config=[row for row in config if row[0] != "seed"],
        origin=origin,
    )


def _seed(run: TrainRun) -> str:
    return run.path.name.removeprefix("seed_")


def _summary(
    runs: Sequence[TrainRun], started: Sequence[TrainRun], best: TrainRun | None
) -> list[tuple[str, str, str]]:
    found = spread(run.at(run.chosen, "val_loss") for run in started)
    if found is None or best is None:
        return []
    note = f"mean ± standard deviation over {found.n} seeds" if found.n > 1 else "one seed so far"
    tiles = [
        ("Best validation loss", with_deviation(found), note),
        ("Best seed", _seed(best), f"validation loss {label(best.at(best.chosen, 'val_loss'))}"),
    ]
    return tiles + [tile for tile in train_views.summary(best) if tile[0] in ("Parameters", "MACs")]


def _seeds_table(runs: Sequence[TrainRun], best: TrainRun | None, colours: Sequence[str]) -> Table:
    keys = [f"val_{term}" for term in ("loss", *TERMS)]
    rows = []
    for run in runs:
        values = [run.at(run.chosen, key) for key in keys]
        last = run.at(max(run.evaluated, default=None), "val_loss")
        numbers = [digits(v) for v in (run.at(0, "val_loss"), *values, last)]
        mark = " (best)" if run is best else ""
        rows.append([f"{_seed(run)}{mark}", str(run.chosen or "–"), *numbers])
    columns = [[run.at(0, "val_loss") for run in runs]]
    columns += [[run.at(run.chosen, key) for run in runs] for key in keys]
    columns.append([run.at(max(run.evaluated, default=None), "val_loss") for run in runs])
    rows.append(["mean ± deviation", "", *(with_deviation(spread(column)) for column in columns)])
    words = [train_views.WORDS[term] for term in ("loss", *TERMS)]
    head = ["seed", "epoch", "row 0", *words, "last epoch"]
    looks = [(colour, "") for colour in colours] + [(GREY, "")]
    title = "Validation losses in the epoch of the lowest"
    return Table(title, "", head, rows, looks=looks, strong=runs.index(best) if best else None)


def _mean_terms(runs: Sequence[TrainRun], marks: Marks) -> list[dict]:
    """One chart per term: mean and deviation over the seeds, training and validation."""
    items = []
    for term in ("loss", *TERMS):
        lines = []
        for name, kind, colour, dash in train_views.LOSSES:
            points, deviation = curve(runs, f"{kind}_{term}")
            lines.append(Series(name, points, colour, dash, deviation))
        lines = [line for line in lines if line.points]
        if lines:
            title = train_views.TITLES[term]
            items.append({"title": title, "legend": legend(lines), "chart": chart(title, lines, marks)})
    return items


def cells(entries: Sequence[Entry]) -> list[dict]:
    """Every different cell of every entry: name, what it is, the seeds that have it, the drawing (upright if
    there are several)."""
    items = []
    several = len({(entry.name, run.genotype) for entry in entries for run in entry.runs}) > 1
    for entry in entries:
        found: dict[object, list] = {}
        for run in entry.runs:
            found.setdefault(run.genotype, []).append(run)
        for genotype, runs in found.items():
            note = train_views.neck(runs[0]) if entry.kind == "train" else "searched cell"
            if len(found) > 1:
                note += ", seed " + ", ".join(str(run.setting("seed", "?")) for run in runs)
            drawing = Markup(draw_cell(genotype, upright=several)) if genotype else None
            plain = entry.kind == "train" and runs[0].plain
            item = {"name": entry.name, "colour": entry.look[0], "note": note, "drawing": drawing}
            items.append(item | {"instead": PLAIN if plain else "No cell is known yet."})
    return items
