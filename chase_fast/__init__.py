"""chase_fast: search a tracking cell (CHASE), train the tracker it gives, track with it."""

import os

from chase_fast._version import __version__

# Threads spin while they wait at an OpenMP barrier, which takes the core from the thread waited for when
# other programs use the cores too: two searches side by side on two cores were 1.3 to 4 times slower each
# with libgomp's default (bench/RECORDS.md). libgomp reads this when torch loads, so it must be set before.
os.environ.setdefault("GOMP_SPINCOUNT", "2000")

__all__ = ["__version__"]
