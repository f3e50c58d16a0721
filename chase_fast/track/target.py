"""One target: what is known of it, how it is learned from the first frame and from every later one."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from chase_fast.nn.box_regressor import Pair
from chase_fast.runs import stream
from chase_fast.track.augment import augmented
from chase_fast.track.frames import Box
from chase_fast.track.memory import Memory
from chase_fast.track.network import Network
from chase_fast.track.patch import Point, Window, box_in_patch, search_window, shrinkage, take
from chase_fast.track.settings import STRIDE, TrackSettings

# filter [C, k, k], samples, solver steps -> the filter after them
Update = Callable[[Tensor, Memory, int], Tensor]


@dataclass
class Place:
    """Where a target is, (row, column) and (h, w) in frame pixels; `scale`: frame px per patch px; `refined`:
    the last position that came from box refinement."""

    position: Point
    size: Point
    scale: float
    refined: Point | None = None

    @classmethod
    def of(cls, box: Box, settings: TrackSettings) -> "Place":
        x, y, w, h = box
        scale = math.sqrt(settings.search_area**2 * w * h) / settings.image_size
        return cls((y + (h - 1) / 2, x + (w - 1) / 2), (h, w), scale)

    @property
    def box(self) -> Box:
        (row, column), (h, w) = self.position, self.size
        return column - (w - 1) / 2, row - (h - 1) / 2, w, h


class Target:
    """Learned model of one target: filter [C, k, k], sample memory, box modulation (two [C, 1, 1]), place.

    Args:
        number: tells the random numbers of targets with one seed apart.
    """

    def __init__(
        self, network: Network, settings: TrackSettings, frame: np.ndarray, box: Box, seed: int, number: int
    ):
        self._network, self._settings, self._seed, self._number = network, settings, seed, number
        self.frame = 1  # number of the frame last seen
        self.warned = False  # about network output that is not finite: once is enough
        self.place = Place.of(box, settings)
        self._area = math.prod(self.place.size) / self.place.scale**2  # of the target in patch px
        with network.arithmetic():
            self._learn_first(frame)

    def random(self, frame: int) -> np.random.Generator:
        """The random numbers of this target in one frame."""
        return np.random.default_rng(stream(self._seed, "track", self._number, frame))

    @torch.no_grad()
    def _learn_first(self, frame: np.ndarray) -> None:
        network, settings, place = self._network, self._settings, self.place
        size, scale = settings.image_size, place.scale
        if settings.border == "inside" or (settings.shrink_first and settings.border == "inside_major"):
            scale /= shrinkage(scale * size, frame.shape[:2], settings.border, settings.max_scale_change)
        row, column = place.position
        centre: Point = (float(round(row)), float(round(column)))
        large = settings.expansion * size
        published = settings.first_box_offset
        window = search_window(
            centre,
            scale * large,
            frame.shape[:2],
            large,
            integer=settings.integer_window,
            thinning_offset=published,
        )
        if not published:
            centre, scale = window.centre, window.scale(large)
        rng = self.random(1)
        patches, turns, shifts = augmented(take(frame, window, large), settings, rng)
        features, maps = network.layers.first(network.upload(patches))
        box = np.array(box_in_patch(place.position, place.size, centre, scale, size))
        copies = np.tile(box, (len(shifts), 1))
        if not published:
            off = box[:2] + box[2:] / 2 - size / 2  # of the target from the middle of the patch
            copies[:, :2] += turns @ off - off
        copies[:, :2] += shifts
        copies = np.concatenate([copies, np.tile(box, (len(settings.dropouts), 1))])
        boxes = torch.from_numpy(copies).to(network.dtype)
        there = boxes.to(network.device)
        low, high = maps
        self.modulation = network.modulation((low[:1], high[:1]), there[:1])
        features = torch.cat(
            [features, *(self._dropped(features[:1], rate, rng) for rate in settings.dropouts)]
        )
        iterates, _ = network.classifier.learn(
            features[:, None].contiguous(), there[:, None], iterations=settings.init_iterations
        )
        self.filter = iterates[-1, 0]
        self.memory = Memory(features, boxes, settings)

    @staticmethod
    def _dropped(features: Tensor, rate: float, rng: np.random.Generator) -> Tensor:
        """features [1, C, h, w] with a share of the channels 0 and the others larger by as much."""
        kept = (rng.random(features.shape[1]) >= rate) / (1 - rate)
        return features * torch.from_numpy(kept).to(features)[:, None, None]

    def window(self, frame: np.ndarray) -> Window:
        """Where to look in the next frame. A target is put on a cell of the score map: with an odd number of
        cells plus filter taps the window moves by half a cell."""
        place, settings = self.place, self._settings
        odd = (settings.image_size // STRIDE + self._network.filter_size) % 2
        shift, (row, column) = odd * place.scale * STRIDE / 2, place.position
        return search_window(
            (row + shift, column + shift),
            place.scale * settings.image_size,
            frame.shape[:2],
            settings.image_size,
            settings.border,
            settings.max_scale_change,
            settings.integer_window,
            settings.thinning_offset,
        )

    def moved(self, position: Point, size: Point, refined: bool) -> Place:
        """Its place with a new position and, from refinement, a new size."""
        place, settings = self.place, self._settings
        if refined:
            return Place(position, size, math.sqrt(math.prod(size) / self._area), position)
        back = place.refined if place.refined and not settings.keep_position else position
        return Place(back, place.size, place.scale, place.refined)

    @torch.no_grad()
    def learn(self, features: Tensor, window: Window, hard_negative: bool, update: Update) -> None:
        """Stores the frame just tracked, features [C, h, w], and updates the filter where it is due."""
        settings, place = self._settings, self.place
        scale = window.scale(settings.image_size)
        box = box_in_patch(place.position, place.size, window.centre, scale, settings.image_size)
        rate = settings.hard_negative_rate if hard_negative else settings.learning_rate
        self.memory.insert(features, torch.tensor(box), rate)
        if hard_negative:
            iterations = settings.hard_negative_iterations
        elif (self.frame - 1) % settings.update_interval == 0:
            iterations = settings.update_iterations
        else:
            iterations = 0
        if iterations:
            self.filter = update(self.filter, self.memory, iterations)


def stacked(targets: list[Target]) -> tuple[Tensor, Pair]:
    """Filters [K, C, k, k] and modulation, two [K, C, 1, 1], of K targets."""
    if len(targets) == 1:
        return targets[0].filter[None], targets[0].modulation
    filters = torch.stack([t.filter for t in targets])
    low, high = zip(*(t.modulation for t in targets))
    return filters, (torch.cat(low), torch.cat(high))
