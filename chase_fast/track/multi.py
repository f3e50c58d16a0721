"""Tracking several targets of one video: their search areas go through the network as one batch."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from chase_fast.errors import ChaseError
from chase_fast.track.base import Base
from chase_fast.track.frames import Box, check_box, check_frame
from chase_fast.track.result import Result


class MultiTracker(Base):
    """Follows any number of targets; each is found where a `Tracker` of its own would find it.

    Targets are independent of each other. Frames as for `Tracker`; arguments: see `Base`.
    """

    _targets: list[Any] | None = None
    _started = 0  # targets ever: the number of the next one

    def __len__(self) -> int:
        return len(self._targets or ())

    def init(self, frame: np.ndarray, boxes: Sequence[Sequence[float]]) -> None:
        """Learns the targets from their boxes [K, 4] (x, y, w, h, pixels); forgets any others. K may be 0.

        Raises:
            ChaseError: as `Tracker.init`.
        """
        frame = check_frame(frame)
        checked = [check_box(box, frame) for box in boxes]
        self._targets, self._started = [], 0
        for box in checked:
            self._start(frame, box)
        self._prepare(self._targets, frame)

    def warm_up(self, targets: int = 1) -> None:
        """Tracks noise once: whatever is built or loaded at the first frame is ready afterwards. Forgets all
        targets."""
        image = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)
        self.init(image, [(140, 100, 40, 40)] * targets)
        for _ in range(2):
            self.update(image)
        self._targets, self._started = None, 0

    def update(self, frame: np.ndarray) -> list[Result]:
        """Finds all targets in the next frame, in the order of `init` and `add`.

        Raises:
            ChaseError: no `init` before, or not an RGB uint8 frame.
        """
        if self._targets is None:
            raise ChaseError("the tracker has no targets yet: call init(frame, boxes) before update(frame)")
        return self._step(self._targets, check_frame(frame))

    def add(self, frame: np.ndarray, box: Sequence[float]) -> int:
        """Starts one more target in the frame just tracked; its position in the list.

        Raises:
            ChaseError: as `Tracker.init`.
        """
        frame = check_frame(frame)
        targets = self._start(frame, check_box(box, frame))
        self._prepare(targets, frame)
        return len(targets) - 1

    def _start(self, frame: np.ndarray, box: Box) -> list[Any]:
        """Learns one more target; all of them."""
        target = self._learn(frame, box, self._started)
        self._targets = [*(self._targets or ()), target]
        self._started += 1
        return self._targets

    def remove(self, index: int) -> None:
        """Drops a target; later ones move up by one.

        Raises:
            ChaseError: there is no such target.
        """
        if self._targets is None or not 0 <= index < len(self):
            raise ChaseError(f"there is no target {index}: {len(self)} are tracked, counted from 0")
        del self._targets[index]
