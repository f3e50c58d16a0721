"""What `Tracker` and `MultiTracker` share: a network ready for tracking, settings, a seed."""

from pathlib import Path
from typing import Any, Self

import torch

from chase_fast.checkpoint import load_tracker
from chase_fast.engines.engine import Engine
from chase_fast.engines.folder import ExportedFolder, open_engine
from chase_fast.nn.spec import TrackerSpec
from chase_fast.nn.tracker_net import TrackerNet
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
        engine: what computes these: torch, openvino or onnxruntime (both on a CPU; they take seconds to
            convert the network), or auto, the fastest of those installed, which is measured.

    Raises:
        ChaseError: the net has no box regressor, or there is no such device, precision or engine.
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
        engine: str | Engine = "torch",
    ):
        self.spec, self.seed = spec, seed
        self.settings = settings or settings_for(spec, own=True)
        self._network = Network(net, device, precision, engine, self.settings.image_size)
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
        engine: str | None = None,
        **overrides: Any,
    ) -> Self:
        """A tracker from a checkpoint file, or a folder that `python -m chase_fast.export` made; preset: one
        of PRESETS; engine: None for torch, or for that of the folder; overrides: fields of `TrackSettings`.

        Raises:
            ChaseError: unusable checkpoint, unknown preset or setting, no such device, precision or engine.
        """
        exported = ExportedFolder.find(checkpoint)
        loaded = load_tracker(exported.checkpoint if exported else checkpoint)
        settings = settings_for(loaded.spec, preset, not loaded.public, **overrides)
        made, device = open_engine(exported, engine, settings.image_size, precision, device)
        return cls(loaded.net, loaded.spec, settings, device, seed, graphs, precision, made)

    @property
    def device(self) -> torch.device:
        return self._network.device

    @property
    def engine(self) -> str:
        """Name and version of the engine, empty for torch."""
        return self._network.layers.about

    @property
    def about(self) -> str:
        """Engine, device, precision and whether frames are CUDA graphs, in one line."""
        return self._network.about(self._graphs)
