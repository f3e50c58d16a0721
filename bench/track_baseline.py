"""A tracked frame in the structure of the published PyTorch tracker, in eager torch, for bench/track_fps.py.

NCHW modules in eval mode with every BatchNorm apart, the whole frame made a float tensor, the learned filter
as conv2d, box refinement by autograd through the pooling of modulated maps in every step, filter updates by
conv2d and its weight gradient. Written from a description of what it computes; weights and the target's state
are those of our tracker, so that results can be compared frame by frame. Where plain torch has several forms,
the faster is taken. Places of targets and the comparison of peaks, together below a millisecond, are our
functions.
"""

import copy

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.baselines import prroi_pool
from chase_fast.kernels.localize import Geometry
from chase_fast.kernels.localize.reference import best_box, clipped, compare_peaks, start_boxes
from chase_fast.kernels.mixed_op.reference import pool
from chase_fast.nn.backbone import MEAN, STD
from chase_fast.nn.box_regressor import STRIDES, rois
from chase_fast.nn.derived_cell import Operation, SepBlock
from chase_fast.nn.neck import DerivedNeck
from chase_fast.nn.tracker_net import TrackerNet
from chase_fast.track.patch import Window
from chase_fast.track.settings import STRIDE, TrackSettings
from chase_fast.track.target import Target

EPS, SLOPE = 1e-5, 0.01


class PlainBlock(nn.Module):
    """Depthwise and pointwise conv2d, BatchNorm2d and (leaky) ReLU as separate modules."""

    def __init__(self, block: SepBlock):
        super().__init__()
        channels, kernel = block.depthwise.shape[:2]
        padding = block.dilation * (kernel - 1) // 2
        self.flavour = block.flavour
        self.depthwise = nn.Conv2d(
            channels, channels, kernel, 1, padding, block.dilation, groups=channels, bias=False
        )
        self.pointwise = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels, EPS)
        self.depthwise.weight.data = block.depthwise.data[:, None].clone()
        self.pointwise.weight.data = block.pointwise.data[..., None, None].clone()
        for name in ("weight", "bias", "running_mean", "running_var"):
            getattr(self.norm, name).data = getattr(block.norm, name).data.clone()

    def forward(self, x: Tensor) -> Tensor:
        if self.flavour == "darts":
            return self.norm(self.pointwise(self.depthwise(F.relu(x))))
        return F.leaky_relu(self.norm(self.pointwise(self.depthwise(x))), SLOPE)


def plain_operation(operation: Operation):
    """One gene of a derived cell as plain modules."""
    if hasattr(operation, "blocks"):
        return nn.Sequential(*(PlainBlock(block) for block in operation.blocks))
    if operation.op == "skip_connect":
        return nn.Identity()
    return lambda x: pool(x, operation.op)


class PlainCell:
    """A derived neck in NCHW."""

    def __init__(self, neck: DerivedNeck):
        self.inputs = copy.deepcopy(neck.preprocess)
        self.genes = neck.cell.genes
        self.nodes = [[plain_operation(o) for o in node] for node in neck.cell.nodes]
        for node in self.nodes:
            for operation in node:
                if isinstance(operation, nn.Module):
                    operation.eval().requires_grad_(False)

    def __call__(self, layer2: Tensor, layer3: Tensor) -> Tensor:
        states = [module(x) for module, x in zip(self.inputs, (layer2, layer3))]
        for genes, operations in zip(self.genes, self.nodes):
            maps = [operation(states[source]) for (_, source), operation in zip(genes, operations)]
            states.append(sum(maps[1:], maps[0]))
        return torch.cat(states[2:], 1)


