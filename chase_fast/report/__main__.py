"""Command line: `python -m chase_fast.report RUN [RUN ...]`, or `... --cell CELL --svg OUT.svg`."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from chase_fast.command import run_command
from chase_fast.commandline import parse
from chase_fast.errors import ChaseError
from chase_fast.files import user_path

PROG = "python -m chase_fast.report"
DESCRIPTION = """Write the report of a run again, set several runs side by side, or draw a cell.

One RUN: its report.html, one page that needs no network: cell, losses, diagnostics, time, memory,
configuration and versions. Searches and trainings write it after every epoch.

Several RUNs: one comparison page: curves, cells, sizes and losses, mean and deviation over seeds, differences
in units of that deviation. Each may be a search, a training, or a folder of seeds (seed_K). Losses that were
measured on different data stand in groups of their own.

Examples:
  python -m chase_fast.report runs/demo
  python -m chase_fast.report runs/searched runs/random runs/plain --out comparison.html
  python -m chase_fast.report runs/searched runs/plain --markdown
  python -m chase_fast.report --cell runs/demo/cell.json --svg cell.svg
  python -m chase_fast.report --cell chase --png cell.png

Operations that are not known here are drawn by their name. Exit code: 0; 2 for a wrong command, or if a file
of the run is damaged: the page is written and says what it lacks.
"""


@dataclass(frozen=True)
class Report:
    """What to write."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN ...")] = ()
    """Run folders (the --out of a search or a training, also of several seeds); they may be in progress."""
    out: Path | None = None
    """Where to write the comparison page. Default: report_comparison.html where all run folders lie."""
    names: tuple[str, ...] = ()
    """What to call the runs of a comparison, one name for each. Default: their folders."""
    markdown: bool = False
    """Print the tables of the comparison as Markdown; writes a page only if --out is given."""
    cell: str | None = None
    """A cell.json, or the name of a published cell: chase, chase_fd, chase_wo."""
    svg: Path | None = None
    """Where to draw --cell as SVG."""
    png: Path | None = None
    """Where to draw --cell as PNG; needs matplotlib (pip install matplotlib)."""


def run(arguments: Report) -> None:
    from chase_fast.cells import load_cell
    from chase_fast.draw import save_png, save_svg
    from chase_fast.nn.genotype import Sketch
    from chase_fast.report import markdown, write_comparison, write_report

    if arguments.cell is not None:
        if arguments.runs:
            raise ChaseError("give either run folders or --cell, not both")
        if arguments.svg is None and arguments.png is None:
            raise ChaseError("--cell needs --svg OUT.svg or --png OUT.png")
        genotype, _ = load_cell(arguments.cell, kind=Sketch)
        for path, save in ((arguments.svg, save_svg), (arguments.png, save_png)):
            if path is None:
                continue
            path = user_path(path)
            try:
                save(genotype, path)
            except OSError as e:
                raise ChaseError(f"cannot write {path}: {e.strerror or e}") from None
            print(path)
        return
    if arguments.svg is not None or arguments.png is not None:
        raise ChaseError("--svg and --png draw a cell: give --cell as well")
    if not arguments.runs:
        raise ChaseError("give a run folder, or --cell with --svg; see --help")
    runs, names = tuple(map(user_path, arguments.runs)), arguments.names
    out = None if arguments.out is None else user_path(arguments.out)
    if len(runs) == 1 and not (out or names or arguments.markdown):
        problems: list[str] = []
        page = write_report(runs[0], problems)
        print(page)
        if problems:
            more = f" (and {len(problems) - 1} more, see the page)" if len(problems) > 1 else ""
            raise ChaseError(f"{problems[0]}{more}; the page shows the rest of the run")
        return
    if arguments.markdown:
        print(markdown(runs, names), end="")
    if out is not None or not arguments.markdown:
        page = write_comparison(runs, out, names)
        print(page, file=sys.stderr if arguments.markdown else sys.stdout)


def main(args: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code (see `run_command`)."""
    return run_command(lambda: run(parse(Report, args, PROG, DESCRIPTION)))


if __name__ == "__main__":
    sys.exit(main())
