"""Command line: `python -m chase_fast.data.pack SOURCE --out DIR`."""

import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from chase_fast.command import run_command
from chase_fast.commandline import parse
from chase_fast.errors import ChaseError
from chase_fast.files import user_path

if TYPE_CHECKING:  # what --help does without
    from chase_fast.data.pack.plan import Options

PROG = "python -m chase_fast.data.pack"
DESCRIPTION = """Pack a dataset: write once what the random crops of search and training can show of a frame.

Training reads 720p JPEG frames to use a small part of each. This writes, for every frame with a visible
target, two levels: what crops enlarge, at the frame's own resolution, and all that any crop can show,
reduced. Afterwards every command that takes KIND:PATH:SPLIT takes packed:DIR, with weights
(packed:DIR*0.5), or packed:DIR:LIST with a file of sequence names. Samples are those of the unpacked dataset
for the same seed: the same frames, boxes, labels and proposals, and images up to resampling.

Killed at any moment, the same command continues; finished shards are not written again. The size is estimated
before anything is written. `python -m chase_fast.doctor --data packed:DIR` compares the checksums of all
files, and so does `sha256sum -c SHA256SUMS` in DIR.

Formats: raw is fastest and takes about 1 MB per 720p frame; jpeg takes a tenth and has to be decoded. To take
less: --format jpeg, --every K, a smaller --size or --detail. --size is the --image-size of the run (or
larger); a run that asks for more than was packed says so.

Examples:
  python -m chase_fast.data.pack got10k:/data/GOT-10k:train --out /fast/got10k --format jpeg
  python -m chase_fast.data.pack lasot:/data/LaSOT:train --out /fast/lasot --every 10
  python -m chase_fast.train --train packed:/fast/got10k packed:/fast/lasot*0.25 --val packed:/fast/val
  python -m chase_fast.data.pack synthetic:train --sequences 200 --size 128 --out packed_demo

Exit code: 0, or 2 after one line that says what to change; 130 if stopped from the keyboard.
"""


@dataclass(frozen=True)
class Arguments:
    """What to pack, and how."""

    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="KIND:PATH[:SPLIT]")]
    """The dataset, as for search and train; SPLIT may be a list file."""
    out: Path
    """Folder of the packed dataset: a new one, or one to continue."""
    format: Literal["raw", "jpeg"] = "raw"
    """How pixels are stored."""
    quality: int = 95
    """Of jpeg, 1 to 100."""
    size: int = 288
    """Side of the crops in pixels, as --image-size of the runs that will use it (or larger)."""
    search_factor: float = 5.0
    """Side of a crop's window in target sizes."""
    scale_jitter: float = 0.5
    """Largest scale jitter of the crops: standard deviation of log size."""
    centre_jitter: float = 4.5
    """Largest centre jitter of the crops, in target sizes."""
    jitter_limit: float = 3.0
    """Largest |z| of the scale jitter's normal draws."""
    detail: float = 1.5
    """Resolution of the reduced level: so many times that of the crop about an unmoved box."""
    every: int = 1
    """Store only one of so many frames, but at least 24 of a sequence."""
    sequences: int | None = None
    """Pack only so many sequences, evenly spread (synthetic has 10000)."""
    workers: int | None = None
    """Processes; default one per CPU."""
    skip_bad: bool = False
    """Leave broken sequences and frames out instead of stopping."""
    shard_frames: int | None = None
    """Frames per shard; default about 512 MB."""
    quiet: bool = False
    """Print only errors."""


def understand(arguments: Arguments) -> "Options":
    """Raises ChaseError for values that make no sense."""
    from chase_fast.data.pack.plan import Options, full_source
    from chase_fast.data.reach import Limits

    for name in ("size", "every", "workers", "sequences", "shard_frames"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise ChaseError(f"--{name.replace('_', '-')} {value} must be at least 1")
    for name in ("search_factor", "detail"):
        if not 0 < getattr(arguments, name) < 100:
            raise ChaseError(f"--{name.replace('_', '-')} {getattr(arguments, name)} must be positive")
    for name in ("scale_jitter", "centre_jitter", "jitter_limit"):
        if not 0 <= getattr(arguments, name) < 100:
            raise ChaseError(f"--{name.replace('_', '-')} {getattr(arguments, name)} must not be negative")
    if not 1 <= arguments.quality <= 100:
        raise ChaseError(f"--quality {arguments.quality} must be from 1 to 100")
    limits = Limits(**{name: getattr(arguments, name) for name in Limits.__dataclass_fields__})
    names = "detail", "format", "quality", "every", "sequences", "skip_bad"
    return Options(
        full_source(arguments.source), limits, **{name: getattr(arguments, name) for name in names}
    )


def run(arguments: Arguments, words: Sequence[str]) -> None:
    from chase_fast.data.pack.write import pack

    options = understand(arguments)
    console = Console(stderr=True)
    bar = Progress(
        TextColumn("packing"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("frames"),
        TimeRemainingColumn(),
        console=console,
        disable=arguments.quiet or not console.is_terminal,
        transient=True,
    )

    def begin(done: int, total: int):
        task = bar.add_task("", total=total, completed=done)
        bar.start()
        return lambda frames: bar.advance(task, frames)

    try:
        pack(
            options,
            user_path(arguments.out).absolute(),
            arguments.workers or os.cpu_count() or 1,
            f"{PROG} {shlex.join(words)}",
            arguments.shard_frames,
            (lambda text: None) if arguments.quiet else (lambda text: print(text, flush=True)),
            begin,
        )
    finally:
        bar.stop()


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code (see `run_command`)."""
    words = list(sys.argv[1:] if argv is None else argv)
    work = lambda: run(parse(Arguments, words, PROG, DESCRIPTION), words)  # noqa: E731
    return run_command(work, stopped=f"stopped; continue with: {PROG} {shlex.join(words)}")


if __name__ == "__main__":
    sys.exit(main())
