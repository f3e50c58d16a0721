"""Command line: python -m chase_fast.track SOURCE --box x,y,w,h --checkpoint FILE [--out DIR]."""

import datetime
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from chase_fast.command import run_command
from chase_fast.track.options import Track, check, parse
from chase_fast.track.sources.masking import hide_in, masked


def run(options: Track) -> int:
    from chase_fast.runs import checkpoint_file
    from chase_fast.track.output import check_folder
    from chase_fast.track.sources import check_source, open_source

    boxes = check(options)
    if options.show or not boxes:
        from chase_fast.track.draw import check_display

        check_display(bool(boxes))
    options = replace(options, checkpoint=checkpoint_file(options.checkpoint))
    check_source(options.source, options.start, options.frames)
    now = datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    out = options.out or Path("runs") / f"track_{now}"
    check_folder(out, options.overwrite)
    if not options.quiet:
        print(f"opening {masked(options.source, address=True)}, loading {options.checkpoint} ...", flush=True)
    live = options.timeout, options.reconnects
    source = open_source(options.source, options.start, options.frames, *live, options.levels)
    try:
        from chase_fast.track.session import Session

        return Session(options, source, out).run(boxes)
    finally:
        source.close()


def _without_secrets(argv: Sequence[str] | None) -> int:
    try:
        return run(parse(argv))
    except Exception as e:
        hide_in(e)
        raise


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code (see `run_command`)."""
    return run_command(lambda: _without_secrets(argv), stopped="stopped before anything was tracked")


if __name__ == "__main__":
    sys.exit(main())
