"""Sizes of a call, packed weights, and the launches that forward and backward of the Triton backend share."""

from typing import NamedTuple

import torch
import triton
from torch import Tensor

from . import triton_convolution, triton_norm

PROGRAMS = 264  # of a kernel that splits pixels into chunks: two per multiprocessor of an H100


class Blocks(NamedTuple):
    """Tile sizes: pixels x channels (stage: x output channels, and the channels of one product)."""

    pixels: int
    channels: int
    stage: tuple[int, int, int]  # pixels, out, in
    weights: tuple[int, int, int]  # pixels, out, in
    warps: int  # of the kernels with products

    @classmethod
    def of(cls, channels: int, dtype: torch.dtype) -> "Blocks":
        if channels < 64:
            return cls(32, 16, (32, 32, 32), (32, 32, 32), 4)
        out = min(256, triton.next_power_of_2(channels))
        if dtype == torch.bfloat16:
            return cls(16, 64, (64, out, 64), (64, out, 64), 8)
        return cls(16, 64, (64, min(out, 128), 32), (32, min(out, 128), 64), 8)


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

    def scratch(self, count: int) -> tuple[Tensor, ...]:
        return tuple(self.empty() for _ in range(count))

    def table(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=self.device)

    def tiles(self, size: int) -> int:
        """Of one BN group."""
        return triton.cdiv(self.rows, size)

    def parts(self, count: int, size: int) -> Tensor:
        """Two sums per tile of `size` pixels of `count` maps: [2, count, G, tiles, C]."""
        return self.table(2, count, self.groups, self.tiles(size), self.channels)


def channels_last(t: Tensor) -> Tensor:
    return t.contiguous(memory_format=torch.channels_last)


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
        triton_convolution.mixed_op_pack_taps_kernel[grid](
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
            triton_convolution.mixed_op_cast_kernel[grid](tuple(self.pointwise), cast, count, BLOCK=1024)
            self.pointwise = list(cast)


def stage(sizes, xs, outs, taps, pointwise, k, dilation, transposed=False, parts=None) -> None:
    bm, bn, bk = sizes.blocks.stage
    grid = (sizes.tiles(bm), sizes.groups, len(outs) * triton.cdiv(sizes.channels, bn))
    triton_convolution.mixed_op_stage_kernel[grid](
        xs, outs, taps, pointwise, *((taps, taps) if parts is None else parts), sizes.rows, sizes.height, sizes.width,
        sizes.channels, K=k, DIL=dilation, TRANSPOSED=transposed, MOMENTS=parts is not None,
        BM=bm, BN=bn, BK=bk, num_warps=sizes.blocks.warps,
    )  # fmt: skip


def join_moments(sizes: Maps, parts: Tensor, size: int, means, variances) -> None:
    """parts: of tiles of `size` pixels; means, variances: tuples of tables [R, C]."""
    channels = sizes.channels
    rows = means[0].numel() // channels
    triton_norm.mixed_op_join_moments_kernel[(triton.cdiv(channels, 32), rows, len(means))](
        *parts, means, variances, sizes.rows, channels, sizes.tiles(size), BM=size, BT=64, BC=32
    )


def join_sums(sizes: Maps, parts: Tensor) -> Tensor:
    """[2, E, G, tiles, C] -> [2, E, G + 1, C], the last row the sum over groups."""
    edges = parts.shape[1]
    sums = sizes.table(2, edges, sizes.groups + 1, sizes.channels)
    triton_norm.mixed_op_join_sums_kernel[(triton.cdiv(sizes.channels, 32), edges)](
        *parts, *sums, sizes.groups, sizes.channels, parts.shape[3], BT=64, BC=32
    )
    return sums


def elementwise_grid(sizes: Maps, count: int) -> tuple[int, int, int]:
    """(tiles, groups, edges x blocks) and the blocks of an element-wise kernel."""
    bm, bc = sizes.blocks.pixels, sizes.blocks.channels
    return sizes.tiles(bm), sizes.groups, count * triton.cdiv(sizes.channels, bc)


def inner_norm(sizes, ys, gamma, beta, mean, var, eps, slope) -> tuple[Tensor, ...]:
    """act(BN(y)) of every edge."""
    zs = sizes.scratch(len(ys))
    triton_norm.mixed_op_norm_kernel[elementwise_grid(sizes, len(ys))](
        ys, zs, gamma, beta, mean, var, sizes.rows, sizes.channels,
        EPS=eps, SLOPE=slope, BM=sizes.blocks.pixels, BC=sizes.blocks.channels,
    )  # fmt: skip
    return zs
