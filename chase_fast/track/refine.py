"""Box refinement: gradient ascent of the box regressor's score over the coordinates of several boxes.

The maps are pooled once per box and the pooled vector is multiplied by the target's modulation (pooling is
linear per channel). The gradient is written out, no autograd runs. On a CPU the first layer of the head is
applied to the map's cells once for all steps (`kernels.pooled_linear`); on a GPU all steps are one call of
few launches (`kernels.box_ascent`).
"""

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from chase_fast.kernels.box_ascent import BINS, Head, box_ascent, pack
from chase_fast.kernels.pooled_linear import PooledLinear, worthwhile
from chase_fast.kernels.prroi_pool import prroi_pool, prroi_pool_rois_gradient
from chase_fast.nn.box_regressor import STRIDES, AtomIoUNet, Pair
from chase_fast.track.settings import TrackSettings


class BoxHead:
    """Score of boxes and its gradient; `net` has its batch norms folded (see `fold`).

    Boxes are [K, P, 4] as x0, y0, x1, y1 in patch px, maps and modulation those of K targets.
    """

    def __init__(self, net: AtomIoUNet):
        hidden = net.fc3_rt.linear.out_features
        self._layers = tuple((m.linear.weight, m.linear.bias) for m in (net.fc3_rt, net.fc4_rt))
        self._out = net.iou_predictor.weight[0].split(hidden)
        self._bias = net.iou_predictor.bias
        weight = self._layers[0][0]
        self._packed: Head | None = None
        if weight.device.type == "cuda":
            self._packed = pack(self._layers, self._out, self._bias)
        self._by_bin: tuple[Tensor, ...] = ()  # weights as [bins, C, hidden]
        if worthwhile(weight):
            self._by_bin = tuple(
                w.view(hidden, -1, n * n).permute(2, 1, 0).contiguous()
                for (w, _), n in zip(self._layers, BINS)
            )

    def ascend(
        self, modulation: Pair, maps: Pair, boxes: Tensor, steps: list[tuple[float, float]], relative: bool
    ) -> tuple[Tensor, Tensor] | None:
        """All steps (of position, of size) in one call, where that is made for the device: boxes [K, P, 4] as
        x, y, w, h and the scores before the last step."""
        if self._packed is None or not steps:
            return None
        scales = 1 / STRIDES[0], 1 / STRIDES[1]
        position, size = zip(*steps)
        return box_ascent(maps, modulation, self._packed, boxes, scales, position, size, relative)

    def on(self, modulation: Pair, maps: Pair) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
        """`score_and_gradient` for these maps, as a function of the corners; made for many calls."""
        maps = self._floats(maps)
        if not self._by_bin or type(maps[0]) is not Tensor:  # a fake one, in tracing, has no values
            return functools.partial(self.score_and_gradient, modulation, maps)
        layers = [
            [PooledLinear(f, w, 1 / s) for f, w, s in zip(of_target, self._by_bin, STRIDES)]
            for of_target in zip(*(x * m for x, m in zip(maps, modulation)))
        ]

        def score_and_gradient(corners: Tensor) -> tuple[Tensor, Tensor]:
            scores, gradients = zip(*(self._tabulated(pair, c) for pair, c in zip(layers, corners)))
            return torch.stack(scores), torch.stack(gradients)

        return score_and_gradient

    def _tabulated(self, layers: list[PooledLinear], corners: Tensor) -> tuple[Tensor, Tensor]:
        """Scores [P] and gradients [P, 4] for one target's corners [P, 4]."""
        regions = torch.nn.functional.pad(corners, (1, 0))
        score, gradients = self._bias, []
        for layer, (_, bias), out in zip(layers, self._layers, self._out):
            hidden = layer.values(regions) + bias
            score = score + hidden.relu() @ out
            gradients.append(layer.rois_gradient(regions, out * (hidden > 0)))
        low, high = gradients
        return score, (low + high)[:, 1:]

    def score(self, modulation: Pair, maps: Pair, corners: Tensor) -> Tensor:
        """[K, P]."""
        pooled = self._pool(self._floats(maps), _indexed(corners))
        return self._forward(modulation, pooled)[0].view(corners.shape[:2])

    def _floats(self, maps: Pair) -> Pair:
        """Maps of 16 bits are pooled in the type of the weights."""
        low, high = maps
        return low.to(self._bias.dtype), high.to(self._bias.dtype)

    def score_and_gradient(self, modulation: Pair, maps: Pair, corners: Tensor) -> tuple[Tensor, Tensor]:
        """Scores [K, P] and their gradients [K, P, 4] to x0, y0, x1, y1."""
        regions = _indexed(corners)
        pooled = self._pool(maps, regions)
        score, active = self._forward(modulation, pooled)
        gradients = []
        for i, (out, a, (weight, _), m, p) in enumerate(
            zip(self._out, active, self._layers, modulation, pooled)
        ):
            to_pooled = ((out * a) @ weight).view(m.shape[0], -1, *p.shape[1:]) * m[:, None]
            to_boxes = prroi_pool_rois_gradient(to_pooled.view(p.shape), maps[i], regions, p, 1 / STRIDES[i])
            gradients.append(to_boxes)
        low, high = gradients
        return score.view(corners.shape[:2]), (low + high)[:, 1:].view(corners.shape)

    def _pool(self, maps: Pair, regions: Tensor) -> list[Tensor]:
        """Two [K * P, C, bins, bins]."""
        return [prroi_pool(m, regions, (n, n), 1 / s) for m, n, s in zip(maps, BINS, STRIDES)]

    def _forward(self, modulation: Pair, pooled: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Scores [K * P] and which hidden units are active, two [K * P, hidden]."""
        score, active = self._bias, []
        for (weight, bias), out, m, p in zip(self._layers, self._out, modulation, pooled):
            scaled = p.view(m.shape[0], -1, *p.shape[1:]) * m[:, None]  # [K, P, C, bins, bins]
            hidden = torch.addmm(bias, scaled.view(p.shape[0], -1), weight.t())
            active.append(hidden > 0)
            score = score + hidden.relu() @ out
        return score, active


def _indexed(corners: Tensor) -> Tensor:
    k, p = corners.shape[:2]
    index = torch.arange(k, dtype=corners.dtype, device=corners.device)
    return torch.cat((index.repeat_interleave(p)[:, None], corners.flatten(0, 1)), 1)


def refine(
    head: BoxHead, modulation: Pair, maps: Pair, boxes: Tensor, settings: TrackSettings
) -> tuple[Tensor, Tensor]:
    """Refined boxes [K, P, 4] and their scores [K, P]; see `TrackSettings.score_after` for which scores.

    default space: x, y, w, h move by step * gradient * (w, h, w, h). relative: the gradient is one to
    (cx / w0, cy / h0, log w, log h), with w0, h0 of the first box, for all of them.
    """
    step = settings.step if isinstance(settings.step, tuple) else (settings.step,) * 2
    steps = []
    for _ in range(settings.refine_iterations):
        steps.append(step)
        step = step[0] * settings.step_decay, step[1] * settings.step_decay
    relative = settings.space == "relative"
    refined, score = head.ascend(modulation, maps, boxes, steps, relative) or _one_by_one(
        head, modulation, maps, boxes, steps, relative
    )
    if settings.score_after or not steps:
        corners = torch.cat((refined[..., :2], refined[..., :2] + refined[..., 2:]), -1)
        score = head.score(modulation, maps, corners)
    return refined, score


def _one_by_one(
    head: BoxHead,
    modulation: Pair,
    maps: Pair,
    boxes: Tensor,
    steps: list[tuple[float, float]],
    relative: bool,
) -> tuple[Tensor, Tensor]:
    centre, size = boxes[..., :2] + boxes[..., 2:] / 2, boxes[..., 2:]
    unit = size[:, :1]
    score = boxes.new_zeros(boxes.shape[:2])
    score_and_gradient = head.on(modulation, maps)
    for to_position, to_size in steps:
        corners = torch.cat((centre - size / 2, centre + size / 2), -1)
        score, gradient = score_and_gradient(corners)
        low, high = gradient[..., :2], gradient[..., 2:]
        if relative:
            centre = centre + to_position * unit.square() * (low + high)
            size = size * (to_size * size * (high - low) / 2).exp()
        else:
            corner = centre - size / 2 + to_position * size * (low + high)
            size = size + to_size * size * high
            centre = corner + size / 2
    return torch.cat((centre - size / 2, size), -1), score
