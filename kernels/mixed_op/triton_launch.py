"""Sizes of a call, packed weights, and the launches that forward and backward of the Triton backend share."""

from typing import NamedTuple

import torch
import triton
from torch import Tensor

from . import triton_depthwise, triton_norm, triton_pointwise
from .triton_tiles import SPAN

POOLS = ("max_pool_3x3", "avg_pool_3x3")  # the order of their tuples


class Blocks(NamedTuple):
    """Tile sizes. Products of 128 outputs leave registers and shared memory for two programs at a time."""

    elements: tuple[int, int]  # element-wise kernels: pixels, channels
    strips: tuple[int, int]  # depthwise kernels: strips, channels
    product: tuple[int, int, int, int]  # pixels, channels out, channels in, warps
    weights: tuple[int, int, int, int]  # the same

    @classmethod
    def of(cls, channels: int, dtype: torch.dtype) -> "Blocks":
        if channels < 64:
            return cls((32, 16), (16, 16), (32, 32, 32, 4), (32, 32, 32, 4))
        if dtype == torch.bfloat16:
            return cls((16, 64), (8, 64), (128, 128, 64, 8), (64, 128, 128, 8))
        return cls((16, 64), (8, 64), (64, 128, 16, 4), (32, 128, 64, 8))


class Maps(NamedTuple):
    """Sizes of the maps of one call."""

    images: int
    height: int
    width: int
    channels: int
    groups: int
    dtype: torch.dtype
    device: torch.device

    @classmethod
    def of(cls, x: Tensor, groups: int) -> "Maps":
        n, c, h, w = x.shape
        return cls(n, h, w, c, groups, x.dtype, x.device)

    @property
    def pixels(self) -> int:
        return self.images * self.height * self.width

    @property
    def rows(self) -> int:
        """Pixels of a BN group."""
        return self.pixels // self.groups

    @property
    def blocks(self) -> Blocks:
        return Blocks.of(self.channels, self.dtype)

    def empty(self, dtype: torch.dtype | None = None) -> Tensor:
        """[N, C, H, W] in channels_last memory"""
        shape = self.images, self.height, self.width, self.channels
        return torch.empty(shape, dtype=dtype or self.dtype, device=self.device).permute(0, 3, 1, 2)

    @property
    def strips(self) -> int:
        """Of a BN group: see triton_tiles.py."""
        return self.images // self.groups * self.height * triton.cdiv(self.width, SPAN)

    def scratch(self, count: int) -> tuple[Tensor, ...]:
        return tuple(self.empty() for _ in range(count))

    def table(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=self.device)

    def parts(self, count: int, tiles: int) -> Tensor:
        """Two sums per tile of a BN group of `count` maps: [2, count, G, tiles, C]."""
        return self.table(2, count, self.groups, tiles, self.channels)

    def grid(self, count: int) -> tuple[int, int, int]:
        """(tiles of a BN group, groups, maps x blocks of channels) of an element-wise kernel."""
        bm, bc = self.blocks.elements
        return triton.cdiv(self.rows, bm), self.groups, count * triton.cdiv(self.channels, bc)

    def strip_grid(self, count: int) -> tuple[int, int, int]:
        """The same of a depthwise kernel."""
        bm, bc = self.blocks.strips
        return triton.cdiv(self.strips, bm), self.groups, count * triton.cdiv(self.channels, bc)


class Weights:
    """Depthwise taps [E, k k, C] and pointwise [E, C, C] per stage, as the kernels read them."""

    def __init__(self, sizes: Maps, depthwise: list[Tensor], pointwise: list[Tensor]):
        self.taps: list[Tensor] = []
        self.pointwise = [t.contiguous() for t in pointwise]
        if not depthwise:
            return
        edges, channels = depthwise[0].shape[:2]
        counts = tuple(t.shape[-1] ** 2 for t in depthwise)
        packed = sizes.table(edges * channels * sum(counts))
        grid = (triton.cdiv(edges * channels, 128), len(counts))
        triton_depthwise.mixed_op_pack_taps_kernel[grid](
            tuple(t.contiguous() for t in depthwise),
            packed,
            edges * channels,
            channels,
            SIZES=counts,
            BLOCK=128,
        )
        parts = packed.split([edges * channels * count for count in counts])
        self.taps = [part.view(edges, count, channels) for part, count in zip(parts, counts)]
        if sizes.dtype != torch.float32:
            cast = sizes.table(len(pointwise), edges, channels, channels, dtype=sizes.dtype)
            count = cast[0].numel()
            grid = (triton.cdiv(count, 1024), len(pointwise))
            triton_pointwise.mixed_op_cast_kernel[grid](tuple(self.pointwise), cast, count, BLOCK=1024)
            self.pointwise = list(cast)


