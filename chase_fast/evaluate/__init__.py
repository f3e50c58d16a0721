"""Evaluation of trackers: scores by named protocol, result files of any tracker, submissions to servers.

The package can be called: `chase_fast.evaluate("got10k:ROOT:val", "best.safetensors")` is
`chase_fast.evaluate.evaluate(...)`.
"""

from typing import TYPE_CHECKING

from chase_fast.lazy import front_door

if TYPE_CHECKING:
    from chase_fast.evaluate.api import evaluate
    from chase_fast.evaluate.evaluation import NotTracked
    from chase_fast.evaluate.scoring import Board

__all__ = ["Board", "NotTracked", "evaluate"]
_HOMES = {"Board": "scoring", "NotTracked": "evaluation", "evaluate": "api"}
front_door(__name__, {name: f"{__name__}.{file}" for name, file in _HOMES.items()}, call="evaluate")
