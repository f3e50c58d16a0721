"""Writes report.html: one page of a run, or an index over the seeds of a search."""

import functools
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from chase_fast._version import __version__
from chase_fast.report import palette, views
from chase_fast.report.charts import Marks, Series, chart, label
from chase_fast.report.drawing import draw_cell
from chase_fast.report.read import Run, read_run, seed_runs
from chase_fast.runs import write_atomic

HERE = Path(__file__).parent
REPORT = "report.html"
WIDE = (1120, 360)  # px, view box of the loss chart


def write_report(run_dir: str | Path) -> Path:
    """Writes report.html into a run folder, and for a search over several seeds into every seed_K folder too.

    Works at any time: before the first epoch, in the middle of a run, after it.

    Returns:
        Path of the page.

    Raises:
        ChaseError: `run_dir` is no run folder, or the page cannot be written.
    """
    path = Path(run_dir)
    seeds = seed_runs(path) if path.is_dir() and not (path / "history.jsonl").exists() else []
    if not seeds:
        return _write(path / REPORT, _run_page(read_run(path)))
    runs = [read_run(seed) for seed in seeds]
    for run in runs:
        _write(run.path / REPORT, _run_page(run))
    return _write(path / REPORT, _index_page(path, runs))


def _write(path: Path, page: str) -> Path:
    write_atomic(path, page.encode())
    return path


@functools.cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _render(template: str, path: Path, **values) -> str:
    frame = {
        "version": __version__,
        "path": str(path),
        "palette_css": Markup(palette.css()),
        "style": Markup((HERE / "style.css").read_text(encoding="utf-8")),
        "script": Markup((HERE / "hover.js").read_text(encoding="utf-8")),
    }
    return _environment().get_template(template).render(frame | values)


def _drawing(run: Run) -> Markup | None:
    return Markup(draw_cell(run.genotype)) if run.genotype else None


def _run_page(run: Run) -> str:
    recipe, row0 = run.setting("recipe"), views.row0(run)
    known = [
        f"{k} {v}" for k in ("seed", "flavour", "backbone", "classifier") if (v := run.setting(k)) is not None
    ]
    lines = views.losses(run)
    title = "Training, validation and hold-out loss over the epochs"
    at = f"epoch {run.chosen}" if run.chosen in run.alphas else "the last epoch"
    config, origin = views.facts(run)
    python, note, shell = views.next_steps(run)
    return _render(
        "run.html.j2",
        run.path,
        run=run,
        title=f"Cell search, recipe {recipe}" if recipe else "Cell search",
        subtitle=" · ".join([run.path.resolve().name, *known]),
        summary=views.summary(run),
        drawing=_drawing(run),
        genes=views.genes(run),
        genotype_text=views.genotype_text(run),
        row0=label(row0) if row0 is not None else None,
        loss_legend=views.legend(lines),
        loss_chart=chart(title, lines, views.marks(run), WIDE, reference=row0),
        mix="Sigmoid" if run.sigmoid else "Softmax",
        strongest_at=at,
        op_legend=views.op_legend(run),
        edges=views.edges(run),
        diagnostics=views.diagnostics(run),
        timings=views.timings(run),
        table=views.table(run),
        usage_python=python,
        usage_note=note,
        usage_shell=shell,
        config=config,
        origin=origin,
    )


def _index_page(path: Path, runs: list[Run]) -> str:
    best = min((r for r in runs if views.best(r) is not None), key=views.best, default=None)
    colours = [(f"var(--op{c})", palette.dash(c)) for c in (4, 6, 1, 3, 7, 5, 2)]
    lines = [
        Series(r.path.name.replace("_", " "), r.series("holdout_loss"), *colours[i % len(colours)])
        for i, r in enumerate(runs)
    ]
    recipe = runs[0].setting("recipe")
    title = "Hold-out loss of every seed over the epochs"
    marks = Marks(max(r.last_epoch for r in runs), runs[0].warmup_end)
    return _render(
        "index.html.j2",
        path,
        title="Cell search over several seeds" + (f", recipe {recipe}" if recipe else ""),
        subtitle=path.resolve().name,
        summary=[("Best seed", best.path.name[5:], "by hold-out loss"), *views.summary(best)[:-1]]
        if best
        else [],
        runs=[_index_row(r) | {"best": r is best} for r in runs],
        loss_legend=views.legend(lines),
        loss_chart=chart(title, lines, marks, WIDE),
    )


def _index_row(run: Run) -> dict:
    _, free, genes = views.counts(run)
    return {
        "seed": run.path.name[5:],
        "status": run.status,
        "row0": views.plain(views.row0(run)),
        "holdout": views.plain(views.best(run)),
        "epoch": views.plain(run.chosen),
        "weight_free": f"{free} of {genes}" if run.genotype else "–",
        "link": f"{run.path.name}/{REPORT}",
        "drawing": _drawing(run),
    }