class Norm(NamedTuple):
    """An inner batch norm with its activation: gamma, beta [E, C]; mean, var [E, G, C]; ReLU is slope 0."""

    gamma: Tensor
    beta: Tensor
    mean: Tensor
    var: Tensor
    eps: float
    slope: float


def norm_arguments(norm: Norm | None, unused: Tensor) -> tuple:
    """(four tables, eps, slope) for a kernel that takes a norm; `unused` stands for the tables of none."""
    return ((unused,) * 4, 0.0, 0.0) if norm is None else (norm[:4], norm.eps, norm.slope)


def depthwise(
    sizes: Maps, xs, taps: Tensor, k: int, dilation: int, before: Norm | None
) -> tuple[Tensor, ...]:
    """DW of every edge, of act(BN(x)) where a norm comes before it."""
    outs, (bm, bc) = sizes.scratch(len(taps)), sizes.blocks.strips
    tables, eps, slope = norm_arguments(before, taps)
    triton_depthwise.mixed_op_depthwise_kernel[sizes.strip_grid(len(outs))](
        xs, outs, taps, *tables, sizes.strips, sizes.height, sizes.width, sizes.channels,
        K=k, DIL=dilation, NORM=before is not None, EPS=eps, SLOPE=slope, BM=bm, BC=bc,
    )  # fmt: skip
    return outs


def moment_parts(sizes: Maps, edges: int) -> Tensor:
    """Where `pointwise` leaves the moments of its tiles."""
    return sizes.parts(edges, triton.cdiv(sizes.rows, sizes.blocks.product[0]))


def pointwise(
    sizes: Maps, xs, weights: Tensor, transposed: bool = False, parts: Tensor | None = None
) -> tuple[Tensor, ...]:
    """xs[e] weights[e]^T (transposed: xs[e] weights[e]) of every edge, and their moments into `parts`."""
    bm, bn, bk, warps = sizes.blocks.product
    outs, moments = sizes.scratch(len(xs)), (weights, weights) if parts is None else parts
    tiles = triton.cdiv(sizes.rows, bm) * triton.cdiv(sizes.channels, bn)
    triton_pointwise.mixed_op_pointwise_kernel[(tiles, sizes.groups, len(xs))](
        xs, outs, weights, *moments, sizes.rows, sizes.channels,
        TRANSPOSED=transposed, MOMENTS=parts is not None, BM=bm, BN=bn, BK=bk, num_warps=warps,
    )  # fmt: skip
    return outs


def join_moments(sizes: Maps, parts: Tensor, size: int, means, variances) -> None:
    """parts: of tiles of `size` pixels; means, variances: tuples of tables [R, C]."""
    channels = sizes.channels
    rows = means[0].numel() // channels
    triton_norm.mixed_op_join_moments_kernel[(triton.cdiv(channels, 32), rows, len(means))](
        *parts, means, variances, sizes.rows, channels, parts.shape[3], BM=size, BT=64, BC=32
    )


def join_sums(sizes: Maps, parts: Tensor, totals: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """Two sums per group, [2, B, G, tiles, C] -> [2, B, G, C]; over all groups into the `totals` [B, C]."""
    edges = parts.shape[1]
    sums = sizes.table(2, edges, sizes.groups, sizes.channels)
    triton_norm.mixed_op_join_sums_kernel[(triton.cdiv(sizes.channels, 32), edges)](
        *parts, *sums, *(totals or sums), sizes.groups, sizes.channels, parts.shape[3],
        TOTALS=totals is not None, BT=64, BC=32,
    )  # fmt: skip
    return sums
