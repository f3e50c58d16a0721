"""Gradients of the `triton` backend; only what is wanted is computed."""

import torch
import triton
from torch import Tensor

from . import triton_convolution, triton_norm, triton_pool
from .triton_launch import (
    PROGRAMS,
    Maps,
    Weights,
    channels_last,
    elementwise_grid,
    inner_norm,
    join_sums,
    stage,
)


def _join_parts(part: Tensor, out: Tensor, channels: int, taps: int) -> None:
    grid = (triton.cdiv(out.numel(), 256),)
    triton_convolution.mixed_op_join_parts_kernel[grid](
        part, out, out.numel(), len(part), channels, TAPS=taps, BLOCK=256
    )


def _chunks(sizes: Maps, programs: int, size: int) -> tuple[int, int]:
    """(chunks, pixels of one, a multiple of size) so that about PROGRAMS programs share the pixels."""
    tiles = triton.cdiv(sizes.pixels, size)
    chunk = triton.cdiv(tiles, max(1, min(tiles, triton.cdiv(PROGRAMS, programs))))
    return triton.cdiv(tiles, chunk), chunk * size


def _pointwise_weights(sizes, xs, grads, taps, to: Tensor, k: int, dilation: int) -> None:
    """to [E, C, C] = sum over pixels of grad x DW(x)."""
    bm, bo, bi = sizes.blocks.weights
    blocks = triton.cdiv(sizes.channels, bo) * triton.cdiv(sizes.channels, bi)
    chunks, chunk = _chunks(sizes, blocks * len(grads), bm)
    part = sizes.table(chunks, *to.shape)
    triton_convolution.mixed_op_pointwise_weights_kernel[(blocks, chunks, len(grads))](
        xs, grads, taps, part, sizes.pixels, chunk, sizes.height, sizes.width, sizes.channels,
        K=k, DIL=dilation, BM=bm, BO=bo, BI=bi, num_warps=sizes.blocks.warps,
    )  # fmt: skip
    _join_parts(part, to, sizes.channels**2, 1)


def _depthwise_weights(sizes, xs, gs, to: Tensor, k: int, dilation: int) -> None:
    """to [E, C, k, k] = sum over pixels of g x moved x."""
    bm, bc = sizes.blocks.pixels, sizes.blocks.channels
    lanes = triton.cdiv(sizes.channels, bc)
    chunks, chunk = _chunks(sizes, lanes * len(gs), bm)
    part = sizes.table(chunks, len(gs), k * k, sizes.channels)
    triton_convolution.mixed_op_depthwise_weights_kernel[(chunks, lanes, len(gs) * k)](
        xs, gs, part, sizes.pixels, chunk, sizes.height, sizes.width, sizes.channels,
        K=k, DIL=dilation, BM=bm, BC=bc,
    )  # fmt: skip
    _join_parts(part, to, sizes.channels, k * k)


class ToX:
    """Gradient of x under construction: float32, the convolutions first, then the pools."""

    def __init__(self, sizes: Maps):
        self.sizes, self.acc, self.started = sizes, sizes.empty(torch.float32), False

    def add(self, gs, taps, k: int, dilation: int) -> None:
        sizes, bm, bc = self.sizes, self.sizes.blocks.pixels, self.sizes.blocks.channels
        grid = (triton.cdiv(sizes.pixels, bm), triton.cdiv(sizes.channels, bc))
        triton_convolution.mixed_op_depthwise_to_x_kernel[grid](
            gs, taps, self.acc, sizes.pixels, sizes.height, sizes.width, sizes.channels,
            EDGES=len(gs), K=k, DIL=dilation, ADD=self.started, BM=bm, BC=bc,
        )  # fmt: skip
        self.started = True

    def finish(self, x, grads, outs, variances, kinds, relu: bool, training: bool, eps: float) -> Tensor:
        """grads, outs, variances: of the pools there are, the maximum first."""
        sizes, bm, bc = self.sizes, self.sizes.blocks.pixels, self.sizes.blocks.channels
        to_x = sizes.empty()
        if not self.started and not grads:
            return to_x.zero_()
        shape = sizes.height, sizes.width, sizes.channels
        flags = {"MAX": kinds[0], "AVG": kinds[1], "BM": bm, "BC": bc}
        taps, to_pools = x, (x,)
        if grads:
            grid = elementwise_grid(sizes, 1)
            sums = (variances[0], variances[0])
            if training:
                parts = sizes.parts(len(grads), bm)
                triton_pool.mixed_op_pool_sums_kernel[grid](
                    grads, outs, *parts, sizes.rows, sizes.channels, POOLS=len(grads), BM=bm, BC=bc
                )
                sums = join_sums(sizes, parts)
            taps, to_pools = sizes.empty(torch.int8), sizes.scratch(len(grads))
            triton_pool.mixed_op_pool_norm_backward_kernel[grid](
                x, grads, outs, to_pools, taps, variances, *sums, sizes.rows, *shape,
                TRAINING=training, EPS=eps, **flags,
            )  # fmt: skip
        triton_pool.mixed_op_to_x_kernel[(triton.cdiv(sizes.pixels, bm), triton.cdiv(sizes.channels, bc))](
            x, self.acc, to_pools, taps, to_x, sizes.pixels, *shape,
            CONVOLVED=self.started, RELU=relu, **flags,
        )  # fmt: skip
        return to_x


