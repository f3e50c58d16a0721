"""Training samples of one target: features on the device, their weights on the host."""

import numpy as np
import torch
from torch import Tensor

from chase_fast.track.settings import TrackSettings


class Weights:
    """Which slot a new sample takes, and how much every sample counts.

    The first new sample gets the learning rate, every later one the weight of the one before over (1 - rate);
    then all are normalised: old samples fade exponentially. A full memory drops the sample that counts least;
    those of the first frame are never dropped and keep a share `init_weight` together.
    """

    def __init__(self, first: int, settings: TrackSettings):
        self.values = np.zeros(settings.memory)
        self.values[:first] = 1 / first
        self.first, self.count = first, first
        self._share = settings.init_weight
        self._newest: int | None = None

    def insert(self, rate: float) -> int:
        """Makes room for a sample with this learning rate; its slot."""
        values, first = self.values, self.first
        if self.count < len(values):
            slot = self.count
            self.count += 1
        else:
            slot = first + int(values[first:].argmin())
        if self._newest is None:
            values /= 1 - rate
            values[slot] = rate
        else:
            values[slot] = values[self._newest] / (1 - rate)
        values /= values.sum()
        if values[:first].sum() < self._share:
            values /= self._share + values[first:].sum()
            values[:first] = self._share / first
        self._newest = slot
        return slot


class Memory:
    """Samples of one target.

    features: [n, C, H, W] of the first frame's samples; boxes: [n, 4] px, on the host.
    """

    def __init__(self, features: Tensor, boxes: Tensor, settings: TrackSettings):
        n = features.shape[0]
        self.weights = Weights(n, settings)
        self.features = features.new_zeros((settings.memory, *features.shape[1:]))
        self.boxes = boxes.new_zeros((settings.memory, 4))
        self.features[:n], self.boxes[:n] = features, boxes

    def insert(self, features: Tensor, box: Tensor, rate: float) -> None:
        """features [C, H, W], box [4] px on the host."""
        slot = self.weights.insert(rate)
        self.features[slot], self.boxes[slot] = features, box

    def samples(self) -> tuple[Tensor, Tensor, Tensor]:
        """features [n, 1, C, H, W], boxes [n, 1, 4], weights [n, 1], as the filter's solver takes them."""
        n = self.weights.count
        boxes = self.boxes[:n].to(self.features.device, non_blocking=True)
        weights = torch.from_numpy(self.weights.values[:n]).to(self.features, non_blocking=True)
        return self.features[:n, None], boxes[:, None], weights[:, None]

    def table(self) -> Tensor:
        """Boxes and weights of all slots, [slots, 5] float64 on the host; an empty slot weighs 0."""
        return torch.cat((self.boxes.double(), torch.from_numpy(self.weights.values)[:, None]), 1)
