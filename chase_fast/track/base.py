"""What `Tracker` and `MultiTracker` share: a network ready for tracking, settings, a seed."""

from pathlib import Path
from typing import Any, Self

import torch

from chase_fast.checkpoint import load_tracker
from chase_fast.nn.tracker_net import TrackerNet, TrackerSpec
from chase_fast.track.captured import Captured
from chase_fast.track.network import Network
from chase_fast.track.settings import TrackSettings, settings_for
from chase_fast.track.step import Device, Eager


class Base:
    """Holds what one or many targets are tracked with.

    Args:
        net: any weights, any mode; it is copied, not changed.
        settings: None for those of a network trained here (`settings_for`).
        device: auto, cpu, cuda, cuda:1.
        seed: of the random boxes, shifts and dropped channels; together with the target and the frame it
            decides all of them.
        graphs: on a GPU a frame is one CUDA graph and an update of the filter another, captured in `init`
            (the first one takes seconds). False launches every kernel by itself.
        precision: fp32, or bf16 for the convolutions of backbone, neck and box maps.

    Raises:
        ChaseError: the net has no box regressor, or there is no such device or precision.
    """

    def __init__(
        self,
        net: TrackerNet,
        spec: TrackerSpec,
        settings: TrackSettings | None = None,
        device: str | torch.device = "auto",
        seed: int = 0,
        graphs: bool = True,
        precision: str = "fp32",
    ):
        self.spec, self.seed = spec, seed
        self.settings = settings or settings_for(spec, own=True)
        self._network = Network(net, device, precision)
        self._graphs = graphs
        on_gpu = self._network.device.type == "cuda"
        self._device: Device = (
            Captured(self._network, self.settings, graphs) if on_gpu else Eager(self._network, self.settings)
        )

    @classmethod
    def load(
        cls,
        checkpoint: str | Path,
        preset: str = "accurate",
        device: str = "auto",
        seed: int = 0,
        graphs: bool = True,
        precision: str = "fp32",
        **overrides: Any,
    ) -> Self:
        """A tracker from a checkpoint file; preset: one of PRESETS; overrides: fields of `TrackSettings`.

        Raises:
            ChaseError: unusable checkpoint, unknown preset or setting, no such device or precision.
        """
        loaded = load_tracker(checkpoint)
        settings = settings_for(loaded.spec, preset, not loaded.public, **overrides)
        return cls(loaded.net, loaded.spec, settings, device, seed, graphs, precision)

    @property
    def device(self) -> torch.device:
        return self._network.device

    @property
    def about(self) -> str:
        """Device, precision and whether frames are CUDA graphs, in one line."""
        return self._network.about(self._graphs)
