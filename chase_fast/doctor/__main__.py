"""Command line: `python -m chase_fast.doctor [--json] [--data KIND:PATH[:SPLIT] ...]`."""

import dataclasses
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from chase_fast.command import run_command
from chase_fast.commandline import parse
from chase_fast.doctor import collect
from chase_fast.errors import ChaseError

PROG = "python -m chase_fast.doctor"
DESCRIPTION = """Say what is installed, what can run here, and what is wrong.

Without flags: versions, devices, what native code was built, and for every op which backend runs it (and why
another one does not). With --data: reads a dataset as search and train do (anew, whatever was kept of an
earlier reading), decodes every image once, in parallel, and lists everything broken by sequence, frame and
file, and boxes that do not fit their frames: of resized frames, with x and y swapped, normalised, corners
instead of sizes, of another video. Of packed data (packed:DIR) all checksums are compared.

Examples:
  python -m chase_fast.doctor
  python -m chase_fast.doctor --data got10k:/data/GOT-10k:train folder:/data/mine
  python -m chase_fast.doctor --data trackingnet:/data/TrackingNet:0-3 coco:/data/coco:train2017
  CHASE_FAST_BACKEND=reference python -m chase_fast.search
      forces a backend; prroi_pool=cpu,node_sum=triton forces one per op

Exit code: 0, or 2 if a package cannot be imported, the native module is missing (and was not left out by
CHASE_FAST_NATIVE=off), or a dataset is broken.
"""


@dataclass(frozen=True)
class Doctor:
    """What to look at."""

    data: tuple[str, ...] = ()
    """Datasets to check, KIND:PATH[:SPLIT] each, as for search and train or for evaluate; SPLIT may be a
    list file."""
    json: bool = False
    """Print one JSON object instead of tables."""


def _table(console: Console, title: str, *columns: str) -> Table:
    """With lines on a terminal; in a file columns of text."""
    if console.is_terminal:
        return Table(*columns, title=title, title_justify="left")
    return Table(*columns, title=title, title_justify="left", box=None, padding=(0, 2, 0, 0), header_style="")


def print_facts(facts: dict[str, Any], console: Console) -> None:
    versions = _table(console, "Versions", "package", "version")
    for name, version in facts["versions"].items():
        versions.add_row(
            name, f"[red]{escape(version)}[/red]" if name in facts["broken"] else escape(version)
        )
    console.print(versions, soft_wrap=True)

    devices = facts["devices"]
    if devices:
        console.print(f"CPU     {devices['cpu']}, {devices['cores']} cores, {devices['threads']} threads")
        for name in devices["cuda"]:
            console.print(f"CUDA    {name}")
        if devices["no_cuda"]:
            console.print(f"CUDA    none: {devices['no_cuda']}")
    native = facts["native"]
    if "missing" in native:
        style = "" if native.get("left_out") else "red"
        console.print(f"Native  {native['missing']}", style=style, markup=False, soft_wrap=True)
    else:
        cuda = f"CUDA {native['cuda']} for sm {native['cuda_archs']}" if native["cuda"] else "without CUDA"
        build = f"gcc {native['compiler']}, {native['isa']}, {cuda}"
        console.print(f"Native  {escape(native['file'])}: {build}", soft_wrap=True)
    console.print()
    print_ops(facts["ops"], console)


def print_ops(ops: dict[str, dict], console: Console) -> None:
    """Table op x backend; a number in brackets refers to the reason below it."""
    if not ops:
        return
    backends = list(next(iter(ops.values()))["backends"])
    kinds = list(next(iter(ops.values()))["runs_on"])
    table = _table(console, "Ops", "op", *backends, *[f"{k} tensors use" for k in kinds])
    reasons: dict[str, int] = {}
    for name, op in ops.items():
        cells = [
            f"no ({reasons.setdefault(why, len(reasons) + 1)})" if why else "[green]yes[/green]"
            for why in op["backends"].values()
        ]
        table.add_row(name, *cells, *op["runs_on"].values())
    console.print(table, soft_wrap=True)
    for why, number in reasons.items():
        console.print(f"  ({number}) {why}", highlight=False, soft_wrap=True)


def check_data(specs: Sequence[str], as_json: bool) -> int:
    from chase_fast.data.doctor import check

    found = []
    for spec in specs:
        try:
            report = check(spec, progress=not as_json)
        except ChaseError as e:  # the other datasets are still checked
            print(f"error: {e}", file=sys.stderr)
            found.append({"spec": spec, "error": str(e), "ok": False})
            continue
        found.append(dataclasses.asdict(report) | {"ok": report.ok})
        if not as_json:
            print(report, flush=True)
    if as_json:
        print(json.dumps(found, indent=2, default=str))
    return 0 if all(f["ok"] for f in found) else 2


def run(argv: Sequence[str] | None) -> int:
    arguments = parse(Doctor, argv, PROG, DESCRIPTION)
    if arguments.data:
        return check_data(arguments.data, arguments.json)
    if not arguments.json:
        print("looking at packages, devices and ops ...", flush=True)
    facts = collect()
    if arguments.json:
        print(json.dumps(facts, indent=2))
    else:
        print_facts(facts, Console())
    native = facts["native"]
    return 2 if facts["broken"] or ("missing" in native and not native.get("left_out")) else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code (see `run_command`)."""
    return run_command(lambda: run(argv))


if __name__ == "__main__":
    sys.exit(main())
