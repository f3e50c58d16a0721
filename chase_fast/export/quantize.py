"""8-bit weights and maps for an OpenVINO model, by NNCF: post-training quantisation, per channel.

What the networks see is measured on search windows of a dataset, as the tracker cuts them.
"""

import contextlib
import io
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from chase_fast.data.packed import PackedSequence
from chase_fast.data.sources import open_sources
from chase_fast.engines.packages import need
from chase_fast.errors import ChaseError
from chase_fast.track.patch import search_window, take
from chase_fast.track.settings import TrackSettings
from chase_fast.track.target import Place

if TYPE_CHECKING:
    import openvino

WINDOWS, LEAST = 128, 32  # of a calibration; fewer frames with a target than LEAST are refused
PER_SEQUENCE = 4
_INSIDE = ("Constant", "Parameter", "Result")


def windows_of(spec: str, settings: TrackSettings) -> np.ndarray:
    """Search windows [n, size, size, 3] about annotated targets, 0..255, evenly over the sequences.

    Args:
        spec: a dataset, KIND:PATH[:SPLIT], as training takes it.

    Raises:
        ChaseError: unknown or damaged dataset, or too few frames with a target.
    """
    (source,) = open_sources(spec)
    sequences = source.sequences
    size, rng = settings.image_size, np.random.default_rng(0)
    patches: list[np.ndarray] = []
    chosen = np.linspace(0, len(sequences) - 1, min(len(sequences), WINDOWS)).round().astype(int)
    each = max(PER_SEQUENCE, -(-WINDOWS // max(1, len(chosen))))
    for number in chosen.tolist():
        if len(patches) >= WINDOWS:
            break
        sequence = sequences[number]
        visible = np.flatnonzero(sequence.visible)
        if isinstance(sequence, PackedSequence):
            raise ChaseError(f"--calibrate {spec}: it holds parts of frames, give what it was packed from")
        for i in sorted(rng.permutation(visible)[:each].tolist()):
            frame = sequence.frame(i)
            place = Place.of(tuple(sequence.boxes[i].tolist()), settings)
            side = place.scale * size
            window = search_window(place.position, side, frame.shape[:2], size, settings.border,
                                   settings.max_scale_change, settings.integer_window)  # fmt: skip
            patches.append(take(frame, window, size))
    if len(patches) < LEAST:
        raise ChaseError(
            f"--calibrate {spec}: {len(patches)} frames with a target are too few, it takes {LEAST}"
        )
    return np.stack(patches[:WINDOWS])


def quantized(model: "openvino.Model", patches: np.ndarray, whole: bool) -> "openvino.Model":
    """The model with 8-bit convolutions and products; whole: also those of the neck, which only the
    classification features need.

    Raises:
        ChaseError: the package nncf is missing.
    """
    with _silent():
        (nncf,) = need("nncf")
    given = model.clone()
    given.reshape([1, *patches.shape[1:]])
    scope = nncf.IgnoredScope() if whole else nncf.IgnoredScope(names=_neck(given))
    data = nncf.Dataset(patches, lambda patch: patch[None])
    with _silent():
        made = nncf.quantize(given, data, subset_size=len(patches), ignored_scope=scope)
    made.reshape([-1, *patches.shape[1:]])
    return made


def _neck(model: "openvino.Model") -> list[str]:
    """Names of the operations that only the features need."""

    def behind(name: str) -> set[str]:
        seen: set[str] = set()
        nodes = [model.output(name).get_node()]
        while nodes:
            node = nodes.pop()
            if node.get_friendly_name() not in seen:
                seen.add(node.get_friendly_name())
                nodes += [value.get_node() for value in node.input_values()]
        return seen

    own = behind("features") - behind("low") - behind("high")
    return [n.get_friendly_name() for n in model.get_ordered_ops()
            if n.get_friendly_name() in own and n.get_type_name() not in _INSIDE]  # fmt: skip


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """NNCF logs and draws bars of its own."""
    loggers = [logging.getLogger(name) for name in ("nncf", "torch.utils.cpp_extension")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        for logger, level in zip(loggers, before):
            logger.setLevel(level)
