"""Pages of a training: one run, or the seeds of one side by side."""

from collections.abc import Sequence
from pathlib import Path

from chase_fast.draw.cell import draw_cell
from chase_fast.draw.charts import Marks, Series, chart
from chase_fast.draw.strip import strip
from chase_fast.report.parts import WIDE, Tile, card, cells, legend, lowest, page, rows, seed_lines, subtitle
from chase_fast.report.run import Entry
from chase_fast.report.spread import curve, spread, strip_row
from chase_fast.report.tables import Table
from chase_fast.report.train import views
from chase_fast.report.train.read import TERMS, TrainRun
from chase_fast.report.words import digits, plain, with_deviation

HERE = Path(__file__).parent
GREY = "var(--muted)"


def _title(run: TrainRun) -> str:
    recipe = run.setting("recipe")
    return "Training" + (f", recipe {recipe}" if recipe else "")


def train_page(run: TrainRun) -> str:
    """report.html of one training."""
    lines = views.losses(run)
    config, origin = views.facts(run)
    python, note, shell = views.next_steps(run)
    title = "Training and validation loss over the epochs"
    return page(
        HERE / "run.html.j2",
        [run.path],
        run=run,
        title=_title(run),
        subtitle=subtitle(run.path, run, "seed", "backbone", "classifier"),
        summary=views.summary(run),
        neck=run.neck,
        drawing=draw_cell(run.genotype) if run.genotype else None,
        loss_legend=legend(lines),
        loss_chart=chart(title, lines, views.marks(run), WIDE),
        terms=views.terms(run),
        optimiser=views.optimiser(run),
        speed=views.speed(run),
        sizes_rows=views.sizes([run]),
        rows=rows(run),
        usage_python=python,
        usage_note=note,
        usage_shell=shell,
        sources=views.sources(run),
        config=config,
        origin=origin,
    )


def train_seeds_page(path: Path, runs: Sequence[TrainRun]) -> str:
    """report.html of a training over several seeds."""
    entry = Entry(path.name, path, "train", tuple(runs), 0)
    started = [run for run in runs if run.best is not None]
    best = lowest(runs)
    first = best or runs[0]
    lines = seed_lines(runs)
    title = "Validation loss of every seed over the epochs"
    marks = Marks(max(run.last_epoch for run in runs))
    dots = [strip_row(line.name, line.colour, [run.best]) for line, run in zip(lines, runs) if run in started]
    dots.append(strip_row("all seeds", GREY, [run.best for run in started]))
    config, origin = views.facts(first)
    return page(
        HERE / "seeds.html.j2",
        [path],
        title=f"{_title(first)}, several seeds",
        subtitle=subtitle(path, first, "backbone", "classifier"),
        status=entry.seeds("seed") + (", in progress or interrupted" if entry.unfinished else ""),
        problems=[f"{run.path.name}/{line}" for run in runs for line in run.problems],
        summary=_summary(started, best),
        links=[(f"seed {_seed(run)}", f"{run.path.name}/report.html", run.status) for run in runs],
        table=_seeds_table(runs, best, [line.colour for line in lines]),
        strip=strip("Lowest validation loss of every seed", dots) if len(started) > 1 else None,
        loss_legend=legend(lines),
        loss_chart=chart(title, lines, marks, WIDE),
        terms=_mean_terms(runs, marks),
        cells=cells([entry]),
        sizes_rows=views.sizes(runs),
        sources=views.sources(first),
        config=[row for row in config if row[0] != "seed"],
        origin=origin,
    )


def _seed(run: TrainRun) -> str:
    return run.path.name.removeprefix("seed_")


def _summary(started: Sequence[TrainRun], best: TrainRun | None) -> list[Tile]:
    found = spread(run.best for run in started)
    if found is None or best is None:
        return []
    note = f"mean ± standard deviation over {found.n} seeds" if found.n > 1 else "one seed so far"
    tiles = [
        ("Best validation loss", with_deviation(found), note),
        ("Best seed", _seed(best), f"validation loss {plain(best.best)}"),
    ]
    return tiles + [tile for tile in views.summary(best) if tile[0] in ("Parameters", "MACs")]


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
    words = [views.WORDS[term] for term in ("loss", *TERMS)]
    head = ["seed", "epoch", "row 0", *words, "last epoch"]
    looks = [(colour, "") for colour in colours] + [(GREY, "")]
    title = "Validation losses in the epoch of the lowest"
    return Table(title, "", head, rows, looks=looks, strong=runs.index(best) if best else None)


def _mean_terms(runs: Sequence[TrainRun], marks: Marks) -> list[dict]:
    """One chart per term: mean and deviation over the seeds, training and validation."""
    items = []
    for term in ("loss", *TERMS):
        lines = []
        for name, kind, colour, dash in views.LOSSES:
            points, deviation = curve(runs, f"{kind}_{term}")
            lines.append(Series(name, points, colour, dash, deviation))
        lines = [line for line in lines if line.points]
        if lines:
            title = views.TITLES[term]
            items.append(card(title, chart(title, lines, marks), lines))
    return items
