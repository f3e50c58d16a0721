"""Evaluation from Python: `chase_fast.evaluate("got10k:/data/GOT-10k:val", "best.safetensors")`."""

import sys
from collections.abc import Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from rich.console import Console

from chase_fast.evaluate.evaluation import run
from chase_fast.evaluate.options import Evaluate
from chase_fast.evaluate.scoring import Board
from chase_fast.fields import changed

Names = str | PathLike[str] | Sequence[str | PathLike[str]]


def evaluate(
    data: str,
    checkpoint: Names = (),
    out: str | PathLike[str] = "runs/evaluation",
    *,
    results: Names = (),
    **values: Any,
) -> Board | None:
    """Runs trackers over a benchmark and scores them; what `python -m chase_fast.evaluate` does.

        board = chase_fast.evaluate("got10k:/data/GOT-10k:val", "best.safetensors", preset="fast")
        print(board.scores["got10k"]["best"].metrics["AO"])

    Args:
        data: KIND:PATH[:SPLIT].
        checkpoint: trackers to run, each FILE or NAME=FILE.
        out: folder for result files, scores.json, scores.csv and evaluation.html; finished sequences in it
            are kept.
        results: folders of other trackers' result files to score beside them, each DIR or NAME=DIR.
        values: what else the command's flags say (`chase_fast.evaluate.options.Evaluate`), e.g.
            protocol=("otb",), preset="fast", workers=0, quiet=True.

    Returns:
        The scores; under torchrun on rank 0, None on the others.

    Raises:
        ChaseError: wrong values, unusable data or results.
        NotTracked: a ChaseError; sequences could not be tracked, the finished ones are kept.
    """
    start = Evaluate(data, Path(out), checkpoint=_names(checkpoint), results=_names(results))
    return run(changed(start, values), Console(file=sys.stdout, highlight=False, soft_wrap=True))


def _names(given: Names) -> tuple[str, ...]:
    return (fspath(given),) if isinstance(given, str | PathLike) else tuple(fspath(name) for name in given)
