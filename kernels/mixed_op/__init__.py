"""All branches of the edges that leave one source node, up to the batch norm that ends a convolution branch.

The E edges that leave a source read the same map x, so the op takes their weights stacked and does once what
they share:

    max_pool_3x3, avg_pool_3x3    BN(pool(x)), no affine: the same map for every edge, computed once
    sep_conv_kxk, edge e          PW2(DW2(act(BN(PW1(DW1(a))))))       k = 3, 5; padding (k - 1) / 2
    dil_conv_kxk, edge e          PW(DW(a))                            dilation 2, padding k - 1

    chase: a = x, act = lrelu(slope)            darts: a = act(x), act = relu

What follows is `node_sum`: it applies the last BN (and the leaky ReLU of chase) to convolution maps and takes
pool maps as they are. Skip and none need no work here. The average pool counts only pixels inside the map;
convolutions have no bias. Batch norm in training uses the biased statistics of each of `groups` equal,
consecutive parts of the batch.
Precision: x and maps in float64, float32 or bfloat16. Weights, statistics and their gradients have the dtype
of x, but float32 with bfloat16 maps; then every sum is in float32 and only maps are rounded (a fast backend
also rounds the maps it keeps or passes between its kernels and the factors of its matrix products).
Sources: DARTS (Liu et al. 2019) for `darts`, the released CHASE cell for `chase`.

Memory: a fast backend keeps for the gradient its outputs and the E inputs of the inner batch norm of every
sep_conv ([N, C, H, W] each); depthwise outputs are computed again, where weight gradients are wanted.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from chase_fast.lazy import front_door

from .. import _dispatch
from .._autograd import differentiable, not_differentiable, recompute
from .._layout import channels_last
from . import reference

front_door(__name__, call="mixed_op")
CAN_RUN = {
    "reference": _dispatch.always,
    "cpu": _dispatch.native_cpu(torch.float32, torch.float64),
    "triton": _dispatch.triton(torch.float32, torch.bfloat16),
}
FLAVOURS = ("chase", "darts")
POOLS = ("max_pool_3x3", "avg_pool_3x3")
KERNEL = {"sep_conv_3x3": 3, "sep_conv_5x5": 5, "dil_conv_3x3": 3, "dil_conv_5x5": 5}
STAGES = {"sep_conv_3x3": 2, "sep_conv_5x5": 2, "dil_conv_3x3": 1, "dil_conv_5x5": 1}


class Branches(NamedTuple):
    """Result of `mixed_op`; lists follow the order of its `ops`.

    maps: per pool one [N, C, H, W]; per convolution E of them, one per edge, before their last batch norm,
        in channels_last memory.
    mean, var: per pool [1, G, C], per sep_conv [E, G, C]: mean and biased variance used, without gradient.
    """

    maps: list[Tensor]
    mean: list[Tensor]
    var: list[Tensor]


def mixed_op(
    x: Tensor,
    ops: Sequence[str],
    depthwise: Sequence[Tensor],
    pointwise: Sequence[Tensor],
    gamma: Sequence[Tensor],
    beta: Sequence[Tensor],
    mean: Sequence[Tensor] = (),
    var: Sequence[Tensor] = (),
    *,
    flavour: str = "chase",
    groups: int = 1,
    training: bool = True,
    eps: float = 1e-5,
    slope: float = 0.01,
    backend: str | None = None,
) -> Branches:
    """Every branch that leaves one source node.

    Args:
        x: [N, C, H, W], best in channels_last memory: float64, float32, or bfloat16 with float32 weights
            and tables.
        ops: which branches, each at most once: names of POOLS and KERNEL.
        depthwise: [E, C, k, k] per convolution stage, in the order of `ops`: two for a sep_conv, one for a
            dil_conv.
        pointwise: [E, C, C] (out, in) per stage, likewise.
        gamma, beta: [E, C] per sep_conv, the batch norm between its stages.
        mean, var: running statistics, [1, C] per pool and [E, C] per sep_conv in the order of `ops`;
            read (and required) only with training=False.
        flavour: "chase" or "darts".
        groups: number of parts of the batch with statistics of their own; divides N.
        slope: of the leaky ReLU (chase).
        backend: force `reference | cpu | triton`.

    Returns:
        Branches. Differentiable to x, depthwise, pointwise, gamma and beta.

    Raises:
        ValueError: unknown or repeated op, wrong shapes, dtypes, groups or flavour.
    """
    ops = list(ops)
    _check(x, ops, depthwise, pointwise, gamma, beta, mean, var, flavour, groups, training)
    backend = _dispatch.resolve("mixed_op", CAN_RUN, x, backend)
    statistics = ([], []) if training else (list(mean), list(var))
    arguments = (list(depthwise), list(pointwise), list(gamma), list(beta), *statistics)
    options = (flavour, groups, training, eps, slope)
    if backend == "reference":
        flat = reference.mixed_op(x, ops, *arguments, *options)
    else:
        tensors = (x, *(t for tensors in arguments[:4] for t in tensors))
        save = torch.is_grad_enabled() and any(t.requires_grad for t in tensors)
        flat = _differentiable(x, ",".join(ops), *arguments, *options, save, backend)
    maps, norms = _counts(ops, depthwise[0].shape[0] if depthwise else 1)
    return Branches(flat[:maps], flat[maps : maps + norms], flat[maps + norms : maps + 2 * norms])


def _counts(ops: Sequence[str], edges: int) -> tuple[int, int]:
    """Numbers of maps and of batch norms."""
    return sum(1 if op in POOLS else edges for op in ops), sum(_has_norm(op) for op in ops)


def _has_norm(op: str) -> bool:
    return op in POOLS or STAGES[op] == 2


def _check(x, ops, depthwise, pointwise, gamma, beta, mean, var, flavour, groups, training) -> None:
    known = (*POOLS, *KERNEL)
    if not ops or len(set(ops)) < len(ops) or not set(ops) <= set(known):
        raise ValueError(f"mixed_op: ops {ops} must be different names out of {', '.join(known)}")
    if flavour not in FLAVOURS:
        raise ValueError(f"mixed_op: unknown flavour {flavour!r}, choose from {', '.join(FLAVOURS)}")
    if x.dim() != 4 or groups < 1 or x.shape[0] % groups:
        raise ValueError(
            f"mixed_op: x {list(x.shape)} must be [N, C, H, W] with N a multiple of groups = {groups}"
        )
    c = x.shape[1]
    edges = depthwise[0].shape[0] if depthwise else 1
    convolutions = [op for op in ops if op in KERNEL]
    kernels = [KERNEL[op] for op in convolutions for _ in range(STAGES[op])]
    inner: list[tuple[int, ...]] = [(edges, c) for op in convolutions if STAGES[op] == 2]
    _check_shapes("depthwise", depthwise, [(edges, c, k, k) for k in kernels])
    _check_shapes("pointwise", pointwise, [(edges, c, c) for _ in kernels])
    _check_shapes("gamma", gamma, inner)
    _check_shapes("beta", beta, inner)
    if not training:
        wanted: list[tuple[int, ...]] = [(1 if op in POOLS else edges, c) for op in ops if _has_norm(op)]
        _check_shapes("mean", mean, wanted)
        _check_shapes("var", var, wanted)
    dtype = _table_dtype(x)
    for t in (*depthwise, *pointwise, *gamma, *beta, *(() if training else (*mean, *var))):
        if t.dtype != dtype or t.device != x.device:
            raise ValueError(
                f"mixed_op: weights and tables must be {dtype} on {x.device} for x in {x.dtype}, "
                f"not {t.dtype} on {t.device}"
            )


def _table_dtype(x: Tensor) -> torch.dtype:
    """Of weights and statistics."""
    return torch.float32 if x.dtype == torch.bfloat16 else x.dtype


def _check_shapes(name: str, tensors: Sequence[Tensor], wanted: list[tuple[int, ...]]) -> None:
    shapes = [tuple(t.shape) for t in tensors]
    if shapes != wanted:
        raise ValueError(f"mixed_op: {name} has shapes {shapes}, expected {wanted}")


@torch.library.custom_op("chase_fast::mixed_op", mutates_args=())
def _mixed_op(
    x: Tensor,
    ops: str,
    depthwise: list[Tensor],
    pointwise: list[Tensor],
    gamma: list[Tensor],
    beta: list[Tensor],
    mean: list[Tensor],
    var: list[Tensor],
    flavour: str,
    groups: int,
    training: bool,
    eps: float,
    slope: float,
    save: bool,
    backend: str,
) -> list[Tensor]:
    """maps, means, variances and, with `save`, what the backward of a fast backend needs beside them."""
    names = ops.split(",")
    inputs = (x, names, depthwise, pointwise, gamma, beta, mean, var, flavour, groups, training, eps, slope)
    if backend == "reference":
        flat = reference.mixed_op(*inputs)
        maps, _ = _counts(names, depthwise[0].shape[0] if depthwise else 1)
        return [channels_last(y) for y in flat[:maps]] + flat[maps:]
    return _dispatch.implementation("mixed_op", backend).forward(*inputs, save)


def _new_map(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    return x.new_empty(n, h, w, c).permute(0, 3, 1, 2)


@_mixed_op.register_fake
def _(
    x, ops, depthwise, pointwise, gamma, beta, mean, var, flavour, groups, training, eps, slope, save, backend
):
    names = ops.split(",")
    edges = depthwise[0].shape[0] if depthwise else 1
    maps, _ = _counts(names, edges)
    rows = [1 if op in POOLS else edges for op in names if _has_norm(op)]
    dtype = _table_dtype(x)
    inner = edges * len(gamma) if save and backend != "reference" else 0
    return [
        *(_new_map(x) for _ in range(maps)),
        *(x.new_empty(r, groups, x.shape[1], dtype=dtype) for r in rows + rows),
        *(_new_map(x) for _ in range(inner)),
    ]


@torch.library.custom_op("chase_fast::mixed_op_backward", mutates_args=())
def _backward_op(
    grads: list[Tensor],
    x: Tensor,
    ops: str,
    depthwise: list[Tensor],
    pointwise: list[Tensor],
    gamma: list[Tensor],
    beta: list[Tensor],
    mean: list[Tensor],
    var: list[Tensor],
    pools: list[Tensor],
    saved: list[Tensor],
    flavour: str,
    training: bool,
    eps: float,
    slope: float,
    wanted: list[bool],
    backend: str,
) -> tuple[Tensor, list[Tensor], list[Tensor], list[Tensor], list[Tensor]]:
    """grads: of the maps, an empty one stands for zeros. mean, var, pools, saved: as the forward returned
    them. wanted: flags of x and of every tensor of the four lists; what is not wanted comes back empty."""
    inputs = (grads, x, ops.split(","), depthwise, pointwise, gamma, beta, mean, var, pools, saved)
    return _dispatch.implementation("mixed_op", backend).backward(
        *inputs, flavour, training, eps, slope, wanted
    )


@_backward_op.register_fake
def _(grads, x, ops, depthwise, pointwise, gamma, beta, mean, var, pools, saved, *options):
    flags = iter(options[4])
    to_x = _new_map(x) if next(flags) else x.new_empty(0)
    lists = [
        [t.new_empty(t.shape) if next(flags) else t.new_empty(0) for t in tensors]
        for tensors in (depthwise, pointwise, gamma, beta)
    ]
    return to_x, *lists


not_differentiable(_backward_op)


def _setup_context(ctx, inputs, output):
    x, ops, *lists = inputs[:8]
    ctx.ops = ops.split(",")
    ctx.options, ctx.backend = inputs[8:-2], inputs[-1]
    maps, norms = _counts(ctx.ops, lists[0][0].shape[0] if lists[0] else 1)
    ctx.maps = maps
    ctx.given = [len(tensors) for tensors in lists[4:]]  # running statistics
    ctx.mark_non_differentiable(*output[maps:])
    ctx.set_materialize_grads(False)  # else zeros for every output without gradient, map by map
    if ctx.backend != "reference":
        at, pools = 0, []
        for op in ctx.ops:
            if op in POOLS:
                pools.append(output[at])
            at += 1 if op in POOLS else lists[0][0].shape[0]
        lists[4:] = output[maps : maps + norms], output[maps + norms : maps + 2 * norms]
        lists += [pools, output[maps + 2 * norms :]]
    ctx.sizes = [len(tensors) for tensors in lists]
    ctx.save_for_backward(x, *(t for tensors in lists for t in tensors))


def _backward(ctx, grads):
    x, *flat = ctx.saved_tensors
    tensors = iter(flat)
    lists = [[next(tensors) for _ in range(size)] for size in ctx.sizes]
    if ctx.backend == "reference":
        inputs = (x, ctx.ops, *lists, *ctx.options)
        return *recompute(reference.mixed_op, inputs, ctx.needs_input_grad[:-2], grads), None, None
    flavour, _, training, eps, slope = ctx.options
    needed = [list(flags) for flags in ctx.needs_input_grad[2:6]]
    wanted = [ctx.needs_input_grad[0], *(flag for flags in needed for flag in flags)]
    nothing = x.new_empty(0)
    grads = [nothing if g is None else g for g in grads[: ctx.maps]]
    options = (flavour, training, eps, slope, wanted, ctx.backend)
    to_x, *gradients = _backward_op(grads, x, ",".join(ctx.ops), *lists, *options)
    given = [[g if need else None for g, need in zip(gs, flags)] for gs, flags in zip(gradients, needed)]
    statistics = [[None] * size for size in ctx.given]
    return to_x if wanted[0] else None, None, *given, *statistics, *(None,) * 7


_differentiable = differentiable(_mixed_op, _backward, _setup_context)
