"""Console script: `chase-fast COMMAND ...`, the same as `python -m chase_fast.COMMAND ...`."""

import importlib
import sys
from collections.abc import Sequence

from chase_fast import __version__

COMMANDS = {
    "search": "find a tracking cell in videos; writes cell.json and report.html",
    "train": "train the tracker that a cell gives, or a plain one; writes best.safetensors",
    "track": "follow a target through a video, a folder of frames or a camera",
    "evaluate": "run trackers on a benchmark, score them by named protocols, pack the results",
    "export": "a tracker for OpenVINO or ONNX Runtime, which run it faster on many CPUs",
    "report": "the page of a run again, runs side by side, or the drawing of a cell",
    "convert": "convert trackers from and to public PrDiMP, DiMP and CHASE checkpoints",
    "data.pack": "write what crops can show of a dataset once, to read it many times faster",
    "doctor": "what is installed, which backend runs each op and why not; check a dataset",
}


def usage() -> str:
    rows = [f"  {name:9} {text}" for name, text in COMMANDS.items()]
    return "\n".join(
        [
            "usage: chase-fast COMMAND [RECIPE] [flags]     (or: python -m chase_fast.COMMAND ...)",
            "",
            "Search a tracking cell (CHASE), train the tracker that it gives, track with it.",
            "",
            "commands:",
            *rows,
            "",
            "chase-fast COMMAND --help explains a command and all its flags; start with",
            "  chase-fast search        (the demo: synthetic video, CPU, no download)",
            "  chase-fast doctor        (if anything does not work)",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns its exit code (2 for every error that the user can mend)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return 0 if arguments else 2
    name, *rest = arguments
    if name == "--version":
        print(f"chase_fast {__version__}")
        return 0
    if name in COMMANDS:
        return importlib.import_module(f"chase_fast.{name}.__main__").main(rest)
    print(f"error: unknown command {name!r}, choose from {', '.join(COMMANDS)}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
