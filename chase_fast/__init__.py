"""chase_fast: search a tracking cell (CHASE), train the tracker it gives, track with it."""

from chase_fast._version import __version__
from chase_fast.process import tune_process

__all__ = ["__version__", "tune_process"]