class Published:
    """The network and the steps of a frame; methods are the stages that the bench times.

    Args:
        net: in eval mode with its own BatchNorms; copied.
        dtype: float64 tells rounding from mistakes.
    """

    def __init__(self, net: TrackerNet, settings: TrackSettings, device: torch.device, dtype=torch.float32):
        net = copy.deepcopy(net).eval().requires_grad_(False)
        net = net.to(device, dtype, memory_format=torch.contiguous_format)
        self.net, self.settings, self.device, self.dtype = net, settings, device, dtype
        self.neck = PlainCell(net.neck) if isinstance(net.neck, DerivedNeck) else net.neck
        self.mean, self.std = (torch.tensor(v, dtype=dtype, device=device).view(3, 1, 1) for v in (MEAN, STD))

    def compiled(self) -> "Published":
        """Itself with backbone, neck and box maps by torch.compile; the rest of a frame stays eager."""
        self.net.feature_extractor = torch.compile(self.net.feature_extractor)
        self.neck = torch.compile(self.neck)
        self.net.bb_regressor.features = torch.compile(self.net.bb_regressor.features)
        return self

    def crop(self, frame: np.ndarray, window: Window) -> Tensor:
        """The patch [1, 3, size, size], normalised."""
        image = torch.from_numpy(frame).to(self.device).permute(2, 0, 1)[None].to(self.dtype)
        (oy, ox), n = window.first, window.every
        image = image[..., oy::n, ox::n]
        height, width = image.shape[2:]
        x0, y0, x1, y1 = window.x0, window.y0, window.x0 + window.width, window.y0 + window.height
        part = image[..., max(y0, 0) : min(y1, height), max(x0, 0) : min(x1, width)]
        border = max(-x0, 0), max(x1 - width, 0), max(-y0, 0), max(y1 - height, 0)
        part = F.pad(part, border, mode="replicate") if any(border) else part
        size = (self.settings.image_size,) * 2
        return (F.interpolate(part, size, mode="bilinear") / 255 - self.mean) / self.std

    def backbone(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self.net.feature_extractor(images)

    def features(self, maps: tuple[Tensor, Tensor]) -> Tensor:
        return self.net.classifier.normalize(self.neck(*maps))

    def scores(self, features: Tensor, target_filter: Tensor) -> Tensor:
        return F.conv2d(features, target_filter[None], padding=target_filter.shape[-1] // 2)[0]

    def localise(self, scores: Tensor, where: Geometry) -> tuple[Tensor, Tensor, Tensor]:
        """Position [1, 2], state [1], score [1]."""
        if self.settings.softmax:
            scores = scores.flatten(1).softmax(1).view_as(scores)
        movement, state, score = compare_peaks(scores, where, self.settings, STRIDE)
        return clipped(where.window + movement, where, self.settings), state, score

    def box_maps(self, maps: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return self.net.bb_regressor.features(*maps)

    def predict(self, modulation, maps, boxes: Tensor) -> Tensor:
        """Scores [1, P] of boxes [1, P, 4]: modulated maps are pooled."""
        regressor, hidden = self.net.bb_regressor, []
        heads = (regressor.fc3_rt, regressor.fc4_rt)
        for target, features, size, stride, head in zip(modulation, maps, (5, 3), STRIDES, heads):
            hidden.append(head(prroi_pool(features * target, rois(boxes), (size, size), 1 / stride)))
        return regressor.iou_predictor(torch.cat(hidden, 1)).view(boxes.shape[:2])

    def refine(self, modulation, maps, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes [1, P, 4] after gradient ascent by autograd, and the scores before the last step."""
        s, score = self.settings, None
        unit = boxes[:, :1, 2:]
        step = s.step
        for _ in range(s.refine_iterations):
            with torch.enable_grad():
                if s.space == "relative":
                    centre, size = boxes[..., :2] + boxes[..., 2:] / 2, boxes[..., 2:]
                    place = torch.cat((centre / unit, size.log()), -1).detach().requires_grad_()
                    size = place[..., 2:].exp()
                    score = self.predict(
                        modulation, maps, torch.cat((place[..., :2] * unit - size / 2, size), -1)
                    )
                else:
                    place = boxes.detach().requires_grad_()
                    score = self.predict(modulation, maps, place)
                score.backward(torch.ones_like(score))
            with torch.no_grad():
                if s.space == "relative":
                    moved = place + step * place.grad
                    size = moved[..., 2:].exp()
                    boxes = torch.cat((moved[..., :2] * unit - size / 2, size), -1)
                else:
                    boxes = place + step * place.grad * boxes[..., 2:].repeat(1, 1, 2)
            step *= s.step_decay
        return boxes, score.detach()

    def chosen(self, where: Geometry, boxes: Tensor, score: Tensor) -> tuple[Tensor, Tensor]:
        """Position and size (frame px) of the mean of the best boxes."""
        best, _ = best_box(boxes, score, self.settings)
        centre = (best[:, :2] + best[:, 2:] / 2).flip(1) - (0 if self.settings.half_pixel_offset else 0.5)
        middle = (self.settings.image_size - 1) / 2
        return (centre - middle) * where.scale + where.window, best[:, 2:].flip(1) * where.scale

    def first_boxes(self, where: Geometry, position: Tensor, noise: Tensor) -> Tensor:
        middle = (self.settings.image_size - 1) / 2
        extent = where.size / where.scale
        corner = (position - where.window) / where.scale + middle - (extent - 1) / 2
        return start_boxes(torch.cat((corner.flip(1), extent.flip(1)), 1), noise, self.settings)

    def update(self, target: Target, start: Tensor, iterations: int) -> Tensor:
        """The filter [C, k, k] after solver steps on all samples in the target's memory (PrDiMP)."""
        samples, boxes, weights = target.memory.samples()
        samples, optimizer, k = samples[:, 0], self.net.classifier.filter_optimizer, start.shape[-1]
        side = samples.shape[-1] + (k + 1) % 2
        density = optimizer.label(boxes, (side, side), k)[:, 0].flatten(1)
        regular = max(float(optimizer.filter_reg) ** 2, optimizer.min_filter_reg**2)
        filters, weights = start[None], weights[:, 0]
        for _ in range(iterations):
            scores = F.conv2d(samples, filters, padding=k // 2)
            q = scores.flatten(1).softmax(1)
            residual = (weights[:, None] * (q - density)).view_as(scores)
            gradient = torch.nn.grad.conv2d_weight(samples, filters.shape, residual, padding=k // 2)
            gradient = gradient + regular * filters
            response = F.conv2d(samples, gradient, padding=k // 2).flatten(1)
            curvature = (q * response.square()).sum(1) - (q * response).sum(1).square()
            squared = gradient.square().sum()
            bend = (weights * curvature.clamp(min=0)).sum() + (regular + optimizer.alpha_eps) * squared
            filters = filters - optimizer.log_step_length.exp() * squared / bend.clamp(min=1e-8) * gradient
        return filters[0]
