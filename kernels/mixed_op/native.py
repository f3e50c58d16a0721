"""The `cpu` backend: C++ stages (csrc/cpu/separable_stack.cpp, batch_norm.cpp, pool.cpp).

Memory, in maps of N C H W elements: the forward keeps its outputs and, when a gradient will be asked for,
the E inputs of the inner batch norm of every sep_conv. Depthwise outputs are computed again in the backward
(a tenth of a product's time), and only for weight gradients; they never leave a core's caches. Scratch of a
call is a map, or BLOCK elements where a map is smaller.
"""

from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter

import torch
from torch import Tensor

from .._dispatch import native
from .._layout import channels_last

BLOCK = 1 << 21  # elements of the edges that pass the stages together: what the caches hold


def _call(name: str, *arguments) -> None:
    """Runs `cpu_NAME` of the native module."""
    getattr(native(), f"cpu_{name}")(*arguments, torch.get_num_threads())


def _map(like: Tensor) -> Tensor:
    """A new map [N, C, H, W] in channels_last memory."""
    return torch.empty(like.shape, dtype=like.dtype, memory_format=torch.channels_last)


class Scratch:
    """Maps [N, C, H, W] that the stages of one call use again: new memory costs a page fault per 4 KiB."""

    def __init__(self, like: Tensor):
        self.like = like
        self.lists: dict[str, list[Tensor]] = {}

    def take(self, name: str, count: int) -> list[Tensor]:
        maps = self.lists.setdefault(name, [])
        maps += [_map(self.like) for _ in range(count - len(maps))]
        return maps[:count]


