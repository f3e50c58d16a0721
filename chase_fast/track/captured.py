"""The two parts of tracking that run on the device, a frame and an update of the filter, as CUDA graphs.

A frame needs one upload of its pixels, one of a small table, one launch of the graph and one read-back; the
patches are cut on the device. Graphs are made per number of targets; the size of a frame does not matter: its
pixels lie at the beginning of a buffer that only grows. An update takes all slots of the memory, the empty
ones with weight 0: one graph serves a memory of any filling.
"""

import numpy as np
import torch
from torch import Tensor

from chase_fast.graphs import Graph
from chase_fast.kernels.crop_windows import COLUMNS, crop_windows
from chase_fast.kernels.localize import GEOMETRY
from chase_fast.track.memory import Memory
from chase_fast.track.network import Network
from chase_fast.track.patch import Window
from chase_fast.track.settings import TrackSettings
from chase_fast.track.step import locate, where_to_look
from chase_fast.track.target import Target, stacked


class Captured:
    """`step.Device` by graphs; without a GPU, or with `graphs=False`, the same functions run eagerly on the
    same buffers."""

    def __init__(self, network: Network, settings: TrackSettings, graphs: bool = True):
        self._network, self._settings, self._enabled = network, settings, graphs
        self._pinned = network.device.type == "cuda"
        self._pixels = torch.empty(0, dtype=torch.uint8)
        self._tables: dict[int, Tensor] = {}
        self._frame = Graph(self._locate, network.device, enabled=graphs)
        self._updates: dict[int, Graph] = {}

    @property
    def seconds(self) -> float:
        """What captures have taken so far."""
        return sum(graph.seconds for graph in (self._frame, *self._updates.values()))

    def prepare(self, targets: list[Target], frame: np.ndarray) -> None:
        """Captures what is not captured yet: in `init`, not in a frame that someone waits for."""
        if not targets:
            return
        settings, target = self._settings, targets[0]
        windows, geometry, noise = where_to_look(targets, frame, settings)
        self.locate(frame, windows, geometry, noise, targets)
        for iterations in {settings.update_iterations, settings.hard_negative_iterations} - {0}:
            self.update(target.filter, target.memory, iterations)

    @torch.no_grad()
    def locate(
        self,
        frame: np.ndarray,
        windows: list[Window],
        geometry: np.ndarray,
        noise: np.ndarray,
        targets: list[Target],
    ) -> tuple[Tensor, Tensor]:
        rows = np.array([w.row(frame.shape[:2]) for w in windows])
        table = self._table(np.concatenate((rows, geometry, noise.reshape(len(rows), -1)), 1))
        filters, (low, high) = stacked(targets)
        return self._frame(pixels=self._upload(frame), table=table, filters=filters, low=low, high=high)

    @torch.no_grad()
    def update(self, start: Tensor, memory: Memory, iterations: int) -> Tensor:
        if iterations not in self._updates:  # their number is part of the graph

            def solve(start: Tensor, features: Tensor, table: Tensor) -> Tensor:
                return self._solve(start, features, table, iterations)

            self._updates[iterations] = Graph(solve, self._network.device, enabled=self._enabled)
        update = self._updates[iterations]
        return update(start=start, features=memory.features, table=memory.table()).clone()

    def _locate(self, pixels: Tensor, table: Tensor, filters: Tensor, low: Tensor, high: Tensor):
        network, settings = self._network, self._settings
        rows, geometry, noise = table.split((len(COLUMNS), GEOMETRY, 4 * settings.random_boxes), 1)
        patches = crop_windows(pixels, rows.long(), settings.image_size).to(network.dtype)
        geometry, noise = geometry.to(network.dtype), noise.to(network.dtype)
        noise = noise.unflatten(1, (settings.random_boxes, 4))
        with network.arithmetic():
            return locate(network, patches, filters, (low, high), geometry, noise, settings)

    def _solve(self, start: Tensor, features: Tensor, table: Tensor, iterations: int) -> Tensor:
        boxes, weights = table.to(features.dtype).split((4, 1), 1)
        optimizer = self._network.classifier.filter_optimizer
        with self._network.arithmetic():
            return optimizer(start[None], features[:, None], boxes[:, None], weights, iterations)[0][-1, 0]

    def _upload(self, frame: np.ndarray) -> Tensor:
        """The frame in memory that is copied to the device without waiting. The frame before has been read by
        now: its results came back (nobody reads those of `prepare`)."""
        if self._pixels.numel() < frame.size:
            self._pixels = torch.zeros(frame.size, dtype=torch.uint8, pin_memory=self._pinned)
        plain = frame if frame.flags.writeable and frame.flags.c_contiguous else frame.copy()
        self._pixels[: frame.size].view(frame.shape).copy_(torch.from_numpy(plain))
        return self._pixels

    def _table(self, values: np.ndarray) -> Tensor:
        """Windows, geometry and noise of K targets in such memory, [K, columns] float64."""
        k = len(values)
        if k not in self._tables:
            self._tables[k] = torch.empty(values.shape, dtype=torch.float64, pin_memory=self._pinned)
        self._tables[k].copy_(torch.from_numpy(values))
        return self._tables[k]
