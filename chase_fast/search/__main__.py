"""Command line of the search: python -m chase_fast.search [RECIPE] [flags]."""

import sys
from collections.abc import Sequence

from chase_fast.runs import command
from chase_fast.search.options import SearchCommand


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code (see `run_command`)."""
    return command.main(SearchCommand(), argv)


if __name__ == "__main__":
    sys.exit(main())
