"""Launches of the Triton kernels of target_filter.

Tiles and numbers of programs follow from the sizes alone: about two programs for each of 132 multiprocessors.
A solver step is 2 launches where sequences fill the GPU and their frames fit in one tile (search), else up to
6 (tracking: one sequence, frames in runs whose sums are joined in order). float32 only: callers cast lower
precisions, and a finite difference needs more than they give.
"""

from dataclasses import dataclass

import torch
import triton
from torch import Tensor

from . import triton_products as products
from . import triton_solver as solver

FEWEST = 128  # programs that keep the GPU busy
WANTED = 264
FRAME_TILE = 2048  # cells of a tile with all frames of a sequence


def _images(features: Tensor) -> Tensor:
    """The same, with one stride over the pixels of an image; a copy only if rows are not evenly spaced."""
    height, width = features.shape[3:]
    even = height == 1 or width == 1 or features.stride(3) == width * features.stride(4)
    return features if even else features.contiguous()


def _block(size: int, most: int) -> int:
    """Rows or columns of a tile of a matrix product: a power of 2, at least 16."""
    return min(most, max(16, triton.next_power_of_2(size)))


def _pixel_block(features: Tensor, columns: int) -> int:
    """Pixels of a tile of an adjoint: registers hold the tile in two terms, and its addresses."""
    channels_last = features.stride(2) == 1
    return _block(features.shape[3] * features.shape[4], 64 if channels_last and columns <= 16 else 32)


