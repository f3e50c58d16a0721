"""The tracker as the experiments of the got10k toolkit drive one."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from chase_fast.data import pillow
from chase_fast.data.decode import BrokenImage, read_frame
from chase_fast.data.first_look import first_levels
from chase_fast.errors import ChaseError
from chase_fast.track.frames import Levels, to_rgb8
from chase_fast.track.tracker import Tracker


class GOT10kTracker:
    """Has what the toolkit's experiments use of `got10k.trackers.Tracker`, without needing that package:

        from got10k.experiments import ExperimentGOT10k
        experiment = ExperimentGOT10k("data/GOT-10k", subset="val")
        experiment.run(GOT10kTracker("best.safetensors"))
        experiment.report(["chase_fast"])

    name: of its folder of results. One seed gives one result, so the toolkit runs it once per sequence.
    levels: which values of pictures of more than 8 bits are black and white; None: as the first picture of a
    sequence has them (`Levels.of`).
    options: preset, device, seed and settings, as `Tracker.load`, which also says what it raises.
    """

    is_deterministic = True

    def __init__(
        self,
        checkpoint: str | Path,
        name: str = "chase_fast",
        levels: Levels | None = None,
        **options: Any,
    ):
        self.name, self._chosen, self._levels = name, levels, levels
        self._tracker = Tracker.load(checkpoint, **options)

    def init(self, image: Image.Image, box: Sequence[float]) -> None:
        """Learns the target: a picture of any mode, box x, y, w, h in pixels.

        Raises:
            ChaseError: a box that is no target.
        """
        pixels = _samples(image)
        self._levels = self._chosen or Levels.of(pixels)
        self._tracker.init(to_rgb8(pixels, self._levels), box)

    def update(self, image: Image.Image) -> np.ndarray:
        """The target's box, float64 [4]: x, y, w, h."""
        return np.array(self._tracker.update(to_rgb8(_samples(image), self._levels)).box)

    def track(
        self, img_files: Sequence[str], box: Sequence[float], visualize: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """One sequence: boxes [T, 4], the first one the given one, and seconds [T] of `init` and `update`,
        reading of files left out. visualize: shows every frame with the toolkit's own drawing.

        Raises:
            ChaseError: a file that cannot be decoded, or a box that is no target.
        """
        boxes, seconds = np.zeros((len(img_files), 4)), np.zeros(len(img_files))
        boxes[0] = box
        levels = self._chosen or (lambda: first_levels([str(f) for f in img_files[:8]]))
        for i, path in enumerate(img_files):
            try:
                image = read_frame(path, levels)
            except BrokenImage as e:
                raise ChaseError(f"frame {path} cannot be read: {e}") from None
            start = time.perf_counter()
            if i == 0:
                self._tracker.init(image, box)
            else:
                boxes[i] = self._tracker.update(image).box
            seconds[i] = time.perf_counter() - start
            if visualize:
                from got10k.utils.viz import show_frame

                show_frame(Image.fromarray(image), boxes[i])
        return boxes, seconds


def _samples(image: Image.Image) -> np.ndarray:
    try:
        return pillow.samples(image)
    except ValueError as e:
        raise ChaseError(f"a picture of mode {image.mode} cannot become RGB: {e}") from None
