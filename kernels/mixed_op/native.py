"""The `cpu` backend: C++ stages (csrc/cpu/depthwise_stack.cpp, batch_norm.cpp, pool.cpp) with torch's matrix
products between them.

Memory, in maps of N C H W elements: the forward keeps its outputs and, when a gradient will be asked for, the
E inputs of the inner batch norm of every sep_conv. Depthwise outputs are computed again in the backward (a tenth
of a product's time), and only for weight gradients. Scratch is bounded by BLOCK, or by three maps where one map
is larger.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from .._dispatch import native, view

BLOCK = 1 << 21  # elements of the edges that pass the stages together: what the caches hold


def _call(name: str, *arguments) -> None:
    """Runs `cpu_NAME` of the native module; tensors become views, None an empty list."""

    def views(value):
        if isinstance(value, Tensor):
            return view(value)
        if isinstance(value, list):
            return [view(t) for t in value]
        return value

    getattr(native(), f"cpu_{name}")(*map(views, arguments), torch.get_num_threads())


def _channels_last(t: Tensor) -> Tensor:
    return t.contiguous(memory_format=torch.channels_last)


def _map(like: Tensor) -> Tensor:
    """A new map [N, C, H, W] in channels_last memory."""
    n, c, h, w = like.shape
    return torch.empty((n, h, w, c), dtype=like.dtype).permute(0, 3, 1, 2)


def _rows(t: Tensor) -> Tensor:
    """[N H W, C] of a channels_last map."""
    return t.permute(0, 2, 3, 1).reshape(-1, t.shape[1])


def _blocks(edges: int, x: Tensor) -> Iterator[slice]:
    size = max(1, min(edges, BLOCK // max(x.numel(), 1)))
    return (slice(e, min(e + size, edges)) for e in range(0, edges, size))


def _scale(gamma: Tensor, var: Tensor, eps: float) -> Tensor:
    """[E, G, C]"""
    return gamma.unsqueeze(1) * (var + eps).rsqrt()


class Separable:
    """DW then PW of a block of edges: weights [E, C, k, k] and [E, C, C]; norm: tables in front of DW or none."""

    def __init__(
        self, depthwise: Tensor, pointwise: Tensor, dilation: int, slope: float, norm: Sequence = ()
    ):
        self.depthwise, self.pointwise = depthwise.contiguous(), pointwise.contiguous()
        self.dilation, self.slope, self.norm = dilation, slope, list(norm)

    def between(self, xs: list[Tensor]) -> list[Tensor]:
        """Outputs of the depthwise convolution."""
        made = [_map(xs[0]) for _ in self.depthwise]
        _call("depthwise_stack", xs, self.depthwise, self.norm, self.dilation, self.slope, made)
        return made

    def forward(self, xs: list[Tensor]) -> list[Tensor]:
        made = self.between(xs)
        outs = [_map(xs[0]) for _ in made]
        for y, weight, out in zip(made, self.pointwise, outs):
            torch.mm(_rows(y), weight.t(), out=_rows(out))
        return outs

    def backward(
        self,
        grads: list[Tensor],
        xs: list[Tensor],
        to_xs: list[Tensor],
        to_depthwise: Tensor | None,
        to_pointwise: Tensor | None,
        sums: Tensor | None = None,
        add: bool = False,
    ) -> None:
        """Writes what is given (an empty list, None: not wanted); `sums` as csrc/cpu/depthwise_stack.h says."""
        if to_pointwise is not None:
            for y, grad, to in zip(self.between(xs), grads, to_pointwise):
                torch.mm(_rows(grad).t(), _rows(y), out=to)
        if not to_xs and to_depthwise is None:
            return
        inner = [_map(g) for g in grads]
        for grad, weight, to in zip(grads, self.pointwise, inner):
            torch.mm(_rows(grad), weight, out=_rows(to))
        nothing = self.depthwise.new_empty(0)
        _call(
            "depthwise_stack_backward",
            inner,
            xs,
            self.depthwise,
            self.norm,
            self.dilation,
            self.slope,
            add,
            to_xs,
            nothing if to_depthwise is None else to_depthwise,
            nothing if sums is None else sums,
        )


def _statistics(maps: list[Tensor], groups: int) -> tuple[Tensor, Tensor]:
    shape = (len(maps), groups, maps[0].shape[1])
    mean, var = (torch.empty(shape, dtype=maps[0].dtype) for _ in range(2))
    _call("batch_norm_statistics", maps, mean, var)
    return mean, var


def forward(
    x, ops, depthwise, pointwise, gamma, beta, mean, var, flavour, groups, training, eps, slope, save
) -> list[Tensor]:
    """maps, means, variances and, with `save`, per sep_conv the E inputs of its inner batch norm."""
    x = _channels_last(x)
    outer, inner = (0.0, 0.0) if flavour == "darts" else (1.0, slope)
    stages, affines, running = iter(zip(depthwise, pointwise)), iter(zip(gamma, beta)), iter(zip(mean, var))
    maps, means, variances, saved = [], [], [], []
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
        edges, sep = len(d), op.startswith("sep_conv")
        if sep:
            d2, p2 = next(stages)
            g, b = (t.contiguous() for t in next(affines))
            m, v = (torch.empty((edges, groups, x.shape[1]), dtype=x.dtype) for _ in range(2))
            if not training:
                for table, given in zip((m, v), next(running)):
                    table.copy_(given.unsqueeze(1).expand_as(table))
            means.append(m)
            variances.append(v)
        for block in _blocks(edges, x):
            ys = Separable(d[block], p[block], 1 if sep else 2, outer).forward([x])
            if sep:
                if training:
                    _call("batch_norm_statistics", ys, m[block], v[block])
                norm = (m[block], _scale(g[block], v[block], eps), b[block])
                outs = Separable(d2[block], p2[block], 1, inner, norm).forward(ys)
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
    """Gradients of x and of the four lists; an unwanted one is empty. An empty gradient in `grads` is zero."""
    x = _channels_last(x)
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
    add = False
    for op in ops:
        if op.endswith("pool_3x3"):
            _, v = next(statistics)
            grad, out = next(grads), next(pools)
            if to_x is not None and grad.numel():
                grad = _channels_last(grad)
                _call("pool_norm_backward", grad, x, op == "max_pool_3x3", out, v, training, eps, add, to_x)
                add = True
            continue
        sep = op.startswith("sep_conv")
        first, to_first = next(stages), next(to_stages)
        edges = len(first[0])
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
        for block in _blocks(edges, x):
            outs = [_channels_last(grad if grad.numel() else torch.zeros_like(x)) for grad in incoming[block]]
            if sep:
                outs = _second_stage(
                    outs,
                    ys[block],
                    Separable(
                        *(t[block] for t in second),
                        1,
                        inner,
                        (m[block], _scale(g[block], v[block], eps), b[block].contiguous()),
                    ),
                    v[block],
                    [t[block] if t.numel() else None for t in (*to_second, *to_affine)],
                    to_x is not None or any(t.numel() for t in to_first),
                    training,
                    eps,
                )
            Separable(*(t[block] for t in first), 1 if sep else 2, outer).backward(
                outs,
                [x],
                [] if to_x is None else [to_x],
                *(t[block] if t.numel() else None for t in to_first),
                add=add,
            ) if outs else None
            add = add or to_x is not None
    if to_x is None:
        to_x = x.new_empty(0)
    elif not add:
        to_x.zero_()
    return to_x, *lists


def _second_stage(grads, ys, stage: Separable, var, targets, down: bool, training, eps) -> list[Tensor]:
    """Backward through PW2, DW2, activation and inner batch norm: gradients of its inputs (where `down`)."""
    to_depthwise, to_pointwise, to_gamma, to_beta = targets
    normed = down or to_gamma is not None or to_beta is not None
    to_ys = [_map(y) for y in ys] if normed else []
    mean, scale, _ = stage.norm
    sums = torch.empty((2, *mean.shape), dtype=mean.dtype) if normed else None
    stage.backward(grads, ys, to_ys, to_depthwise, to_pointwise, sums)
    if not normed:
        return []
    to_gamma, to_beta = (
        torch.empty(scale.shape[::2], dtype=scale.dtype) if t is None else t for t in (to_gamma, to_beta)
    )
    _call(
        "batch_norm_backward",
        sums,
        ys,
        mean,
        var,
        scale,
        training,
        eps,
        to_ys if down else [],
        to_gamma,
        to_beta,
    )
    return to_ys if down else []
