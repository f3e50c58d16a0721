"""Training of a tracker network: cell, losses, optimiser and the loop with its checkpoints.

The package can be called: `chase_fast.train("demo", out="runs/tracker")` is `chase_fast.train.train(...)`.
"""

from typing import TYPE_CHECKING

from chase_fast.lazy import front_door

if TYPE_CHECKING:
    from chase_fast.train.api import TrainResult, train

RESULT = "result.json"

__all__ = ["RESULT", "TrainResult", "train"]
front_door(__name__, dict.fromkeys(("TrainResult", "train"), f"{__name__}.api"), call="train")