def _blocks(edges: int, x: Tensor) -> Iterator[Callable]:
    """Per block of edges the function that takes its part of a stack or list of all edges."""
    size = max(1, min(edges, BLOCK // max(x.numel(), 1)))
    if size == edges:  # a view for every stack would cost more than a small map
        return iter([lambda stack: stack])
    return (itemgetter(slice(e, e + size)) for e in range(0, edges, size))


def _scale(gamma: Tensor, var: Tensor, eps: float) -> Tensor:
    """[E, G, C]"""
    return gamma.unsqueeze(1) * (var + eps).rsqrt()


class Separable:
    """DW then PW of a block of edges: weights [E, C, k, k], [E, C, C]; norm: tables before DW or none."""

    def __init__(
        self, depthwise: Tensor, pointwise: Tensor, dilation: int, slope: float, norm: Sequence[Tensor] = ()
    ):
        self.norm = list(norm)
        self.arguments = (depthwise.contiguous(), pointwise.contiguous(), self.norm, dilation, slope)

    def forward(self, xs: list[Tensor], outs: list[Tensor], moments: Sequence[Tensor] = ()) -> None:
        """`moments`: mean and variance [E, G, C] of the outputs, written where given."""
        _call("separable_stack", xs, *self.arguments, outs, list(moments))

    def backward(
        self,
        grads: list[Tensor],
        through: list[Tensor],
        xs: list[Tensor],
        to_xs: list[Tensor],
        to_depthwise: Tensor | None,
        to_pointwise: Tensor | None,
        sums: Tensor | None = None,
        add: bool = False,
    ) -> None:
        """Writes what is given (an empty list, None: not wanted); `through`, `sums`: see
        csrc/cpu/separable_stack.h."""
        nothing = self.arguments[0].new_empty(0)
        targets = (nothing if t is None else t for t in (to_depthwise, to_pointwise, sums))
        _call("separable_stack_backward", grads, through, xs, *self.arguments, add, to_xs, *targets)


def forward(
    x, ops, depthwise, pointwise, gamma, beta, mean, var, flavour, groups, training, eps, slope, save
) -> list[Tensor]:
    """maps, means, variances and, with `save`, per sep_conv the E inputs of its inner batch norm."""
    x = channels_last(x)
    outer, inner = (0.0, 0.0) if flavour == "darts" else (1.0, slope)
    stages, affines, running = iter(zip(depthwise, pointwise)), iter(zip(gamma, beta)), iter(zip(mean, var))
    maps, means, variances, saved, scratch = [], [], [], [], Scratch(x)
    for op in ops:
        if op.endswith("pool_3x3"):
            out = _map(x)
            m, v = (torch.empty((1, groups, x.shape[1]), dtype=x.dtype) for _ in range(2))
            given = (m, v) if training else [t.contiguous() for t in next(running)]
            _call("pool_norm", x, op == "max_pool_3x3", *given, training, eps, out, m, v)
            maps.append(out)
            means.append(m)
            variances.append(v)
            continue
        d, p = next(stages)
        edges, sep = d.shape[0], op.startswith("sep_conv")
        if sep:
            d2, p2 = next(stages)
            g, b = (t.contiguous() for t in next(affines))
            m, v = (torch.empty((edges, groups, x.shape[1]), dtype=x.dtype) for _ in range(2))
            if not training:
                for table, given in zip((m, v), next(running)):
                    table.copy_(given.unsqueeze(1).expand_as(table))
            means.append(m)
            variances.append(v)
        for part in _blocks(edges, x):
            count = part(d).shape[0]
            ys = scratch.take("inner", count) if sep and not save else [_map(x) for _ in range(count)]
            moments = (part(m), part(v)) if sep and training else ()
            Separable(part(d), part(p), 1 if sep else 2, outer).forward([x], ys, moments)
            if sep:
                norm = (part(m), _scale(part(g), part(v), eps), part(b))
                outs = [_map(x) for _ in range(count)]
                Separable(part(d2), part(p2), 1, inner, norm).forward(ys, outs)
                if save:
                    saved += ys
                ys = outs
            maps += ys
    return maps + means + variances + saved


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
    x = channels_last(x)
    outer, inner = (0.0, 0.0) if flavour == "darts" else (1.0, slope)
    flags = iter(wanted)
    to_x = _map(x) if next(flags) else None
    lists = [
        [torch.empty(t.shape, dtype=t.dtype) if next(flags) else t.new_empty(0) for t in tensors]
        for tensors in (depthwise, pointwise, gamma, beta)
    ]
    stages, to_stages = iter(zip(depthwise, pointwise)), iter(zip(*lists[:2]))
    affines, to_affines = iter(zip(gamma, beta)), iter(zip(*lists[2:]))
    statistics, pools, saved, grads = iter(zip(mean, var)), iter(pools), iter(saved), iter(grads)
    add, scratch = False, Scratch(x)
    for op in ops:
        if op.endswith("pool_3x3"):
            _, v = next(statistics)
            grad, out = next(grads), next(pools)
            if to_x is not None and grad.numel():
                grad = channels_last(grad)
                _call("pool_norm_backward", grad, x, op == "max_pool_3x3", out, v, training, eps, add, to_x)
                add = True
            continue
        sep = op.startswith("sep_conv")
        first, to_first = next(stages), next(to_stages)
        edges = first[0].shape[0]
        incoming = [next(grads) for _ in range(edges)]
        targets = [*to_first]
        if sep:
            second, to_second = next(stages), next(to_stages)
            (g, b), to_affine, (m, v) = next(affines), next(to_affines), next(statistics)
            ys = [next(saved) for _ in range(edges)]
            targets += [*to_second, *to_affine]
        if not any(grad.numel() for grad in incoming):
            for t in targets:
                t.zero_()
            continue
        if to_x is None and not any(t.numel() for t in targets):
            continue
        for part in _blocks(edges, x):
            outs = [channels_last(grad if grad.numel() else torch.zeros_like(x)) for grad in part(incoming)]
            through: list[Tensor] = []
            if sep:
                norm = (part(m), _scale(part(g), part(v), eps), part(b).contiguous())
                outs, through = _second_stage(
                    outs,
                    part(ys),
                    Separable(*(part(t) for t in second), 1, inner, norm),
                    scratch,
                    part(v),
                    [part(t) if t.numel() else None for t in (*to_second, *to_affine)],
                    to_x is not None or any(t.numel() for t in to_first),
                    training,
                    eps,
                )
            if outs:
                Separable(*(part(t) for t in first), 1 if sep else 2, outer).backward(
                    outs,
                    through,
                    [x],
                    [] if to_x is None else [to_x],
                    *(part(t) if t.numel() else None for t in to_first),
                    add=add,
                )
            add = add or to_x is not None
    if to_x is None:
        to_x = x.new_empty(0)
    elif not add:
        to_x.zero_()
    return to_x, *lists


def _second_stage(
    grads, ys, stage: Separable, scratch: Scratch, var, targets, down: bool, training, eps
) -> tuple[list[Tensor], list[Tensor]]:
    """Backward through PW2, DW2 and the activation: where `down`, the gradients behind the inner batch norm
    and what leads them through it."""
    to_depthwise, to_pointwise, to_gamma, to_beta = targets
    normed = down or to_gamma is not None or to_beta is not None
    to_ys = scratch.take("inner", len(ys)) if normed else []
    mean, scale, _ = stage.norm
    sums = torch.empty((2, *mean.shape), dtype=mean.dtype) if normed else None
    stage.backward(grads, [], ys, to_ys, to_depthwise, to_pointwise, sums)
    if not normed:
        return [], []
    to_gamma, to_beta = (
        torch.empty(scale.shape[::2], dtype=scale.dtype) if t is None else t for t in (to_gamma, to_beta)
    )
    shift, tilt = torch.empty_like(scale), torch.empty_like(scale)
    rows = ys[0].numel() // (scale.shape[1] * scale.shape[2])
    _call("batch_norm_backward", sums, var, rows, training, eps, shift, tilt, to_gamma, to_beta)
    return (to_ys, [*ys, mean, scale, shift, tilt]) if down else ([], [])