def backward(
    grads, x, ops, depthwise, pointwise, gamma, beta, mean, var, pools, saved, flavour, training, eps, slope, wanted
):  # fmt: skip
    """Gradients of x and of the four lists, empty where not wanted. An empty one in `grads` is zero."""
    x, groups = channels_last(x), mean[0].shape[1] if mean else 1
    sizes, relu = Maps.of(x, groups), flavour == "darts"
    slope = 0.0 if relu else slope
    flags = iter(wanted)
    to_x = ToX(sizes) if next(flags) else None
    lists = [
        [
            torch.empty(t.shape, dtype=t.dtype, device=t.device) if next(flags) else t.new_empty(0)
            for t in tensors
        ]
        for tensors in (depthwise, pointwise, gamma, beta)
    ]
    weights = Weights(sizes, depthwise, pointwise)
    stages, to_stages = iter(zip(weights.taps, weights.pointwise)), iter(zip(*lists[:2]))
    affines, to_affines = iter(zip(gamma, beta)), iter(zip(*lists[2:]))
    statistics, pools, saved, grads = iter(zip(mean, var)), iter(pools), iter(saved), iter(grads)
    a = torch.relu(x) if relu and depthwise else x
    pooled = {}
    for op in ops:
        if op.endswith("pool_3x3"):
            (_, v), grad, out = next(statistics), next(grads), next(pools)
            if to_x is not None and grad.numel():
                pooled[op] = channels_last(grad), out, v
            continue
        k, sep = int(op[-1]), op.startswith("sep_conv")
        dilation = 1 if sep else 2
        (taps, matrix), to_first = next(stages), next(to_stages)
        incoming = [next(grads) for _ in range(len(taps))]
        targets = [*to_first]
        if sep:
            second, to_second, table = next(stages), next(to_stages), next(statistics)
            affine, to_affine = next(affines), next(to_affines)
            ys = tuple(next(saved) for _ in range(len(taps)))
            targets += [*to_second, *to_affine]
        if not any(grad.numel() for grad in incoming):
            for t in targets:
                t.zero_()
            continue
        if to_x is None and not any(t.numel() for t in targets):
            continue
        gs = tuple(channels_last(g) if g.numel() else torch.zeros_like(x) for g in incoming)
        if sep:
            down = to_x is not None or any(t.numel() for t in to_first)
            gs = _second_stage(
                sizes, gs, ys, second, to_second, affine, to_affine, table, k, down, training, eps, slope
            )
        if gs:
            _first_stage(sizes, gs, (a,), taps, matrix, to_first, to_x, k, dilation)
    if to_x is None:
        return x.new_empty(0), *lists
    kinds = tuple(int(op in pooled) for op in ("max_pool_3x3", "avg_pool_3x3"))
    order = [pooled[op] for op in ("max_pool_3x3", "avg_pool_3x3") if op in pooled]
    grads, outs, variances = zip(*order) if order else ((), (), ())
    return to_x.finish(x, grads, outs, variances, kinds, relu, training, eps), *lists


def _before_pointwise(sizes, grads, taps, matrix) -> tuple[Tensor, ...]:
    """grad W of every edge."""
    gs = sizes.scratch(len(grads))
    stage(sizes, grads, gs, taps, matrix, 1, 1, transposed=True)
    return gs


def _first_stage(sizes, grads, xs, taps, matrix, targets, to_x, k, dilation) -> None:
    to_depthwise, to_pointwise = targets
    if to_pointwise.numel():
        _pointwise_weights(sizes, xs, grads, taps, to_pointwise, k, dilation)
    if to_x is None and not to_depthwise.numel():
        return
    gs = _before_pointwise(sizes, grads, taps, matrix)
    if to_depthwise.numel():
        _depthwise_weights(sizes, xs, gs, to_depthwise, k, dilation)
    if to_x is not None:
        to_x.add(gs, taps, k, dilation)


def _second_stage(sizes, grads, ys, stage, targets, affine, to_affine, table, k, down, training, eps, slope):
    """Gradients of the E inputs of the inner batch norm, where `down`; weight gradients into the targets."""
    (taps, matrix), (to_depthwise, to_pointwise) = stage, targets
    affine, table = [t.contiguous() for t in affine], [t.contiguous() for t in table]
    if to_depthwise.numel() or to_pointwise.numel():
        zs = inner_norm(sizes, ys, *affine, *table, eps, slope)
    if to_pointwise.numel():
        _pointwise_weights(sizes, zs, grads, taps, to_pointwise, k, 1)
    normed = down or any(t.numel() for t in to_affine)
    if not normed and not to_depthwise.numel():
        return ()
    gs = _before_pointwise(sizes, grads, taps, matrix)
    if to_depthwise.numel():
        _depthwise_weights(sizes, zs, gs, to_depthwise, k, 1)
    if not normed:
        return ()
    bm, bc, ts = sizes.blocks.pixels, sizes.blocks.channels, sizes.scratch(len(ys))
    grid, blocks = elementwise_grid(sizes, len(ys)), {"BM": bm, "BC": bc}
    parts = sizes.parts(len(ys), bm)
    triton_norm.mixed_op_depthwise_to_norm_kernel[grid](
        gs, ys, ts, taps, *affine, *table, *parts, sizes.rows, sizes.height, sizes.width, sizes.channels,
        K=k, EPS=eps, SLOPE=slope, **blocks,
    )  # fmt: skip
    sums = join_sums(sizes, parts)
    for to, total in zip(to_affine, (sums[1], sums[0])):
        if to.numel():
            to.copy_(total[:, -1])
    if not down:
        return ()
    triton_norm.mixed_op_norm_backward_kernel[grid](
        ts, ys, gs, *affine, *table, *sums, sizes.rows, sizes.channels, TRAINING=training, EPS=eps, **blocks
    )
    return gs
