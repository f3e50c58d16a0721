"""What `Tracker` and `MultiTracker` share: a network ready for tracking, settings, a seed.

Two forms do the work: the torch form (network.py, step.py), on a CPU or a GPU, and the native form
(native.py) with another engine. Neither is loaded before it is needed.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from chase_fast.engines import ENGINES
from chase_fast.errors import ChaseError
from chase_fast.nn.spec import TrackerSpec
from chase_fast.track.frames import Box
from chase_fast.track.result import Result
from chase_fast.track.settings import TrackSettings, settings_for

if TYPE_CHECKING:
    import torch

    from chase_fast.engines.folder import ExportedFolder
    from chase_fast.engines.outputs import Engine
    from chase_fast.nn.tracker_net import TrackerNet
    from chase_fast.track.native import Native
    from chase_fast.track.network import Network
    from chase_fast.track.step import Device


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

    _network: "Network"
    _device: "Device"
    _native: "Native | None" = None
    exported: "ExportedFolder | None" = None  # what it was loaded from, if that is tracked with

    def __init__(
        self,
        net: "TrackerNet",
        spec: TrackerSpec,
        settings: TrackSettings | None = None,
        device: "str | torch.device" = "auto",
        seed: int = 0,
        graphs: bool = True,
        precision: str = "fp32",
        engine: "str | Engine" = "torch",
    ):
        self.spec, self.seed = spec, seed
        self.settings = settings or settings_for(spec, own=True)
        self._graphs = graphs
        if engine == "auto":
            from chase_fast.track.fastest import fastest

            engine = fastest(net, self.settings.image_size, device, precision)
        if engine == "torch":
            self._by_torch(net, device, precision)
            return
        from chase_fast.engines.constants import constants_of
        from chase_fast.engines.engine import make_engine
        from chase_fast.track.native import Native

        if isinstance(engine, str):
            _check_device(engine, device)
            engine = make_engine(engine, net, self.settings.image_size, precision)
        self._native = Native(engine, self.settings, *constants_of(net), precision)

    def _by_torch(self, net: "TrackerNet", device: "str | torch.device", precision: str) -> None:
        from chase_fast.track.captured import Captured
        from chase_fast.track.network import Network
        from chase_fast.track.step import Eager

        network = self._network = Network(net, device, precision)
        on_gpu = network.device.type == "cuda"
        self._device = (
            Captured(network, self.settings, self._graphs) if on_gpu else Eager(network, self.settings)
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
        """A tracker from a checkpoint file, or from a folder of `python -m chase_fast.export`, which needs no
        torch; preset: one of PRESETS; engine: None for torch, or for that of the folder;
        overrides: fields of `TrackSettings`.

        Raises:
            ChaseError: unusable checkpoint, unknown preset or setting, no such device, precision or engine.
        """
        from chase_fast.engines.folder import ExportedFolder

        exported = ExportedFolder.find(checkpoint)
        if exported is not None and engine != "torch":
            from chase_fast.track.native import Native

            _check_device(exported.engine_name(engine), device)
            settings = settings_for(exported.spec, preset, not exported.public, **overrides)
            tracker = cls.__new__(cls)
            tracker.spec, tracker.settings, tracker.seed = exported.spec, settings, seed
            tracker.exported = exported
            tracker._native = Native.of_folder(exported, settings, engine, precision)
            return tracker
        from chase_fast.checkpoint import load_tracker

        loaded = load_tracker(exported.checkpoint if exported else checkpoint)
        settings = settings_for(loaded.spec, preset, not loaded.public, **overrides)
        return cls(loaded.net, loaded.spec, settings, device, seed, graphs, precision, engine or "torch")

    @property
    def device(self) -> "torch.device | str":
        """Where the network runs; cpu with an engine."""
        return "cpu" if self._native else self._network.device

    @property
    def on_gpu(self) -> bool:
        """Whether the device is a CUDA device."""
        return not self._native and self._network.device.type == "cuda"

    @property
    def engine(self) -> str:
        """Name and version of the engine, empty for torch."""
        return self._native.engine.about if self._native else ""

    @property
    def about(self) -> str:
        """Engine, device, precision and whether frames are CUDA graphs, in one line."""
        return self._native.about if self._native else self._network.about(self._graphs)

    def _learn(self, frame: np.ndarray, box: Box, number: int) -> Any:
        """A new target; number: tells the random numbers of targets with one seed apart."""
        if self._native:
            return self._native.start(frame, box, self.seed, number)
        from chase_fast.track.target import Target

        return Target(self._network, self.settings, frame, box, self.seed, number)

    def _prepare(self, targets: list[Any], frame: np.ndarray) -> None:
        """Makes what the first frame with these targets would have to wait for."""
        if not self._native:
            self._device.prepare(targets, frame)

    def _step(self, targets: Sequence[Any], frame: np.ndarray) -> list[Result]:
        """Tracks the targets into this frame and lets them learn from it."""
        if self._native:
            return self._native.step(targets, frame)
        from chase_fast.track.step import step

        return step(self._device, list(targets), frame, self.settings)


def _check_device(engine: str, device: "str | torch.device") -> None:
    if engine not in ENGINES:
        raise ChaseError(f"--engine {engine} is unknown, choose from {', '.join(ENGINES)}")
    if str(device) not in ("auto", "cpu"):
        raise ChaseError(f"--engine {engine} runs on a CPU: add --device cpu")
