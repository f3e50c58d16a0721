"""Targets tracked by the native module and an engine: torch is not loaded.

An engine computes the convolutions; the rest of a frame is one native call on each side of them
(csrc/tracker), with the same random numbers as the torch form (step.py); boxes differ by rounding.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np

from chase_fast.engines.constants import Arrays, Numbers
from chase_fast.engines.outputs import FIRST, LATER, Engine
from chase_fast.errors import ChaseError
from chase_fast.kernels._native import native
from chase_fast.kernels._states import STATES
from chase_fast.threads import cpu_threads
from chase_fast.track.frames import Box
from chase_fast.track.result import Result
from chase_fast.track.settings import BORDERS, TrackSettings

if TYPE_CHECKING:
    from chase_fast.engines.folder import ExportedFolder

_LOG = logging.getLogger(__name__)


class NativeTarget:
    """One target; see `Native`."""

    def __init__(self, target: Any):
        self.native = target
        self.frame = 1  # number of the frame last seen
        self.warned = False  # about network output that is not finite: once is enough

    def move(self, box: Box) -> None:
        """Puts the target elsewhere, as the first frame would."""
        self.native.move(box)


class Native:
    """What targets are tracked with.

    Args:
        engine: computes `engines.frames.Frames`.
        constants, arrays: of `engines.constants.constants_of`.
        precision: of the engine, for `about`. stored: of the model's weights.

    Raises:
        ChaseError: there is no native module, or the constants are no tracker's.
    """

    def __init__(
        self,
        engine: Engine,
        settings: TrackSettings,
        constants: Numbers,
        arrays: Arrays,
        precision: str,
        stored: str = "fp32",
    ):
        self.engine, self._settings, self._precision, self._stored = engine, settings, precision, stored
        self._threads = cpu_threads()
        try:
            self._module = native()
        except ImportError as e:
            raise ChaseError(f"--engine {engine.about}: {e}") from None
        try:
            numbers = settings_numbers(settings)
            self._model = self._module.TrackerModel(numbers, constants, arrays, self._threads)
        except (ValueError, TypeError) as e:
            raise ChaseError(f"these constants are no tracker's: {str(e).splitlines()[0]}") from None

    @classmethod
    def of_folder(
        cls, folder: "ExportedFolder", settings: TrackSettings, engine: str | None, precision: str
    ) -> "Native":
        """Of what was exported; engine, precision: see `ExportedFolder.engine`."""
        made = folder.engine(engine, settings.image_size, precision)
        try:
            stored = folder.about.text("precision")
            return cls(made, settings, *folder.constants(), precision, stored)
        except ChaseError as e:
            raise ChaseError(f"{folder.path}: {e}; export again") from None

    @property
    def about(self) -> str:
        """Engine, threads and precision, in one line."""
        return on_cpu(self.engine.about, self._threads, self._precision, self._stored)

    def start(self, frame: np.ndarray, box: Box, seed: int, number: int) -> NativeTarget:
        """Learns a target from its box in the first frame; number: tells the random numbers of targets with
        one seed apart."""
        target = self._module.TrackerTarget(self._model, seed, number)
        patches = target.first(_packed(frame), box)
        features, low, high = self.engine.run(patches, FIRST)
        try:
            target.learn_first(features, low[0], high[0])
        except ValueError as e:  # shapes: a model of another network
            raise ChaseError(f"{self.engine.about}: the model is not that of these constants ({e})") from None
        return NativeTarget(target)

    def step(self, targets: Sequence[NativeTarget], frame: np.ndarray) -> list[Result]:
        """Tracks all targets into this frame and lets them learn from it."""
        if not targets:
            return []
        start = time.perf_counter()
        pixels, size = _packed(frame), self._settings.image_size
        patches = np.empty((len(targets), size, size, 3), np.float32)
        for target, patch in zip(targets, patches):
            target.frame += 1
            target.native.look(pixels, patch)
        features, low, high = self.engine.run(patches, LATER)
        try:
            found = [t.native.find(features[k : k + 1], low[k], high[k]) for k, t in enumerate(targets)]
        except ValueError as e:
            raise ChaseError(f"{self.engine.about}: the model is not that of these constants ({e})") from None
        seconds = time.perf_counter() - start
        for target, (*_, finite) in zip(targets, found):
            if not finite and not target.warned:
                text = "frame %d: NaN or boundless network output, the target counts as lost"
                _LOG.warning(text, target.frame)
                target.warned = True
        return [Result(tuple(box), score, STATES[state], seconds) for box, score, state, _ in found]


def on_cpu(engine: str, threads: int, precision: str, stored: str = "fp32") -> str:
    """Engine (empty for torch), threads and precision, in one line."""
    convolutions = "bf16 convolutions" if precision == "bf16" else precision
    if stored == "int8":
        convolutions = f"8-bit convolutions, the rest {precision}"
    by = f"{engine}, " if engine else ""
    return f"{by}cpu, {threads} thread{'s' if threads > 1 else ''}, {convolutions}"


def _packed(frame: np.ndarray) -> np.ndarray:
    return frame if frame.strides[1:] == (3, 1) else np.ascontiguousarray(frame)


def settings_numbers(settings: TrackSettings) -> Numbers:
    """All settings but their name, as `TrackerModel` takes them: see engines/constants.py."""
    numbers = {f.name: _flat(getattr(settings, f.name)) for f in fields(settings) if f.name != "name"}
    numbers["border"] = [BORDERS.index(settings.border)]
    numbers["relative"] = [settings.space == "relative"]
    del numbers["space"]
    step = settings.step
    numbers["step"] = list(step) if isinstance(step, tuple) else [step, step]
    return {name: [float(v) for v in values] for name, values in numbers.items()}


def _flat(value: Any) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, tuple):
        return [] if isinstance(value, str) else [value]
    return [number for item in value for number in _flat(item)]
