"""One frame for K targets: cut, one pass of the network, localise, refine, read back once, learn.

Up to the read-back everything is tensor operations on the device without a data-dependent branch, so that it
can be one CUDA graph (captured.py); places of targets are kept on the host, where the next windows are cut.
"""

import logging
import math
import time
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from chase_fast.kernels import localize
from chase_fast.kernels.localize import HARD_NEGATIVE, LOST, STATES, TRACKED
from chase_fast.nn.box_regressor import Pair
from chase_fast.track.frames import Box
from chase_fast.track.memory import Memory
from chase_fast.track.network import Network
from chase_fast.track.patch import Window, take
from chase_fast.track.refine import refine
from chase_fast.track.result import Result, State
from chase_fast.track.settings import STRIDE, TrackSettings
from chase_fast.track.target import Target, stacked

_LOG = logging.getLogger(__name__)
_LIMIT = 1e6  # px: what is farther or larger is no box


class Device(Protocol):
    """What runs on the device in a frame."""

    def prepare(self, targets: list[Target], frame: np.ndarray) -> None:
        """Makes what the first frame with these targets would have to wait for. frame: the one they are known
        in. Nothing changes."""

    def locate(
        self,
        frame: np.ndarray,
        windows: list[Window],
        geometry: np.ndarray,
        noise: np.ndarray,
        targets: list[Target],
    ) -> tuple[Tensor, Tensor]:
        """`locate` below for K windows of a frame; geometry [K, 9], noise [K, random boxes, 4]. What it
        returns is overwritten by the next call."""

    def update(self, start: Tensor, memory: Memory, iterations: int) -> Tensor:
        """The filter [C, k, k] after solver steps on the samples, from `start`."""


class Eager:
    """Runs everything as it comes; patches are cut on the host."""

    def __init__(self, network: Network, settings: TrackSettings):
        self._network, self._settings = network, settings

    def prepare(self, targets, frame) -> None:
        pass

    def locate(self, frame, windows, geometry, noise, targets) -> tuple[Tensor, Tensor]:
        network, settings = self._network, self._settings
        patches = np.stack([take(frame, w, settings.image_size) for w in windows])
        seen, where, uniform = map(network.upload, (patches, geometry, noise))
        return locate(network, seen, *stacked(targets), where, uniform, settings)

    def update(self, start, memory, iterations) -> Tensor:
        optimizer = self._network.classifier.filter_optimizer
        return optimizer(start[None], *memory.samples(), iterations)[0][-1, 0]


def where_to_look(
    targets: list[Target], frame: np.ndarray, settings: TrackSettings
) -> tuple[list[Window], np.ndarray, np.ndarray]:
    """Windows, geometry [K, 9] (columns of `localize.Geometry`), noise [K, random boxes, 4] of K targets."""
    windows = [t.window(frame) for t in targets]
    rows = [
        (*t.place.position, *t.place.size, *w.centre, w.scale(settings.image_size), *frame.shape[:2])
        for t, w in zip(targets, windows)
    ]
    noise = [t.random(t.frame).random((settings.random_boxes, 4)) for t in targets]
    return windows, np.array(rows), np.stack(noise)


@torch.no_grad()
def step(device: Device, targets: list[Target], frame: np.ndarray, settings: TrackSettings) -> list[Result]:
    """Tracks all targets into this frame and lets them learn from it."""
    if not targets:
        return []
    start = time.perf_counter()
    for target in targets:
        target.frame += 1
    windows, geometry, noise = where_to_look(targets, frame, settings)
    features, outcome = device.locate(frame, windows, geometry, noise, targets)
    values = outcome.tolist()  # the only wait for the device
    found = [
        _apply(device, *parts, frame.shape[:2], settings) for parts in zip(targets, values, features, windows)
    ]
    seconds = time.perf_counter() - start
    return [Result(t.place.box, score, state, seconds) for t, (state, score) in zip(targets, found)]


def locate(
    network: Network,
    patches: Tensor,
    filters: Tensor,
    modulation: Pair,
    geometry: Tensor,
    noise: Tensor,
    settings: TrackSettings,
) -> tuple[Tensor, Tensor]:
    """The part of a frame that runs on the device.

    Args:
        patches: [K, size, size, 3].
        filters, modulation: see `stacked`.
        geometry: [K, 9], the columns of `localize.Geometry`.
        noise: [K, random boxes, 4], uniform.

    Returns:
        features [K, C, h, w];
        [K, 7]: position (2), size (2), 1 if they come from refinement, state code, score.
    """
    features, maps = network.layers.frame(patches)
    scores = network.scores(features, filters)
    found, boxes = localize.start(scores, geometry, noise, settings, STRIDE, network.extra_logit)
    boxes, box_scores = refine(network.head, modulation, maps, boxes, settings)
    return features, localize.outcome(boxes, box_scores, found, geometry, settings)


def _apply(
    device: Device,
    target: Target,
    values: list[float],
    features: Tensor,
    window: Window,
    frame_hw: tuple[int, int],
    settings: TrackSettings,
) -> tuple[State, float]:
    """Moves a target to where it was found, and lets it learn if that is sure enough; state and score."""
    row, column, h, w, refined, code, score = values
    if not all(abs(v) < _LIMIT for v in values):  # NaN compares false
        if not target.warned:
            _LOG.warning("frame %d: NaN or boundless network output, the target counts as lost", target.frame)
            target.warned = True
        return STATES[LOST], score if math.isfinite(score) else 0.0
    if code == LOST:
        return STATES[LOST], score
    place = target.moved((row, column), (h, w), bool(refined))
    if not can_be(place.box, frame_hw, settings):
        return STATES[LOST], score
    target.place = place
    if code in (TRACKED, HARD_NEGATIVE):
        target.learn(features, window, code == HARD_NEGATIVE, device.update)
    return STATES[int(code)], score


def can_be(box: Box, frame_hw: tuple[int, int], settings: TrackSettings) -> bool:
    """Whether a box x, y, w, h can be that of a target in a frame of this size: `TrackSettings.lost_outside`,
    `.smallest_side` and `.largest_side`."""
    x, y, w, h = box
    rows, columns = frame_hw
    if settings.lost_outside and not (x < columns and y < rows and x + w > 0 and y + h > 0):
        return False
    if not min(w, h) >= settings.smallest_side:
        return False
    most = settings.largest_side
    return most is None or (w <= most * columns and h <= most * rows)
