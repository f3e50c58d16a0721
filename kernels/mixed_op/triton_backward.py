"""Gradients of the Triton backend: see triton_impl.py. Only what is wanted is computed."""

import torch
import triton
from torch import Tensor

from .._layout import channels_last
from . import triton_depthwise, triton_norm, triton_pointwise, triton_pool
from . import triton_launch as launch
from .triton_launch import POOLS, Maps, Norm, Weights, join_sums

PRODUCTS = 264  # programs that share the pixels of a weight gradient: two per multiprocessor of an H100
TAP_ROWS = 2048  # the same for depthwise weights, whose programs are small


def _chunks(tiles: int, programs: int, wanted: int) -> tuple[int, int]:
    """(chunks, tiles of one) so that about `wanted` programs share the tiles, `programs` per chunk."""
    size = triton.cdiv(tiles, max(1, min(tiles, wanted // programs)))
    return triton.cdiv(tiles, size), size


def _join_parts(part: Tensor, out: Tensor, channels: int, taps: int) -> None:
    grid = (triton.cdiv(out.numel(), 256),)
    triton_pointwise.mixed_op_join_parts_kernel[grid](
        part, out, out.numel(), len(part), channels, TAPS=taps, BLOCK=256
    )


def _pointwise_weights(sizes: Maps, xs, grads, to: Tensor) -> None:
    """to [E, C, C] = sum over pixels of grad x (output of the depthwise)."""
    bm, bo, bi, warps = sizes.blocks.weights
    blocks = triton.cdiv(sizes.channels, bo) * triton.cdiv(sizes.channels, bi)
    chunks, size = _chunks(triton.cdiv(sizes.pixels, bm), blocks * len(grads), PRODUCTS)
    part = sizes.table(chunks, *to.shape)
    triton_pointwise.mixed_op_pointwise_weights_kernel[(blocks, chunks, len(grads))](
        xs, grads, part, sizes.pixels, size * bm, sizes.channels, BM=bm, BO=bo, BI=bi,
        num_warps=warps,
    )  # fmt: skip
    _join_parts(part, to, sizes.channels**2, 1)


def _depthwise_weights(sizes: Maps, xs, gs, to: Tensor, k: int, dilation: int, before: Norm | None) -> None:
    """to [E, C, k, k] = sum over pixels of g x moved act(BN(x))."""
    bm, bc = sizes.blocks.strips
    lanes = triton.cdiv(sizes.channels, bc)
    chunks, size = _chunks(triton.cdiv(sizes.strips, bm), lanes * len(gs) * k * sizes.groups, TAP_ROWS)
    part = sizes.table(sizes.groups * chunks, len(gs), k * k, sizes.channels)
    tables, eps, slope = launch.norm_arguments(before, part)
    triton_depthwise.mixed_op_depthwise_weights_kernel[(sizes.groups * chunks, lanes, len(gs) * k)](
        xs, gs, part, *tables, sizes.strips, size * bm, chunks, sizes.height, sizes.width, sizes.channels,
        K=k, DIL=dilation, NORM=before is not None, EPS=eps, SLOPE=slope, BM=bm, BC=bc,
    )  # fmt: skip
    _join_parts(part, to, sizes.channels, k * k)


class ToX:
    """Gradient of x under construction: float32, the convolutions first, then the pools."""

    def __init__(self, sizes: Maps):
        self.sizes, self.acc, self.started = sizes, sizes.empty(torch.float32), False

    def add(self, gs, taps: Tensor, k: int, dilation: int) -> None:
        """The adjoint of DW on the gradients gs of its outputs, summed over the edges."""
        sizes, (bm, bc) = self.sizes, self.sizes.blocks.strips
        rows = sizes.strips * sizes.groups
        grid = (triton.cdiv(rows, bm), triton.cdiv(sizes.channels, bc))
        triton_depthwise.mixed_op_depthwise_to_x_kernel[grid](
            gs, taps, self.acc, rows, sizes.height, sizes.width, sizes.channels,
            EDGES=len(gs), K=k, DIL=dilation, ADD=self.started, BM=bm, BC=bc,
        )  # fmt: skip
        self.started = True

    def finish(self, x: Tensor, pooled: dict, relu: bool, training: bool, eps: float) -> Tensor:
        """pooled: per pool with a gradient (that, its map, its variances [1, G, C])."""
        sizes, (bm, bc), to_x = self.sizes, self.sizes.blocks.elements, self.sizes.empty()
        if not self.started and not pooled:
            return to_x.zero_()
        shape = sizes.height, sizes.width, sizes.channels
        flags = {op[:3].upper(): int(op in pooled) for op in POOLS} | {"BM": bm, "BC": bc}
        taps = x
        to_pools: tuple[Tensor, ...] = (x,)
        if pooled:
            grads, outs, variances = zip(*(pooled[op] for op in POOLS if op in pooled))
            grid = sizes.grid(1)
            sums: tuple[Tensor, ...] = (variances[0], variances[0])
            if training:
                parts = sizes.parts(len(grads), grid[0])
                triton_pool.mixed_op_pool_sums_kernel[grid](
                    grads, outs, *parts, sizes.rows, sizes.channels, POOLS=len(grads), BM=bm, BC=bc
                )
                sums = join_sums(sizes, parts).unbind()
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


def _new(t: Tensor) -> Tensor:
    return torch.empty(t.shape, dtype=t.dtype, device=t.device)


def backward(
    grads,
    x,
    ops,
    depthwise,
    pointwise,
    gamma,
    beta,
    mean,
    var,
    pools,
    saved,
    flavour,
    training,
    eps,
    slope,
    wanted,
):
    """Gradients of x and of the four lists, empty where not wanted. An empty one in `grads` is zero."""
    x, sizes = channels_last(x), Maps.of(x, mean[0].shape[1] if mean else 1)
    relu = flavour == "darts"
    slope = 0.0 if relu else slope
    flags = iter(wanted)
    to_x = ToX(sizes) if next(flags) else None
    lists = [
        [_new(t) if next(flags) else t.new_empty(0) for t in tensors]
        for tensors in (depthwise, pointwise, gamma, beta)
    ]
    weights = Weights(sizes, depthwise, pointwise)
    stages, to_stages = iter(zip(weights.taps, weights.pointwise)), iter(zip(*lists[:2]))
    affines, to_affines = iter(zip(gamma, beta)), iter(zip(*lists[2:]))
    statistics, pools, saved, grads = iter(zip(mean, var)), iter(pools), iter(saved), iter(grads)
    a = torch.relu(x) if relu and depthwise else x
    pooled = {}
    for op in ops:
        if op in POOLS:
            (_, v), grad, out = next(statistics), next(grads), next(pools)
            if to_x is not None and grad.numel():
                pooled[op] = channels_last(grad), channels_last(out), v.contiguous()
            continue
        k, sep = int(op[-1]), op.startswith("sep_conv")
        first, to_first = next(stages), next(to_stages)
        edges = len(first[0])
        incoming = [next(grads) for _ in range(edges)]
        targets = [*to_first]
        if sep:
            second, to_second, to_affine = next(stages), next(to_stages), next(to_affines)
            tables = (t.contiguous() for t in (*next(affines), *next(statistics)))
            norm = Norm(*tables, eps, slope)
            ys = tuple(channels_last(next(saved)) for _ in range(edges))
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
            gs = _second_stage(sizes, gs, ys, second, to_second, norm, to_affine, k, down, training)
        if gs:
            _first_stage(sizes, gs, a, first, to_first, to_x, k, 1 if sep else 2)
    to_x = x.new_empty(0) if to_x is None else to_x.finish(x, pooled, relu, training, eps)
    return to_x, *lists


def _first_stage(sizes: Maps, grads, x: Tensor, stage, targets, to_x: ToX | None, k: int, dilation: int):
    """Through PW and DW of every edge, down to x and to their weights."""
    (taps, matrix), (to_depthwise, to_pointwise) = stage, targets
    if to_pointwise.numel():
        between = launch.depthwise(sizes, (x,), taps, k, dilation, None)
        _pointwise_weights(sizes, between, grads, to_pointwise)
        del between
    if to_x is None and not to_depthwise.numel():
        return
    gs = launch.pointwise(sizes, grads, matrix, transposed=True)
    if to_depthwise.numel():
        _depthwise_weights(sizes, (x,), gs, to_depthwise, k, dilation, None)
    if to_x is not None:
        to_x.add(gs, taps, k, dilation)


def _second_stage(
    sizes: Maps, grads, ys, stage, targets, norm: Norm, to_affine, k: int, down: bool, training
):
    """Through PW, DW, activation and inner batch norm: gradients of the ys where `down`, else none."""
    (taps, matrix), (to_depthwise, to_pointwise) = stage, targets
    if to_pointwise.numel():
        between = launch.depthwise(sizes, ys, taps, k, 1, norm)
        _pointwise_weights(sizes, between, grads, to_pointwise)
        del between
    normed = down or any(t.numel() for t in to_affine)
    if not normed and not to_depthwise.numel():
        return ()
    gs = launch.pointwise(sizes, grads, matrix, transposed=True)
    if to_depthwise.numel():
        _depthwise_weights(sizes, ys, gs, to_depthwise, k, 1, norm)
    if not normed:
        return ()
    ts, grid, (bm, bc) = sizes.scratch(len(ys)), sizes.strip_grid(len(ys)), sizes.blocks.strips
    parts = sizes.parts(len(ys), grid[0])
    triton_depthwise.mixed_op_depthwise_to_norm_kernel[grid](
        gs, ys, ts, taps, *norm[:4], *parts, sizes.strips, sizes.height, sizes.width, sizes.channels,
        K=k, EPS=norm.eps, SLOPE=norm.slope, BM=bm, BC=bc,
    )  # fmt: skip
    to_gamma, to_beta = (t if t.numel() else sizes.table(*norm.gamma.shape) for t in to_affine)
    sums = join_sums(sizes, parts, (to_beta, to_gamma))
    if not down:
        return ()
    bm, bc = sizes.blocks.elements
    triton_norm.mixed_op_norm_backward_kernel[sizes.grid(len(ys))](
        ts,
        ys,
        gs,
        *norm[:4],
        *sums,
        sizes.rows,
        sizes.channels,
        TRAINING=training,
        EPS=norm.eps,
        BM=bm,
        BC=bc,
    )
    return gs
