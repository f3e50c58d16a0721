"""What `Tracker` and `MultiTracker` share: a network ready for tracking, settings, a seed."""

from pathlib import Path
from typing import Any, Self

import torch

from chase_fast.checkpoint import load_tracker
from chase_fast.nn.tracker_net import TrackerNet, TrackerSpec
from chase_fast.track.network import Network
from chase_fast.track.settings import TrackSettings, settings_for


class Base:
    """Holds what one or many targets are tracked with.

    Args:
        net: any weights, any mode; it is copied, not changed.
        settings: None for the published ones of the spec.
        device: auto, cpu, cuda, cuda:1.
        seed: of the random boxes, shifts and dropped channels; together with the target and the frame it
            decides all of them.

    Raises:
        ChaseError: the net has no box regressor, or there is no such device.
    """

    def __init__(
        self,
        net: TrackerNet,
        spec: TrackerSpec,
        settings: TrackSettings | None = None,
        device: str | torch.device = "auto",
        seed: int = 0,
    ):
        self.spec, self.seed = spec, seed
        self.settings = settings or settings_for(spec)
        self._network = Network(net, device)

    @classmethod
    def load(
        cls,
        checkpoint: str | Path,
        preset: str = "accurate",
        device: str = "auto",
        seed: int = 0,
        **overrides: Any,
    ) -> Self:
        """A tracker from a checkpoint file; preset: one of PRESETS; overrides: fields of `TrackSettings`.

        Raises:
            ChaseError: unusable checkpoint, unknown preset or setting, no such device.
        """
        loaded = load_tracker(checkpoint)
        return cls(loaded.net, loaded.spec, settings_for(loaded.spec, preset, **overrides), device, seed)

    @property
    def device(self) -> torch.device:
        return self._network.device
