"""Online tracking with PrDiMP, DiMP and CHASE networks: a box in the first frame, one in every other."""

from typing import TYPE_CHECKING

from chase_fast.lazy import front_door

if TYPE_CHECKING:
    from chase_fast.track.multi import MultiTracker
    from chase_fast.track.result import Result
    from chase_fast.track.settings import PRESETS, TrackSettings
    from chase_fast.track.tracker import Tracker

__all__ = ["PRESETS", "MultiTracker", "Result", "TrackSettings", "Tracker"]
_HOMES = {
    "PRESETS": "settings",
    "MultiTracker": "multi",
    "Result": "result",
    "TrackSettings": "settings",
    "Tracker": "tracker",
}
front_door(__name__, {name: f"{__name__}.{file}" for name, file in _HOMES.items()})
