"""Command line: `python -m chase_fast.report RUN`, or `... --cell CELL --svg OUT.svg` to draw a cell."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from chase_fast.errors import ChaseError

DESCRIPTION = """Write the report of a search again, or draw a cell.

report.html is one page that needs no network: the cell, the mixing weights of every edge, the losses with the
chosen epoch, diagnostics, time, memory, configuration and versions. A search writes it after every epoch.

Examples:
  python -m chase_fast.report runs/demo
  python -m chase_fast.report --cell runs/demo/cell.json --svg cell.svg
  python -m chase_fast.report --cell chase --png cell.png
"""


@dataclass(frozen=True)
class Report:
    """What to write."""

    run: Annotated[Path | None, tyro.conf.Positional] = None
    """Run folder (the --out of a search, also of several seeds); works while the run is in progress."""
    cell: str | None = None
    """A cell.json, or the name of a published cell: chase, chase_fd, chase_wo."""
    svg: Path | None = None
    """Where to draw --cell as SVG."""
    png: Path | None = None
    """Where to draw --cell as PNG (matplotlib)."""


def load_cell(name: str):
    """Genotype of a cell.json (or of a file that holds a bare genotype), or a published cell.

    Raises:
        ChaseError: neither a file nor a published name, or the file is no cell.
    """
    import json

    from chase_fast.nn.genotype import PUBLISHED
    from chase_fast.report.read import genotype_of

    if name.lower() in PUBLISHED:
        return PUBLISHED[name.lower()]
    published = ", ".join(PUBLISHED)
    try:
        content = json.loads(Path(name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ChaseError(f"--cell {name}: no such file, and no published cell ({published})") from None
    except (OSError, ValueError) as e:
        raise ChaseError(f"--cell {name}: cannot be read as JSON ({e}); give a cell.json") from None
    try:
        return genotype_of(
            content if isinstance(content, dict) and "genotype" in content else {"genotype": content}
        )
    except ChaseError as e:
        raise ChaseError(f"--cell {name}: {e}") from None


def run(arguments: Report) -> None:
    from chase_fast.report import save_png, save_svg, write_report

    if arguments.cell is not None:
        if arguments.run is not None:
            raise ChaseError("give either a run folder or --cell, not both")
        if arguments.svg is None and arguments.png is None:
            raise ChaseError("--cell needs --svg OUT.svg or --png OUT.png")
        genotype = load_cell(arguments.cell)
        for path, save in ((arguments.svg, save_svg), (arguments.png, save_png)):
            if path is None:
                continue
            try:
                save(genotype, path)
            except OSError as e:
                raise ChaseError(f"cannot write {path}: {e.strerror or e}") from None
            print(path)
        return
    if arguments.run is None:
        raise ChaseError("give a run folder, or --cell with --svg; see --help")
    print(write_report(arguments.run))


def main(args: list[str] | None = None) -> int:
    try:
        run(tyro.cli(Report, prog="python -m chase_fast.report", description=DESCRIPTION, args=args))
    except ChaseError as e:
        print(f"error: {e}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
