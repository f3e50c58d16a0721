"""Target classifier: InstanceL2Norm, filter initializer and the unrolled filter solvers of DiMP and PrDiMP.

Features are neck outputs [n, s, C, H, W] (frames x sequences), boxes [n, s, 4] as x, y, w, h in crop pixels.
A k x k filter gives (H+1) x (W+1) scores for even k, H x W for odd k; score index i stands for pixel
stride * i (even k) or stride * (i + 1/2) (odd k). Parameter names are those of the published checkpoints.
"""

import math

import torch
from torch import nn

from chase_fast.errors import ChaseError
from chase_fast.kernels import target_filter
from chase_fast.kernels.kl_loss import label_density
from chase_fast.kernels.prroi_pool.reference import axis_weights


class InstanceL2Norm(nn.Module):
    """x * scale * sqrt(C H W / (sum of squares + eps)) per image, over the last three dimensions."""

    def __init__(self, scale: float, eps: float = 1e-5):
        super().__init__()
        self.scale, self.eps = scale, eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        squares = x.square().sum((-3, -2, -1), keepdim=True)
        return x * (self.scale * (math.prod(x.shape[-3:]) / (squares + self.eps)).sqrt())


def score_centre(boxes: torch.Tensor, filter_size: int, stride: int = 16) -> torch.Tensor:
    """Centres of boxes [..., 4] (px) as (row, column) in score-index units, [..., 2]."""
    return (boxes[..., :2] + boxes[..., 2:] / 2).flip(-1) / stride - (filter_size % 2) / 2


