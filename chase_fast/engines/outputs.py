"""What every engine's model gives, by name and order. Free of torch, as all that runs an exported folder."""

from typing import Protocol

import numpy as np

# of a first frame and of later ones; shapes: `frames.Frames`
FIRST, LATER = ("features", "reference_low", "reference_high"), ("features", "low", "high")
OUTPUTS = ("features", "low", "high", "reference_low", "reference_high")


class Engine(Protocol):
    """What `OpenVINO` and `OnnxRuntime` are."""

    @property
    def about(self) -> str:
        """Engine and version."""

    def run(self, patches: np.ndarray, outputs: tuple[str, ...] = OUTPUTS) -> list[np.ndarray]:
        """Results by name for patches [B, size, size, 3], float32; the next call may overwrite them."""
