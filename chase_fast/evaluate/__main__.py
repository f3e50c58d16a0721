"""Command line: python -m chase_fast.evaluate --data KIND:PATH[:SPLIT] --checkpoint FILE [flags]."""

import io
import sys
from collections.abc import Sequence

from rich.console import Console

from chase_fast.command import run_command
from chase_fast.commandline import parse as parse_words
from chase_fast.evaluate.options import Evaluate

PROG = "python -m chase_fast.evaluate"


def description() -> str:
    from chase_fast.datasets import BENCHMARKS
    from chase_fast.evaluate.protocols import PROTOCOLS
    from chase_fast.track.settings import presets

    kinds = "\n".join(f"  {k.usage}; scored by {', '.join(k.protocols)}" for k in BENCHMARKS.values())
    protocols = "\n".join(f"  {p.name}: {p.toolkit}" for p in PROTOCOLS.values())
    return (
        "Run trackers over a benchmark and score them as the benchmarks' own toolkits do.\n\n"
        f"Benchmarks:\n{kinds}\n\n"
        f"Protocols (numbers of different protocols cannot be compared):\n{protocols}\n\n"
        f"Presets of checkpoints' online procedure, public ones in the published form:\n{presets()}\n\n"
        "Examples:\n"
        f"  {PROG} --data got10k:/data/GOT-10k:val --checkpoint runs/mine/best.safetensors\n"
        f"  {PROG} --data got10k:/data/GOT-10k:val --results CSRT=/data/csrt --out runs/csrt\n"
        f"  {PROG} --data uav123:/data/UAV123 --checkpoint best.safetensors --opencv mil\n"
        f"  {PROG} --data got10k:/data/GOT-10k:test --checkpoint best.safetensors --pack got10k\n"
        f"  torchrun --nproc-per-node 4 {PROG[7:]} --data lasot:/data/LaSOT --checkpoint FILE\n\n"
        "A test set that only its server can score is tracked, and packed on request. Exit code: 0; 1 if a\n"
        "sequence could not be tracked; 2 for a wrong command or unusable data."
    )


def parse(argv: Sequence[str] | None) -> Evaluate:
    return parse_words(Evaluate, argv, PROG, description())


def command(argv: Sequence[str] | None) -> int:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files in other encodings
    options = parse(argv)

    from chase_fast.evaluate.evaluation import NotTracked, run

    try:
        run(options, Console(file=sys.stdout, highlight=False, soft_wrap=True))
    except NotTracked as e:
        for reason in (*e.reasons, *([str(e)] if e.main else [])):
            print(f"error: {reason}", file=sys.stderr)
        return 1
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code (see `run_command`)."""
    return run_command(
        lambda: command(argv),
        stopped="stopped; finished sequences are kept, the same command continues after them",
    )


if __name__ == "__main__":
    sys.exit(main())
