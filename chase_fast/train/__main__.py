"""Command line of the training: python -m chase_fast.train [RECIPE] [flags]."""

import sys
from collections.abc import Sequence

from chase_fast.runs import command
from chase_fast.train.options import TrainCommand


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code (see `run_command`)."""
    return command.main(TrainCommand(), argv)


if __name__ == "__main__":
    sys.exit(main())
