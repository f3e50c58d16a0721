"""Command line: python -m chase_fast.convert IN OUT."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from chase_fast.cells import load_cell
from chase_fast.command import run_command
from chase_fast.commandline import parse
from chase_fast.errors import ChaseError
from chase_fast.files import check_file, user_path, write_atomic

PROG = "python -m chase_fast.convert"
SAFETENSORS, PUBLIC = ".safetensors", (".pth", ".pth.tar")
DESCRIPTION = f"""Convert a trained tracker between this package's files and public checkpoints.

IN is the best.safetensors of a training run, or a public checkpoint of PrDiMP-18/50, DiMP-18/50 or CHASE
(.pth, .pth.tar), which is read without running anything that it contains. The ending of OUT says what to
write:
  .safetensors      our file: weights, architecture and origin
  .pth, .pth.tar    a dictionary whose `net` is the state dict in the public key names; it is complete (the
                    unused layer4 and fc are zeros), so a network that pytracking builds loads it strictly

A public file does not hold the constants of the filter solver (the published ones are assumed), nor the
sources, pools and skips of a CHASE cell: a published cell is recognised by its convolutions, another one is
given with --cell.

Examples:
  {PROG} prdimp50.pth.tar prdimp50.safetensors
  {PROG} runs/mine/best.safetensors mine.pth.tar
  {PROG} chase.pth.tar chase.safetensors --cell cell.json
"""


@dataclass(frozen=True)
class Arguments:
    """What to convert."""

    source: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="IN")]
    """Checkpoint to read; or the folder of a training run."""
    target: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """File to write; its ending says which kind. An existing file is not replaced."""
    cell: str | None = None
    """A cell.json, or a published cell (chase, chase_fd, chase_wo): the cell of a public CHASE checkpoint."""


def run(arguments: Arguments) -> None:
    source, target = user_path(arguments.source), user_path(arguments.target)
    if not target.name.endswith((SAFETENSORS, *PUBLIC)):
        raise ChaseError(f"{target}: its ending must be one of {', '.join((SAFETENSORS, *PUBLIC))}")
    if target.exists():
        raise ChaseError(f"{target} exists: choose another name for the new file, or delete it")
    if not target.parent.is_dir():
        raise ChaseError(f"{target}: there is no folder {target.parent}")
    if not source.is_dir():
        check_file(source, "checkpoint")
    cell = None if arguments.cell is None else load_cell(arguments.cell)[0]
    print(f"loading {source} ...", flush=True)
    from chase_fast.checkpoint import load_tracker, pack_tracker
    from chase_fast.published import pack_pytracking

    checkpoint = load_tracker(source, cell)
    pack = pack_tracker if target.suffix == SAFETENSORS else pack_pytracking
    write_atomic(target, pack(checkpoint.net, checkpoint.spec, checkpoint.about))
    spec = checkpoint.spec
    neck = (
        "plain block"
        if spec.cell is None
        else f"cell of {len(spec.cell.nodes)} nodes, {spec.channels} channels"
    )
    print(f"{target}: {spec.classifier}, {spec.backbone}, {neck}")
    if "assumed" in checkpoint.about:
        assumed = ", ".join(f"{k} {v}" for k, v in checkpoint.about["assumed"].items())
        print(f"assumed, since {source.name} does not say: {assumed}, and the solver's published constants")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code (see `run_command`)."""
    return run_command(lambda: run(parse(Arguments, argv, PROG, DESCRIPTION)))


if __name__ == "__main__":
    sys.exit(main())