class FilterInitializer(nn.Module):
    """Initial filter: 3x3 convolution, PrRoIPool k x k on the target box, mean over the frames.

    All three are linear, so the box is pooled first, once per shift of the 3x3 kernel, and the convolution is
    applied to k x k pooled values of the mean frame: the same result with n * H * W / k^2 times less work.

    Args:
        dim: feature channels.
        filter_size: k.
        stride: image pixels per feature cell.
        zero: start weight and bias at 0 (PrDiMP); else weight N(0, sqrt(2 / 9 dim)), bias 0 (DiMP).
    """

    def __init__(self, dim: int, filter_size: int = 4, stride: int = 16, zero: bool = True):
        super().__init__()
        self.filter_size, self.stride = filter_size, stride
        self.filter_conv = nn.Conv2d(dim, dim, 3, padding=1)
        nn.init.normal_(self.filter_conv.weight, std=0.0 if zero else math.sqrt(2 / (9 * dim)))
        assert self.filter_conv.bias is not None
        nn.init.zeros_(self.filter_conv.bias)

    def forward(self, features: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        """features [n, s, C, H, W], boxes [n, s, 4] -> filters [s, C, k, k]."""
        n, s, c, h, w = features.shape
        k = self.filter_size
        x, y, width, height = (boxes.flatten(0, 1).to(features.dtype) / self.stride).unbind(-1)
        weights_y, weights_x = _bin_means(y, height, k, h), _bin_means(x, width, k, w)  # [n s, k, cells]
        shifted_y, shifted_x = _shifts(weights_y), _shifts(weights_x)  # [n s, 3 k, H], [n s, 3 k, W]
        rows = shifted_y @ features.flatten(0, 1).permute(0, 2, 3, 1).flatten(2)  # [n s, 3 k, W C]
        pooled = shifted_x.unsqueeze(1) @ rows.unflatten(2, (w, c))  # [n s, 3 k, 3 k, C]
        mean = pooled.view(n, s, 3, k, 3, k, c).mean(0)  # [s, dy, p, dx, q, C]
        patches = mean.permute(0, 2, 4, 5, 1, 3).flatten(3)  # [s, k, k, 9 C] in the order of the kernel
        filters = nn.functional.linear(patches, self.filter_conv.weight.flatten(1)).permute(0, 3, 1, 2)
        covered = weights_y.sum(-1)[..., None] * weights_x.sum(-1)[:, None]  # share of a bin, [n s, k, k]
        bias = self.filter_conv.bias
        assert bias is not None
        return filters + covered.view(n, s, 1, k, k).mean(0) * bias.view(-1, 1, 1)


def _bin_means(start: torch.Tensor, size: torch.Tensor, bins: int, cells: int) -> torch.Tensor:
    """Weight of every cell in the mean over every bin of an axis, [R, bins, cells]; 0 for an empty box."""
    size = size.clamp(min=0)
    bin_size = size / bins
    empty = ~(bin_size > 0)
    inverse = (1 / bin_size.masked_fill(empty, 1)).masked_fill(empty, 0)  # `where` would copy from the host
    return axis_weights(start, size, bins, cells) * inverse[:, None, None]


def _shifts(weights: torch.Tensor) -> torch.Tensor:
    """Weights for pooling x[i - 1], x[i] and x[i + 1] (zero outside): [R, k, cells] -> [R, 3 k, cells]."""
    padded = nn.functional.pad(weights, (1, 1))  # the tap d reads x[i + d]: its weight moves to cell i + d
    return torch.cat([padded[..., 2:], padded[..., 1:-1], padded[..., :-2]], 1)


class PrDiMPOptimizer(nn.Module):
    """Learned constants of the PrDiMP solver; see `chase_fast.kernels.target_filter`.

    Args:
        iterations: steps unrolled.
        stride: image pixels per score cell.
        sigma: standard deviation of the label density in cells; 0 is one-hot.
        init_step_length, init_filter_reg: starting values of the learned scalars.
        min_filter_reg, alpha_eps, softmax_reg: constants of the solver.
        uniform_weight, label_shrink, label_threshold, normalize_label: of the label density.
    """

    def __init__(
        self,
        iterations: int = 5,
        stride: int = 16,
        sigma: float = 0.9,
        init_step_length: float = 1.0,
        init_filter_reg: float = 0.05,
        min_filter_reg: float = 0.05,
        alpha_eps: float = 0.05,
        softmax_reg: float | None = None,
        uniform_weight: float = 0.0,
        label_shrink: float = 0.0,
        label_threshold: float = 0.0,
        normalize_label: bool = True,
    ):
        super().__init__()
        self.log_step_length = nn.Parameter(torch.tensor([math.log(init_step_length)]))
        self.filter_reg = nn.Parameter(torch.tensor([float(init_filter_reg)]))
        self.iterations, self.stride, self.sigma = iterations, stride, sigma
        self.min_filter_reg, self.alpha_eps, self.softmax_reg = min_filter_reg, alpha_eps, softmax_reg
        self.uniform_weight, self.label_shrink = uniform_weight, label_shrink
        self.label_threshold, self.normalize_label = label_threshold, normalize_label

    def label(self, boxes: torch.Tensor, size: tuple[int, int], filter_size: int) -> torch.Tensor:
        """Label densities of boxes [n, s, 4] on score maps of `size`: [n, s, rows, columns]."""
        return label_density(
            score_centre(boxes, filter_size, self.stride),
            size,
            self.sigma,
            self.label_threshold,
            self.normalize_label,
            self.uniform_weight,
            self.label_shrink,
        )

    def forward(
        self,
        filter: torch.Tensor,
        features: torch.Tensor,
        boxes: torch.Tensor,
        sample_weight: torch.Tensor | None = None,
        iterations: int | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(iterates [iterations + 1, s, C, k, k], losses [iterations + 1]) from a start [s, C, k, k].

        features [n, s, C, H, W], boxes [n, s, 4], sample_weight [n, s | 1] (1/n each if None).
        """
        k = filter.shape[-1]
        return target_filter.solve_prdimp(
            features,
            filter,
            self.label(boxes, target_filter.score_size(features, k), k).to(features.dtype),
            self.log_step_length,
            self.filter_reg,
            sample_weight,
            iterations=self.iterations if iterations is None else iterations,
            min_filter_reg=self.min_filter_reg,
            alpha_eps=self.alpha_eps,
            softmax_reg=self.softmax_reg,
        )


def distance_basis(centre: torch.Tensor, size: tuple[int, int], bins: int, spacing: float) -> torch.Tensor:
    """Triangular bins of the distance r (cells) to a centre, max(0, 1 - |r/spacing - j|); the last saturates.

    centre [..., 2] (row, column) -> [..., bins, rows, columns].
    """
    rows = torch.arange(size[0], dtype=centre.dtype, device=centre.device)
    columns = torch.arange(size[1], dtype=centre.dtype, device=centre.device)
    radius = torch.hypot(
        (rows - centre[..., 0, None]).unsqueeze(-1), (columns - centre[..., 1, None]).unsqueeze(-2)
    )  # [..., rows, columns]
    index = torch.arange(bins, dtype=centre.dtype, device=centre.device).view(-1, 1, 1)
    offset = radius.unsqueeze(-3) / spacing - index
    hats = (1 - offset[..., :-1, :, :].abs()).clamp(min=0)
    return torch.cat((hats, (1 + offset[..., -1:, :, :]).clamp(0, 1)), -3)


class DiMPOptimizer(nn.Module):
    """Learned radial maps and constants of the DiMP solver; see `chase_fast.kernels.target_filter`.

    Args:
        iterations: steps unrolled.
        stride: image pixels per score cell.
        sigma: standard deviation of the initial label in cells.
        init_step_length, init_filter_reg: starting values of the learned scalars.
        min_filter_reg, alpha_eps: constants of the solver.
        bins, bin_spacing: number and spacing (cells) of the radial bins.
        mask_factor: size of the initial target-mask weights.
        mask_activation: sigmoid or linear.
    """

    def __init__(
        self,
        iterations: int = 5,
        stride: int = 16,
        sigma: float = 0.9,
        init_step_length: float = 0.9,
        init_filter_reg: float = 0.1,
        min_filter_reg: float = 1e-3,
        alpha_eps: float = 0.0,
        bins: int = 100,
        bin_spacing: float = 0.1,
        mask_factor: float = 3.0,
        mask_activation: str = "sigmoid",
    ):
        super().__init__()
        if mask_activation not in ("sigmoid", "linear"):
            raise ChaseError(f"unknown mask activation {mask_activation!r}, choose sigmoid or linear")
        self.log_step_length = nn.Parameter(torch.tensor([math.log(init_step_length)]))
        self.filter_reg = nn.Parameter(torch.tensor([float(init_filter_reg)]))
        self.iterations, self.stride, self.bins, self.bin_spacing = iterations, stride, bins, bin_spacing
        self.min_filter_reg, self.alpha_eps = min_filter_reg, alpha_eps
        linear = mask_activation == "linear"

        distance = torch.arange(bins) * bin_spacing
        label = (-0.5 * (distance / sigma) ** 2).exp()
        mask = mask_factor * torch.tanh(2 - distance) + (0.5 if linear else 0.0)
        self.label_map_predictor = _radial(label - label.min())
        self.target_mask_predictor = nn.Sequential(_radial(mask), nn.Identity() if linear else nn.Sigmoid())
        self.spatial_weight_predictor = _radial(torch.ones(bins))

    def maps(
        self, boxes: torch.Tensor, size: tuple[int, int], filter_size: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Label, target mask and spatial weight of boxes [n, s, 4], each [n, s, rows, columns]."""
        centre = score_centre(boxes, filter_size, self.stride).to(self.filter_reg.dtype)
        basis = distance_basis(centre, size, self.bins, self.bin_spacing).flatten(
            0, 1
        )  # [n s, bins, rows, columns]
        predictors = (self.label_map_predictor, self.target_mask_predictor, self.spatial_weight_predictor)
        label, mask, weight = (p(basis).view(*boxes.shape[:2], *size) for p in predictors)
        return label, mask, weight

    def forward(
        self,
        filter: torch.Tensor,
        features: torch.Tensor,
        boxes: torch.Tensor,
        sample_weight: torch.Tensor | None = None,
        iterations: int | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Same as `PrDiMPOptimizer.forward`."""
        k = filter.shape[-1]
        maps = self.maps(boxes, target_filter.score_size(features, k), k)
        label, target_mask, spatial_weight = (m.to(features.dtype) for m in maps)
        return target_filter.solve_dimp(
            features,
            filter,
            label,
            target_mask,
            spatial_weight,
            self.log_step_length,
            self.filter_reg,
            sample_weight,
            iterations=self.iterations if iterations is None else iterations,
            min_filter_reg=self.min_filter_reg,
            alpha_eps=self.alpha_eps,
        )


def _radial(weight: torch.Tensor) -> nn.Conv2d:
    """1x1 convolution of the radial bins to one map, with these weights."""
    conv = nn.Conv2d(len(weight), 1, 1, bias=False)
    conv.weight = nn.Parameter(weight.view(1, -1, 1, 1))
    return conv


class TargetClassifier(nn.Module):
    """Learns a target filter from train frames and scores test frames with every iterate.

    Args:
        dim: channels of the neck.
        kind: prdimp or dimp.
        feature_size: side of the training feature map in cells; the label's sigma is a twentieth of it.
        iterations: solver steps in `forward`.
        filter_size: k.
        stride: image pixels per feature cell.
        solver: further arguments of `PrDiMPOptimizer` or `DiMPOptimizer`.
    """

    def __init__(
        self,
        dim: int,
        kind: str = "prdimp",
        feature_size: int = 18,
        iterations: int = 5,
        filter_size: int = 4,
        stride: int = 16,
        **solver,
    ):
        super().__init__()
        if kind not in ("prdimp", "dimp"):
            raise ChaseError(f"unknown classifier {kind!r}, choose prdimp or dimp")
        self.kind = kind
        self.normalize = InstanceL2Norm(
            math.sqrt(1 / (dim * filter_size**2))
        )  # a filter window has norm about 1
        self.filter_initializer = FilterInitializer(dim, filter_size, stride, zero=kind == "prdimp")
        optimizer = PrDiMPOptimizer if kind == "prdimp" else DiMPOptimizer
        self.filter_optimizer = optimizer(iterations, stride, **({"sigma": feature_size / 20} | solver))

    def learn(
        self,
        features: torch.Tensor,
        boxes: torch.Tensor,
        sample_weight: torch.Tensor | None = None,
        iterations: int | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Filter iterates [iterations + 1, s, C, k, k], the initializer's first, and losses [iterations + 1].

        features [n, s, C, H, W] normalised, boxes [n, s, 4] px, sample_weight [n, s | 1] (1/n each if None).
        """
        start = self.filter_initializer(features, boxes)
        return self.filter_optimizer(start, features, boxes, sample_weight, iterations)

    def forward(
        self, train_features: torch.Tensor, test_features: torch.Tensor, train_boxes: torch.Tensor
    ) -> list[torch.Tensor]:
        """Scores of the test frames for the initial filter and after every iteration.

        Args:
            train_features: [n, s, C, H, W], from the neck (normalised here).
            test_features: [m, s, C, H, W].
            train_boxes: [n, s, 4] px.

        Returns: iterations + 1 maps [m, s, H', W'].
        """
        iterates, _ = self.learn(self.normalize(train_features), train_boxes)
        return list(target_filter.apply(self.normalize(test_features), iterates).unbind(0))
