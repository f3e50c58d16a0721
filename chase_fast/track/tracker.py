"""Tracking one target: `Tracker.load(checkpoint)`, `.init(frame, box)`, `.update(frame)`."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from chase_fast.errors import ChaseError
from chase_fast.track.base import Base
from chase_fast.track.frames import check_box, check_frame
from chase_fast.track.result import Result


class Tracker(Base):
    """Follows one target through a video.

    Frames are RGB uint8 [H, W, 3] (`frames.to_rgb8` makes them from others) and may change their size: boxes
    stay in pixels of the frame at hand, so after a change of resolution the target is looked for at its old
    pixel position. Arguments: see `Base`.
    """

    _target: Any = None

    def init(self, frame: np.ndarray, box: Sequence[float]) -> None:
        """Learns the target from its box x, y, w, h (pixels) in the first frame; forgets any other.

        Raises:
            ChaseError: not an RGB uint8 frame; a box outside the frame, of less than one pixel, or with NaN.
        """
        frame = check_frame(frame)
        self._target = self._learn(frame, check_box(box, frame), 0)
        self._prepare([self._target], frame)

    def update(self, frame: np.ndarray) -> Result:
        """Finds the target in the next frame.

        Raises:
            ChaseError: no `init` before, or not an RGB uint8 frame.
        """
        if self._target is None:
            raise ChaseError("the tracker has no target yet: call init(frame, box) before update(frame)")
        return self._step([self._target], check_frame(frame))[0]
