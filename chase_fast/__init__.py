"""chase_fast: search a tracking cell (CHASE), train the tracker it gives, track with it.

    import chase_fast

    found = chase_fast.search("demo", out="runs/cell")
    trained = chase_fast.train("demo", out="runs/tracker", cell=found.cell)
    tracker = chase_fast.Tracker.load(trained.checkpoint)
    tracker.init(frame, (x, y, w, h))  # RGB uint8 [H, W, 3]
    print(tracker.update(next_frame).box)

* `search`, `train`, `evaluate`: what the commands of these names do.
* `Tracker`, `MultiTracker`: one target or several, frame by frame; `track`: their package.
* `load_cell`, `recipes`: cells by name or file, configurations by name.
* `nn`, `kernels`: modules and ops for networks of your own.

Importing it loads neither torch nor OpenCV: a name is imported when it is first used.
"""

from typing import TYPE_CHECKING

from chase_fast._version import __version__
from chase_fast.errors import ChaseError
from chase_fast.lazy import front_door
from chase_fast.process import tune_process

if TYPE_CHECKING:
    from chase_fast import kernels, nn, recipes, track
    from chase_fast.cells import load_cell
    from chase_fast.evaluate.api import evaluate
    from chase_fast.nn.operations import register_operation
    from chase_fast.search.api import search
    from chase_fast.track import MultiTracker, Tracker
    from chase_fast.train.api import train

__all__ = [
    "ChaseError",
    "MultiTracker",
    "Tracker",
    "__version__",
    "evaluate",
    "kernels",
    "load_cell",
    "nn",
    "recipes",
    "register_operation",
    "search",
    "track",
    "train",
    "tune_process",
]
_HOMES = {
    "MultiTracker": "track",
    "Tracker": "track",
    "load_cell": "cells",
    "register_operation": "nn.operations",
}
_PACKAGES = ("evaluate", "kernels", "nn", "recipes", "search", "track", "train")
front_door(__name__, {name: f"{__name__}.{home}" for name, home in _HOMES.items()}, packages=_PACKAGES)
