"""Online tracking with PrDiMP, DiMP and CHASE networks: a box in the first frame, one in every other."""

from chase_fast.track.multi import MultiTracker
from chase_fast.track.result import Result
from chase_fast.track.settings import PRESETS, TrackSettings
from chase_fast.track.tracker import Tracker

__all__ = ["PRESETS", "MultiTracker", "Result", "TrackSettings", "Tracker"]
