"""The tracker as the experiments of the got10k toolkit drive one."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from chase_fast.track.frames import to_rgb8
from chase_fast.track.tracker import Tracker


class GOT10kTracker:
    """Has what the toolkit's experiments use of `got10k.trackers.Tracker`, without needing that package:

        from got10k.experiments import ExperimentGOT10k
        experiment = ExperimentGOT10k("data/GOT-10k", subset="val")
        experiment.run(GOT10kTracker("best.safetensors"))
        experiment.report(["chase_fast"])

    name: of its folder of results. One seed gives one result, so the toolkit runs it once per sequence.
    options: preset, device, seed and settings, as `Tracker.load`, which also says what it raises.
    """

    is_deterministic = True

    def __init__(self, checkpoint: str | Path, name: str = "chase_fast", **options: Any):
        self.name = name
        self._tracker = Tracker.load(checkpoint, **options)

    def init(self, image: Image.Image, box: Sequence[float]) -> None:
        """Learns the target: a picture of any mode, box x, y, w, h in pixels.

        Raises:
            ChaseError: a box that is no target.
        """
        self._tracker.init(_rgb(image), box)

    def update(self, image: Image.Image) -> np.ndarray:
        """The target's box, float64 [4]: x, y, w, h."""
        return np.array(self._tracker.update(_rgb(image)).box)

    def track(
        self, img_files: Sequence[str], box: Sequence[float], visualize: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """One sequence: boxes [T, 4], the first one the given one, and seconds [T] of `init` and `update`,
        reading of files left out. visualize: shows every frame with the toolkit's own drawing."""
        boxes, seconds = np.zeros((len(img_files), 4)), np.zeros(len(img_files))
        boxes[0] = box
        for i, path in enumerate(img_files):
            with Image.open(path) as file:
                image = file.convert("RGB")
            start = time.perf_counter()
            if i == 0:
                self.init(image, box)
            else:
                boxes[i] = self.update(image)
            seconds[i] = time.perf_counter() - start
            if visualize:
                from got10k.utils.viz import show_frame

                show_frame(image, boxes[i])
        return boxes, seconds


def _rgb(image: Image.Image) -> np.ndarray:
    return to_rgb8(np.asarray(image if image.mode == "RGB" else image.convert("RGB")))
