"""Online tracking with PrDiMP, DiMP and CHASE networks: a box in the first frame, one in every other."""

import importlib

_HOME = {
    "PRESETS": "settings",
    "MultiTracker": "multi",
    "Result": "result",
    "TrackSettings": "settings",
    "Tracker": "tracker",
}
__all__ = list(_HOME)


def __getattr__(name: str):
    """Imports what is asked for: the command explains itself without torch and OpenCV."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
