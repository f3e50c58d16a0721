"""The network of the published search in plain torch: frozen backbone, neck, PrDiMP classifier, its loss.

As published, every pass runs the backbone on its images again, five times per iteration, and the neck on
train frames and test frames apart; the filter is a grouped convolution. Left out, to the good of this
baseline: the box branch, whose gradient is zero, the drawing of dropout masks, min and max of features that
nobody reads, and `.item()` calls.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.baselines import pool_boxes
from bench.published import Neck, Skip
from chase_fast.kernels.kl_loss.reference import label_density

MIN_FILTER_REG, ALPHA_EPS = 0.05, 0.05
STRIDE, ITERATIONS, K = 16, 5, 4


def apply_filter(features: Tensor, filters: Tensor) -> Tensor:
    """[n, s, C, H, W] with [s, C, k, k] -> scores [n, s, H', W']."""
    n, s, c, h, w = features.shape
    return F.conv2d(features.reshape(n, s * c, h, w), filters, padding=filters.shape[-1] // 2, groups=s)


def apply_transpose(features: Tensor, residual: Tensor) -> Tensor:
    """Adjoint: the channels are the batch, the residual [n, s, H', W'] the kernel -> [s, C, k, k]."""
    n, s, c, h, w = features.shape
    images = features.permute(2, 1, 0, 3, 4).reshape(c, s * n, h, w)
    return F.conv2d(images, residual.transpose(0, 1), padding=K // 2, groups=s).transpose(0, 1)


class FilterInitializer(nn.Module):
    def __init__(self, dim: int):
        super().__init__()
        self.filter_conv = nn.Conv2d(dim, dim, 3, padding=1)

    def forward(self, features: Tensor, boxes: Tensor) -> Tensor:
        n, s = features.shape[:2]
        maps = self.filter_conv(features.flatten(0, 1))
        pooled = pool_boxes(maps, boxes.flatten(0, 1).unsqueeze(1), K, 1 / STRIDE)
        return pooled.unflatten(0, (n, s)).mean(0)


class FilterOptimizer(nn.Module):
    def __init__(self, sigma: float):
        super().__init__()
        self.log_step_length = nn.Parameter(torch.zeros(1))
        self.filter_reg = nn.Parameter(torch.zeros(1))
        self.sigma = sigma

    def forward(self, filters: Tensor, features: Tensor, boxes: Tensor) -> list[Tensor]:
        n, s, _, h, w = features.shape
        centre = (boxes[..., :2] + boxes[..., 2:] / 2).flip(-1) / STRIDE
        density = label_density(centre, (h + 1, w + 1), self.sigma, 0.0, True, 0.0, 0.0)
        step, reg = self.log_step_length.exp(), (self.filter_reg**2).clamp(min=MIN_FILTER_REG**2)
        iterates = [filters]
        for _ in range(ITERATIONS):
            scores = apply_filter(features, filters)
            q = F.softmax(scores.view(n, s, -1), -1).view_as(scores)
            gradient = apply_transpose(features, (q - density) / n) + reg * filters
            response = apply_filter(features, gradient)
            product = q * response
            curvature = (product * response).sum((-2, -1)) - product.sum((-2, -1)) ** 2
            curvature = curvature.clamp(min=0).sum(0) / n
            squares = (gradient * gradient).sum((1, 2, 3))
            length = squares / (curvature + (reg + ALPHA_EPS) * squares).clamp(min=1e-8)
            filters = filters - (step * length).view(-1, 1, 1, 1) * gradient
            iterates.append(filters)
        return iterates


class Classifier(nn.Module):
    """Scores of the test frames for every iterate of the filter; names of the published checkpoints."""

    def __init__(self, dim: int, feature_size: int):
        super().__init__()
        self.scale = math.sqrt(1 / (dim * K**2))
        self.filter_initializer = FilterInitializer(dim)
        self.filter_optimizer = FilterOptimizer(feature_size / 20)

    def _normalise(self, x: Tensor) -> Tensor:
        squares = (x * x).sum((-3, -2, -1), keepdim=True)
        return x * (self.scale * (math.prod(x.shape[-3:]) / (squares + 1e-5)).sqrt())

    def forward(self, train: Tensor, test: Tensor, boxes: Tensor) -> list[Tensor]:
        train, test = self._normalise(train), self._normalise(test)
        iterates = self.filter_optimizer(self.filter_initializer(train, boxes), train, boxes)
        return [apply_filter(test, filters) for filters in iterates]


class Tracker(nn.Module):
    """Everything of one pass, from images [n, s, 3, H, W] to the loss."""

    def __init__(self, backbone: nn.Module, channels: int, flavour: str, feature_size: int):
        super().__init__()
        self.backbone = backbone.eval()
        self.neck = Neck(backbone.channels, channels, flavour)
        self.classifier = Classifier(4 * channels, feature_size)

    def train(self, mode: bool = True):
        super().train(mode)
        self.backbone.eval()
        return self

    def _features(self, images: Tensor, weights: Tensor, masks: list[Tensor] | None) -> Tensor:
        skips = [m for m in self.neck.modules() if isinstance(m, Skip)]
        for skip, mask in zip(skips, masks or [None] * len(skips)):
            skip.mask = mask
        layer2, layer3 = self.backbone(images.flatten(0, 1))
        return self.neck(layer2, layer3, weights).unflatten(0, images.shape[:2])

    def loss(self, alpha: Tensor, batch: dict) -> Tensor:
        """Classification loss; batch: images, boxes, density and masks of train and test frames."""
        weights = F.softmax(alpha, -1)
        train = self._features(batch["train_images"], weights, batch["train_masks"])
        test = self._features(batch["test_images"], weights, batch["test_masks"])
        losses = []
        for scores in self.classifier(train, test, batch["boxes"]):
            cross = (scores * batch["density"]).sum((-2, -1))
            losses.append((scores.flatten(-2).logsumexp(-1) - cross).mean())
        middle = sum(losses[1:-1]) / (len(losses) - 2)
        return 0.25 * losses[-1] + 0.25 * losses[0] + middle
