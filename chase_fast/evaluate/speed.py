"""Frames per second, by both definitions in use.

What is timed is what the time files hold, here as in the public toolkits: the calls of `init` and `update`,
so the first frame's time is that of the initialisation. Reading and decoding of frames are not in it.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Speed:
    """Speed of a tracker over some frames.

    Attributes:
        frames, seconds: of all frames with a time > 0, initialisation included.
        fps_total: frames / seconds. What a user waits for.
        fps_mean_of_frames: mean of 1 / t over the frames, as the got10k toolkit and server report. Never
            smaller: fast frames weigh more.
    """

    frames: int
    seconds: float
    fps_total: float
    fps_mean_of_frames: float


def speed(times: dict[str, np.ndarray]) -> Speed | None:
    """Speed from sequence -> seconds per frame, [T] or [R, T]; None if no frame has a time > 0."""
    together = np.concatenate([np.ravel(t) for t in times.values()] or [np.empty(0)])
    measured = together[together > 0]
    if not len(measured):
        return None
    seconds = float(measured.sum())
    return Speed(len(measured), seconds, len(measured) / seconds, float(np.mean(1 / measured)))
