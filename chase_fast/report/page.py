"""Writes report.html: one page of a run, or an index over the seeds of one."""

from pathlib import Path

from markupsafe import Markup

from chase_fast.errors import ChaseError
from chase_fast.files import write_atomic
from chase_fast.report import palette, views
from chase_fast.report.charts import Marks, Series, chart, label
from chase_fast.report.drawing import draw_cell
from chase_fast.report.files import kind_of, seed_folders
from chase_fast.report.read import Run, read_run
from chase_fast.report.read_train import read_train_run
from chase_fast.report.render import render
from chase_fast.report.train_page import train_page, train_seeds_page

REPORT = "report.html"
WIDE = (1120, 360)  # px, view box of the loss chart


def write_report(run_dir: str | Path, problems: list[str] | None = None) -> Path:
    """Writes report.html into the folder of a search or a training; of several seeds into every seed_K too.

    Works at any time: before the first epoch, in the middle of a run, after it.

    Args:
        problems: gets a line for everything that could not be read; the page says so too.

    Returns:
        Path of the page.

    Raises:
        ChaseError: `run_dir` is no run folder, or the page cannot be written.
    """
    path = Path(run_dir)
    problems = [] if problems is None else problems
    seeds = seed_folders(path)
    kinds = {kind_of(folder) for folder in seeds or [path]}
    if len(kinds) > 1:
        raise ChaseError(f"{path}: some seeds are searches and some trainings; give their folders one by one")
    training = "train" in kinds
    read, page = (read_train_run, train_page) if training else (read_run, _run_page)
    if not seeds:
        run = read(path)
        problems += [f"{path / line}" for line in run.problems]
        return _write(path / REPORT, page(run))
    runs = [read(seed) for seed in seeds]
    for run in runs:
        problems += [f"{run.path / line}" for line in run.problems]
        _write(run.path / REPORT, page(run))
    return _write(path / REPORT, (train_seeds_page if training else _index_page)(path, runs))


def _write(path: Path, page: str) -> Path:
    write_atomic(path, page.encode())
    return path


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
    return render(
        "run.html.j2",
        [run.path],
        run=run,
        title=f"Cell search, recipe {recipe}" if recipe else "Cell search",
        subtitle=" · ".join([run.path.resolve().name, *known]),
        summary=views.summary(run),
        drawing=_drawing(run),
        genes=views.genes(run),
        has_none=any(gene["op"] == "none" for gene in views.genes(run)),
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
    lines = [
        Series(r.path.name.replace("_", " "), r.series("holdout_loss"), *palette.run_look(i))
        for i, r in enumerate(runs)
    ]
    recipe = runs[0].setting("recipe")
    title = "Hold-out loss of every seed over the epochs"
    marks = Marks(max(r.last_epoch for r in runs), runs[0].warmup_end)
    return render(
        "index.html.j2",
        [path],
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
