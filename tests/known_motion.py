"""Video in which targets move by known parts of a pixel, and a stand-in for the network that sees where they
are: what is left of an error is the geometry between frame and patch.

Coordinates are edges: the first pixel covers 0..1. A target is a Gaussian spot in the red channel, sampled at
the middles of pixels, 6 deviations wide and high; green and blue hold a texture of waves.
"""

import contextlib
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor

from chase_fast.track import MultiTracker, TrackSettings
from chase_fast.track.step import Eager

WIDE = 6  # deviations of the spot from one side of its box to the other


def spot(height: int, width: int, boxes: np.ndarray) -> np.ndarray:
    """A frame [height, width, 3] uint8 with spots in boxes [K, 4] (x, y, w, h)."""
    x, y = np.arange(width) + 0.5, np.arange(height)[:, None] + 0.5
    image = np.zeros((height, width, 3))
    for left, top, w, h in boxes:
        u, v = (x - left - w / 2) / (w / WIDE), (y - top - h / 2) / (h / WIDE)
        image[..., 0] += 255 * np.exp(-(u**2) / 2) * np.exp(-(v**2) / 2)
    image[..., 1] = 128 + 60 * np.sin(0.31 * x + 0.07 * y) * np.cos(0.23 * y)
    image[..., 2] = 128 + 50 * np.cos(0.17 * x - 0.29 * y)
    return np.rint(image).astype(np.uint8)


def path(x: float, y: float, w: float, h: float, frames: int) -> np.ndarray:
    """Boxes [frames, 4] of a target that moves by irrational parts of a pixel and passes all phases."""
    t = np.arange(frames)
    return np.stack([x + 2.7183 * t, y + 1.4142 * t, np.full(frames, w), np.full(frames, h)], 1)


def seen(patches: Tensor) -> Tensor:
    """Boxes [B, 4] (x, y, w, h, edges of the patch) of the spots in patches [B, S, S, 3]: from the first two
    moments of red."""
    red = patches[..., 0].double()
    total = red.sum((1, 2))
    place = torch.arange(red.shape[-1], dtype=torch.float64) + 0.5
    centre, size = [], []
    for profile in (red.sum(1), red.sum(2)):  # along x, along y
        middle = (profile * place).sum(1) / total
        spread = (profile * (place - middle[:, None]).square()).sum(1) / total
        centre.append(middle)
        size.append(WIDE * spread.sqrt())
    centre, size = torch.stack(centre, 1), torch.stack(size, 1)
    return torch.cat((centre - size / 2, size), 1)


class Head:
    """A box regressor whose score is highest at the box that is seen: minus the squared distance of centres,
    in units of the first box, and of the logarithms of sizes."""

    def ascend(self, *arguments) -> None:
        return None

    def on(self, modulation, maps) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
        true = seen(maps[0])[:, None]  # [K, 1, 4]

        def score_and_gradient(corners: Tensor) -> tuple[Tensor, Tensor]:
            place = corners.detach().double().requires_grad_()
            with torch.enable_grad():
                size = place[..., 2:] - place[..., :2]
                away = (place[..., :2] + place[..., 2:]) / 2 - true[..., :2] - true[..., 2:] / 2
                unit = corners.double()[:, :1, 2:] - corners.double()[:, :1, :2]
                score = -((away / unit).square() + (size / true[..., 2:]).log().square()).sum(-1)
                (gradient,) = torch.autograd.grad(score.sum(), place)
            return score.detach().to(corners), gradient.to(corners)

        return score_and_gradient


class Sight:
    """In place of `chase_fast.track.network.Network`. learned: patches and boxes of the last first frame."""

    device, dtype, extra_logit = torch.device("cpu"), torch.float32, None

    def __init__(self, filter_size: int = 4):
        self.filter_size, self.head = filter_size, Head()
        self.classifier = SimpleNamespace(learn=self._learn)
        self.learned: tuple[Tensor, Tensor]

    def upload(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).to(self.dtype)

    def arithmetic(self):
        return contextlib.nullcontext()

    @property
    def layers(self) -> "Sight":
        return self

    def first(self, patches: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        return self._features(patches), (patches, patches)

    frame = first

    def modulation(self, maps, boxes) -> tuple[Tensor, Tensor]:
        return tuple(torch.zeros(len(boxes), 1, 1, 1) for _ in range(2))

    def _features(self, patches: Tensor) -> Tensor:
        """Mean red about each cell of the score map, [B, 1, S, S]."""
        self._patches = patches
        pad = 8 * (1 - self.filter_size % 2)
        red = patches[..., 0][:, None] / 255
        return torch.nn.functional.avg_pool2d(red, 16, padding=pad, count_include_pad=False)

    def scores(self, features: Tensor, filters: Tensor) -> Tensor:
        return features[:, 0]

    def _learn(self, features: Tensor, boxes: Tensor, iterations: int):
        self.learned = self._patches, boxes[:, 0]
        return torch.zeros(1, 1, 1, self.filter_size, self.filter_size), None


class Watcher(MultiTracker):
    """The tracker with `Sight` for a network."""

    def __init__(self, settings: TrackSettings, device=Eager, filter_size: int = 4):
        self.spec, self.settings, self.seed = None, settings, 0
        self._network = Sight(filter_size)
        self._device = device(self._network, settings)
        self._targets, self._started = None, 0

    def follow(self, frames: list[np.ndarray], boxes: np.ndarray) -> np.ndarray:
        """Boxes [T - 1, K, 4] found from the first ones [K, 4] on; every frame is tracked."""
        self.init(frames[0], boxes)
        results = [self.update(frame) for frame in frames[1:]]
        assert all(r.state == "tracked" for found in results for r in found)
        return np.array([[r.box for r in found] for found in results])


def centre_errors(found: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Found less true centres (x, y), px."""
    return found[..., :2] + found[..., 2:] / 2 - true[..., :2] - true[..., 2:] / 2
