"""Writes report.html: the page of a run, or the one over its seeds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from chase_fast.files import write_atomic
from chase_fast.report.files import common_kind, seed_folders
from chase_fast.report.search.page import search_page, search_seeds_page
from chase_fast.report.search.read import read_search
from chase_fast.report.train.page import train_page, train_seeds_page
from chase_fast.report.train.read import read_train

REPORT = "report.html"
PAGES: dict[str, tuple[Callable[..., Any], ...]] = {
    "search": (read_search, search_page, search_seeds_page),
    "train": (read_train, train_page, train_seeds_page),
}


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
    read, page, seeds_page = PAGES[common_kind(path, seeds or [path])]
    runs = [read(folder) for folder in seeds or [path]]
    for run in runs:
        problems += [f"{run.path / line}" for line in run.problems]
        write_atomic(run.path / REPORT, page(run).encode())
    if seeds:
        write_atomic(path / REPORT, seeds_page(path, runs).encode())
    return path / REPORT
