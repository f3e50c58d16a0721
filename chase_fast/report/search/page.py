"""Pages of a search: one run, or the seeds of one side by side."""

from collections.abc import Sequence
from pathlib import Path

from chase_fast.draw.cell import draw_cell
from chase_fast.draw.charts import Marks, chart, label
from chase_fast.report.parts import WIDE, legend, lowest, page, rows, seed_lines, subtitle
from chase_fast.report.search import views
from chase_fast.report.search.read import SearchRun
from chase_fast.report.words import plain

HERE = Path(__file__).parent


def search_page(run: SearchRun) -> str:
    """report.html of one search."""
    recipe, lines = run.setting("recipe"), views.losses(run)
    title = "Training, validation and hold-out loss over the epochs"
    config, origin = views.facts(run)
    python, note, shell = views.next_steps(run)
    return page(
        HERE / "run.html.j2",
        [run.path],
        run=run,
        title=f"Cell search, recipe {recipe}" if recipe else "Cell search",
        subtitle=subtitle(run.path, run, "seed", "method", "flavour", "backbone", "classifier"),
        summary=views.summary(run),
        drawing=draw_cell(run.genotype) if run.genotype else None,
        genes=views.genes(run),
        genotype_text=views.genotype_text(run),
        row0=label(run.row0) if run.row0 is not None else None,
        loss_legend=legend(lines),
        loss_chart=chart(title, lines, views.marks(run), WIDE, reference=run.row0),
        mix=run.mixing.capitalize(),
        strongest_at=f"epoch {run.chosen}" if run.chosen in run.alphas else "the last epoch",
        op_legend=views.op_legend(run),
        edges=views.edges(run),
        diagnostics=views.diagnostics(run),
        timings=views.timings(run),
        rows=rows(run),
        usage_python=python,
        usage_note=note,
        usage_shell=shell,
        config=config,
        origin=origin,
    )


def search_seeds_page(path: Path, runs: Sequence[SearchRun]) -> str:
    """report.html of a search over several seeds."""
    best = lowest(runs)
    recipe, lines = runs[0].setting("recipe"), seed_lines(runs)
    marks = Marks(max(run.last_epoch for run in runs), runs[0].warmup_end)
    summary = []
    if best:
        tiles = [tile for tile in views.summary(best) if tile[0] != "Search time"]
        summary = [("Best seed", best.path.name[5:], "by hold-out loss"), *tiles]
    return page(
        HERE / "seeds.html.j2",
        [path],
        title="Cell search over several seeds" + (f", recipe {recipe}" if recipe else ""),
        subtitle=path.resolve().name,
        problems=[f"{run.path.name}/{line}" for run in runs for line in run.problems],
        summary=summary,
        runs=[_row(run) | {"best": run is best} for run in runs],
        loss_legend=legend(lines),
        loss_chart=chart("Hold-out loss of every seed over the epochs", lines, marks, WIDE),
    )


def _row(run: SearchRun) -> dict:
    _, free, genes = run.operations()
    return {
        "seed": run.path.name[5:],
        "status": run.status,
        "row0": plain(run.row0),
        "holdout": plain(run.best),
        "epoch": plain(run.chosen),
        "weight_free": f"{free} of {genes}" if run.genotype else "–",
        "link": f"{run.path.name}/report.html",
        "has_none": run.has_none,
        "drawing": draw_cell(run.genotype) if run.genotype else None,
    }