@dataclass(frozen=True)
class Sizes:
    """Features [n, s, c, h, w] and k x k filters."""

    n: int
    s: int
    c: int
    h: int
    w: int
    k: int

    @property
    def pixels(self) -> int:
        return self.h * self.w

    @property
    def taps(self) -> int:
        return self.k * self.k

    @property
    def tap_block(self) -> int:
        """Columns of a tile with all taps of a filter."""
        return max(16, triton.next_power_of_2(self.taps))

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of a score map."""
        return self.h + (self.k + 1) % 2, self.w + (self.k + 1) % 2

    @property
    def cells(self) -> int:
        return self.size[0] * self.size[1]

    def channel_block(self) -> int:
        """Channels of a program that has all frames of a sequence."""
        most = 64 if self.s * triton.cdiv(self.c, 64) >= FEWEST else 32
        return _block(self.c, most)

    def fused(self) -> bool:
        """Programs for blocks of channels and sequences alone fill the GPU, or there are no more."""
        return self.n == 1 or self.s * triton.cdiv(self.c, self.channel_block()) >= FEWEST

    def chunk(self, programs: int) -> int:
        """Frames of a run, where there are `programs` for every run."""
        return triton.cdiv(self.n, min(self.n, triton.cdiv(WANTED, programs)))


def _sizes(features: Tensor, k: int) -> Sizes:
    n, s, c, h, w = features.shape
    return Sizes(n, s, c, h, w, k)


def _strides(features: Tensor) -> tuple[int, int, int, int]:
    """Of frames, sequences, channels and pixels; in an image of one column pixels are rows."""
    n, s, c, row, column = features.stride()
    return n, s, c, row if features.shape[4] == 1 else column


def _new(like: Tensor, *shape: int) -> Tensor:
    return torch.empty(shape, dtype=torch.float32, device=like.device)


def _adjoint_parts(features: Tensor, maps: Tensor, z: Sizes) -> Tensor:
    """maps [m, n, s, cells] -> [chunks, m, s, C, taps], a part for each run of frames."""
    m = len(maps)
    columns, block = m * z.taps, _block(z.c, 64)
    bn = _block(columns, 64)
    blocks, groups = triton.cdiv(z.c, block), triton.cdiv(columns, bn)
    chunk = z.chunk(blocks * groups * z.s)
    chunks = triton.cdiv(z.n, chunk)
    parts = _new(features, chunks, m, z.s, z.c, z.taps)
    products.target_filter_adjoint_kernel[(blocks, groups, chunks * z.s)](
        features, maps, parts, z.n, z.s, z.c, z.h, z.w, *_strides(features), chunk, columns,
        K=z.k, BC=block, BP=_pixel_block(features, bn), BN=bn, num_warps=8 if bn > 32 else 4,
    )  # fmt: skip
    return parts


def apply(features: Tensor, filters: Tensor) -> Tensor:
    """filters [m, s, C, k, k] -> [m, n, s, H', W']."""
    features, filters, z = _images(features), filters.contiguous(), _sizes(features, filters.shape[-1])
    m, images = len(filters), z.n * z.s
    scores = _new(features, m, z.n, z.s, *z.size)
    if scores.numel() == 0:
        return scores
    columns = m * z.taps
    bn, bp = _block(columns, 128), _block(z.pixels, 64)
    block = _block(z.c, 32 if bn > 32 else 64)
    tiles, groups = triton.cdiv(z.pixels, bp), triton.cdiv(columns, bn)
    blocks = triton.cdiv(z.c, block)
    each = triton.cdiv(blocks, min(blocks, triton.cdiv(WANTED, tiles * groups * images)))
    parts = triton.cdiv(blocks, each)
    partial = _new(features, parts, z.n, z.s, columns, z.pixels)
    products.target_filter_response_kernel[(tiles, parts * groups, images)](
        features, filters, partial, z.n, z.s, z.c, z.h, z.w, *_strides(features), each * block, groups,
        columns, K=z.k, BC=block, BP=bp, BN=bn, num_warps=8 if bn > 32 else 4,
    )  # fmt: skip
    run = _block(z.cells, 128)
    products.target_filter_fold_kernel[(triton.cdiv(z.cells, run), m, images)](
        partial, scores, images, m, parts, z.h, z.w, K=z.k, BM=run, BN=triton.next_power_of_2(z.taps)
    )
    return scores


def apply_transpose(features: Tensor, residual: Tensor, k: int) -> Tensor:
    """residual [m, n, s, H', W'] -> [m, s, C, k, k]."""
    features, residual, z = _images(features), residual.contiguous(), _sizes(features, k)
    parts = _adjoint_parts(features, residual, z).view(-1, len(residual), z.s, z.c, k, k)
    if len(parts) == 1:
        return parts[0]
    out = _new(features, *parts.shape[1:])
    products.target_filter_sum_kernel[(triton.cdiv(out.numel(), 256),)](
        parts, out, out.numel(), len(parts), BLOCK=256
    )
    return out


def features_gradient(features: Tensor, maps: Tensor, filters: Tensor) -> Tensor:
    """Gradient of sum_j <maps_j, score(features, filters_j)> to features, in their memory order.

    maps [m, n, s, H', W'], filters [m, s, C, k, k] -> like features.
    """
    out, z = torch.empty_like(features), _sizes(features, filters.shape[-1])
    to = _images(out)  # empty_like keeps dense orders and makes the others contiguous
    block, bp = _block(z.c, 64), _block(z.pixels, 64)
    grid = triton.cdiv(z.pixels, bp), triton.cdiv(z.c, block), z.n * z.s
    products.target_filter_features_grad_kernel[grid](
        maps.contiguous(), filters.contiguous(), to, z.n, z.s, len(maps), z.c, z.h, z.w, *_strides(to),
        K=z.k, BC=block, BP=bp, BN=z.tap_block, num_warps=4,
    )  # fmt: skip
    return out if to is out else out.copy_(to)


class _Launches:
    """What the launches of one solver call have in common; maps: [y] of PrDiMP, [y, m, v] of DiMP."""

    def __init__(self, features, maps, log_step, filter_reg, weight, k, min_reg, alpha_eps, softmax_reg):
        self.features, self.z = _images(features), _sizes(features, k)
        z = self.z
        self.log_step, self.filter_reg = log_step.contiguous(), filter_reg.contiguous()
        if weight is None:
            weight = torch.full((z.n, z.s), 1 / z.n, dtype=torch.float32, device=features.device)
        self.weight = weight.expand(z.n, z.s).contiguous()
        kl = len(maps) == 1
        maps = [t.contiguous() for t in maps]
        self.maps = maps * 3 if kl else maps  # the kernels of KL read the first alone
        self.fused = z.fused()
        block = z.channel_block() if self.fused else 16
        self.blocks = triton.cdiv(z.c, block)
        self.parts_count = self.blocks if self.fused else 1  # of responses
        self.filter_constants = {
            "MIN_REG": min_reg,
            "K": k,
            "BC": block,
            "BP": _pixel_block(self.features, z.tap_block),
            "BN": z.tap_block,
            "BM": _block(z.cells, 128),
            "num_warps": 4,
        }
        cells, frames = triton.next_power_of_2(z.cells), triton.next_power_of_2(z.n)
        tile = frames if frames * cells <= FRAME_TILE else 1
        # the two halves of a step, in one launch if a tile holds all frames of a sequence
        self.halves = ((True, True),) if tile >= z.n else ((True, False), (False, True))
        self.step_grid = triton.cdiv(z.n, tile), z.s
        self.step_sizes = z.n, z.s, z.cells, self.blocks
        self.step_constants = {
            "KL": kl,
            "HAS_EXTRA": softmax_reg is not None,
            "EXTRA": softmax_reg or 0.0,
            "MIN_REG": min_reg,
            "ALPHA_EPS": alpha_eps,
            "NB": tile,
            "CELLS": cells,
            "FRAMES": frames,
            "BLOCKS": triton.next_power_of_2(self.blocks),
            "num_warps": 16 if tile * cells >= 2048 else 8 if tile * cells >= 1024 else 4,
        }
        if self.fused:
            self.products = _new(features, self.blocks, z.n, z.s, z.taps, z.pixels)
            self.responses = _new(features, self.blocks, z.n, z.s, z.cells)
        else:
            self.products = self.responses = self.features  # unused

    def adjoint_parts(self, maps: Tensor) -> tuple[Tensor, int]:
        """(parts of X^T maps [n, s, H', W'], their number); not computed where the next launch does that."""
        if self.fused:
            return maps, 1
        parts = _adjoint_parts(self.features, maps.unsqueeze(0), self.z)
        return parts, len(parts)

    def filters(self, kernel, *tensors: Tensor, i: int, last: bool, chunks: int = 1) -> None:
        """Runs descend or ascend."""
        z = self.z
        kernel[(self.blocks, z.s)](
            self.features, *tensors, self.products, self.responses,
            i, z.n, z.s, z.c, z.h, z.w, *_strides(self.features),
            FUSED=self.fused, LAST=last, CHUNKS=chunks, **self.filter_constants,
        )  # fmt: skip

    def response_parts(self, filters: Tensor) -> Tensor:
        """Responses to filters [s, C, k, k], which a fused launch has left in parts."""
        return self.responses if self.fused else apply(self.features, filters.unsqueeze(0))


def solve(
    features: Tensor,
    filter: Tensor,
    maps: list[Tensor],
    log_step_length: Tensor,
    filter_reg: Tensor,
    sample_weight: Tensor | None,
    iterations: int,
    min_filter_reg: float,
    alpha_eps: float,
    softmax_reg: float | None = None,
) -> tuple[Tensor, ...]:
    """As native.solve."""
    constants = filter.shape[-1], min_filter_reg, alpha_eps, softmax_reg
    run = _Launches(features, maps, log_step_length, filter_reg, sample_weight, *constants)
    z, steps = run.z, iterations
    iterates, gradients = (_new(filter, count, *filter.shape) for count in (steps + 1, steps))
    scores, responses = (_new(filter, count, z.n, z.s, *z.size) for count in (steps + 1, steps))
    losses, residual = _new(filter, steps + 1), _new(filter, z.n, z.s, *z.size)
    factors, curvatures = _new(filter, max(steps, 1), z.s), _new(filter, z.n, z.s)
    data_losses = _new(filter, steps + 1, z.n, z.s)
    filter_squares, squares = _new(filter, steps + 1, z.s, run.blocks), _new(filter, z.s, run.blocks)

    def step(i: int, parts: Tensor, start: bool, curve: bool, move: bool) -> None:
        solver.target_filter_step_kernel[run.step_grid](
            parts, scores, responses, residual, *run.maps, run.weight, run.log_step, run.filter_reg,
            squares, curvatures, data_losses, factors, i, *run.step_sizes,
            START=start, CURVE=curve, MOVE=move, PARTS=1 if start else run.parts_count, **run.step_constants,
        )  # fmt: skip

    def descend(i: int, parts: Tensor, **options) -> None:
        tensors = residual, parts, iterates, gradients, factors, filter_squares, squares, run.filter_reg
        run.filters(solver.target_filter_descend_kernel, *tensors, i=i, **options)

    iterates[0].copy_(filter)
    step(-1, apply(run.features, iterates[:1]), True, False, False)
    for i in range(steps):
        parts, chunks = run.adjoint_parts(residual)
        descend(i, parts, last=False, chunks=chunks)
        found = run.response_parts(gradients[i])
        for curve, move in run.halves:
            step(i, found, False, curve, move)
    descend(steps, residual, last=True)
    solver.target_filter_losses_kernel[(steps + 1,)](
        data_losses, filter_squares, run.filter_reg, losses, z.n * z.s, z.s * run.blocks, z.s,
        MIN_REG=min_filter_reg, BLOCK=256,
    )  # fmt: skip
    return iterates, losses, gradients, scores, responses


def solve_backward(
    grad_iterates: Tensor,
    grad_losses: Tensor,
    features: Tensor,
    maps: list[Tensor],
    log_step_length: Tensor,
    filter_reg: Tensor,
    sample_weight: Tensor | None,
    iterates: Tensor,
    gradients: Tensor,
    scores: Tensor,
    responses: Tensor,
    want_features: bool,
    min_filter_reg: float,
    alpha_eps: float,
    softmax_reg: float | None = None,
) -> tuple[Tensor, Tensor, list[Tensor], Tensor, Tensor, Tensor]:
    """As native.solve_backward."""
    constants = iterates.shape[-1], min_filter_reg, alpha_eps, softmax_reg
    run = _Launches(features, maps, log_step_length, filter_reg, sample_weight, *constants)
    z, steps, size = run.z, len(gradients), scores.shape[1:]
    grad_iterates, grad_losses = grad_iterates.contiguous(), grad_losses.contiguous()
    adjoints, factor_filters = (_new(scores, count, *iterates.shape[1:]) for count in (steps + 1, steps))
    to_scores, factor_maps = _new(scores, max(steps, 1), *size), _new(scores, 2 * steps + 1, *size)
    through, frame_sums = factor_maps[2 * steps], _new(scores, 2, z.n, z.s)
    factors, to_squares, step_log, step_reg = (_new(scores, max(steps, 1), z.s) for _ in range(4))
    reg_parts = _new(scores, steps + 1, z.s, run.blocks)
    squares, dots = _new(scores, z.s, run.blocks), _new(scores, z.s, run.blocks)
    sums = [(_new(scores, len(maps), *size), _new(scores, z.n, z.s)) for _ in range(2)]  # read one, write one

    def step(i: int, parts: Tensor, through_it: bool, move: bool) -> None:
        (maps_in, weight_in), (maps_out, weight_out) = sums
        solver.target_filter_step_grad_kernel[run.step_grid](
            parts, scores, responses, *run.maps, run.weight, run.log_step, run.filter_reg, squares, dots,
            grad_losses, through, to_scores, frame_sums, maps_in, maps_out, weight_in, weight_out,
            factor_maps, factors, to_squares, step_log, step_reg, i, steps, *run.step_sizes,
            THROUGH=through_it, MOVE=move, LAST=i == steps, PARTS=run.parts_count, **run.step_constants,
        )  # fmt: skip
        sums.reverse()

    def ascend(i: int, parts: Tensor, **options) -> None:
        tensors = factor_maps[i], parts, iterates, gradients, adjoints, factor_filters, grad_iterates
        tables = grad_losses, factors, to_squares, run.filter_reg, reg_parts, squares, dots
        run.filters(solver.target_filter_ascend_kernel, *tensors, *tables, i=i, **options)

    ascend(steps, features, last=True)
    found = features  # not read
    for i in range(steps, 0, -1):
        for through_it, move in run.halves:
            step(i, found, through_it, move)
        parts, chunks = run.adjoint_parts(factor_maps[i - 1])
        ascend(i - 1, parts, last=False, chunks=chunks)
        found = run.response_parts(factor_filters[i - 1])
    step(0, found, True, False)
    grad_filter = adjoints[0] + apply_transpose(run.features, through.unsqueeze(0), z.k)[0]
    to_log, to_reg = _new(scores, 1), _new(scores, 1)
    solver.target_filter_scalars_grad_kernel[(1,)](
        step_log, step_reg, reg_parts, run.filter_reg, to_log, to_reg, steps * z.s, reg_parts.numel(),
        MIN_REG=min_filter_reg, BLOCK=256,
    )  # fmt: skip
    grad_features = features.new_empty(0)
    if want_features:
        filters = torch.cat((gradients, factor_filters, iterates[:1]))
        grad_features = features_gradient(features, factor_maps, filters)
    grad_maps, grad_weight = sums[0]
    return grad_features, grad_filter, [t.clone() for t in grad_maps], to_log, to_reg, grad_weight
