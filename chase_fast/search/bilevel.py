"""Gradients of the architecture parameters alpha, first and second order (DARTS), of any module.

    weights = FlatParameters(p for p in net.parameters() if p is not alpha)
    loss_train = closure(net, lambda: F.cross_entropy(net(x), y))
    loss_val = closure(net, lambda: F.cross_entropy(net(x_val), y_val))
    alpha.grad = second_order(loss_train, loss_val, alpha, weights, eta=lr).galpha  # net is as it was before

alpha is one leaf tensor, of the module or beside it, that its forward reads. The weights w that are unrolled
lie in one flat tensor (`FlatParameters`), so that the unrolled weights w', the two probes w + R v and w - R
v, and the restore are one vector operation each, and the restore is exact.

A loss is given as `loss(update_statistics) -> scalar`: it reads the module's parameters and alpha at the time
of the call, and updates BatchNorm running statistics only if told so. It must see the same batch and the same
dropout masks in every call: a difference of two passes with different masks would be mask noise divided by
2R. `closure` makes such a loss of a function of yours. Weights, v and both probes are fp32 or fp64; R v is
about 4e-6 per weight at C = 256, below the resolution of TF32 and bf16. The gradient that makes w' may come
from a pass in less (`loss_unroll`). Nothing here reads a value on the host: R and eta may be device tensors,
and a CUDA graph can replay all of it.

Several processes, each with its part of the batch, pass `reduce(*tensors)`, which averages in place over
them: every gradient is averaged as soon as it is there, so w', R and the result are the same in all of them.
The losses that are returned are those of the part.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from chase_fast.nn.seeded import seeded

Loss = Callable[[bool], Tensor]
Reduce = Callable[..., None]


def alone(*tensors: Tensor) -> None:
    """The average over one process."""


@contextmanager
def frozen_statistics(module: nn.Module) -> Iterator[None]:
    """Within: BatchNorm and InstanceNorm layers of the module leave their running statistics alone; in train
    mode they normalise by those of the batch, as ever. (Modules of `chase_fast.nn` take `update_stats`.)"""
    kinds = nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm
    norms = [m for m in module.modules() if isinstance(m, kinds) and m.training and m.track_running_stats]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        if isinstance(norm, kinds[0]):
            norm.track_running_stats = False
        else:  # without tracking it would still update
            norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta):
            norm.track_running_stats, norm.momentum = True, momentum


def closure(module: nn.Module, loss: Callable[[], Tensor], seed: int | None = None) -> Loss:
    """The loss of one batch as the functions here call it.

    Args:
        module: whose BatchNorm statistics are left alone, except in passes that are to update them.
        loss: () -> scalar, one pass on the batch. It draws the same random numbers in every call, so the
            same dropout masks; torch's generators are afterwards as they were.
        seed: of these numbers; None draws it, once, from torch's generator.
    """
    key = int(torch.randint(2**63 - 1, ())) if seed is None else seed
    device = next((p.device for p in module.parameters()), None)

    def repeated(update_statistics: bool) -> Tensor:
        with seeded(key, device), nullcontext() if update_statistics else frozen_statistics(module):
            return loss()

    return repeated


class FlatParameters:
    """Parameters laid out one after another in one flat tensor; each parameter becomes a view of it.

    Move the module to its device and dtype first: a later `.to()` would break the views; `load_state_dict`
    keeps them.

    Attributes:
        parameters: the parameters, in the order given.
        values [P]: all of them; writing here changes the module.
    """

    def __init__(self, parameters: Iterable[torch.nn.Parameter]):
        self.parameters = tuple(parameters)
        if not self.parameters:
            raise ValueError("no parameters to lay out")
        self._sizes = [p.numel() for p in self.parameters]
        self.values = torch.cat([p.detach().reshape(-1) for p in self.parameters])
        for parameter, view in zip(self.parameters, self.split(self.values)):
            parameter.data = view

    def split(self, flat: Tensor) -> list[Tensor]:
        """Views of a flat tensor [P] with the shapes of the parameters."""
        return [piece.view(p.shape) for piece, p in zip(flat.split(self._sizes), self.parameters)]

    def gather(self, gradients: Sequence[Tensor | None]) -> Tensor:
        """One gradient per parameter -> flat [P]; None (the loss does not depend on it) counts as zero."""
        flat = torch.empty_like(self.values)
        pairs = list(zip(self.split(flat), gradients, strict=True))
        for view, gradient in pairs:
            if gradient is None:
                view.zero_()
        there = [pair for pair in pairs if pair[1] is not None]
        if there:
            views, values = zip(*there)
            torch._foreach_copy_(views, values)  # few launches for all of them
        return flat


@contextmanager
def differentiating(on: Iterable[Tensor], off: Iterable[Tensor]) -> Iterator[None]:
    """Within: tensors in `on` require a gradient, those in `off` do not. Restores the flags afterwards."""
    on, off = tuple(on), tuple(off)
    before = [(t, t.requires_grad) for t in on + off]
    try:
        for t in on:
            t.requires_grad_(True)
        for t in off:
            t.requires_grad_(False)
        yield
    finally:
        for t, flag in before:
            t.requires_grad_(flag)


@dataclass(frozen=True)
class AlphaGradient:
    """Result of one architect step. The fields below `loss_val` are None in a first-order step.

    Attributes:
        galpha: gradient for the optimizer of alpha, shape of alpha.
        loss_val: validation loss, at w (first order) or at the unrolled w' (second order).
        loss_train: training loss at w.
        dalpha: direct part, d L_val(w', alpha) / d alpha.
        implicit: (g+ - g-) / 2R, g the alpha gradients of L_train at w + R v and w - R v.
        unrolled [P]: w'.
        v [P]: d L_val / d w'.
        radius: R = r / |v|, a scalar tensor.
    """

    galpha: Tensor
    loss_val: Tensor
    loss_train: Tensor | None = None
    dalpha: Tensor | None = None
    implicit: Tensor | None = None
    unrolled: Tensor | None = None
    v: Tensor | None = None
    radius: Tensor | None = None


def _check_apart(alpha: Tensor, *groups: FlatParameters) -> None:
    if any(p is alpha for group in groups for p in group.parameters):
        raise ValueError(
            "alpha is one of the weights: make FlatParameters of the others, "
            "(p for p in module.parameters() if p is not alpha)"
        )


def weight_gradient(
    loss: Loss,
    alpha: Tensor,
    *groups: FlatParameters,
    update_statistics: bool = True,
    reduce: Reduce = alone,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Loss and its gradient [P] for each group of weights; no gradient to alpha is computed."""
    _check_apart(alpha, *groups)
    parameters = [p for group in groups for p in group.parameters]
    with differentiating(on=parameters, off=[alpha]):
        value = loss(update_statistics)
        gradients = torch.autograd.grad(value, parameters, allow_unused=True)
    flat, start = [], 0
    for group in groups:
        flat.append(group.gather(gradients[start : start + len(group.parameters)]))
        start += len(group.parameters)
    reduce(*flat)
    return value.detach(), tuple(flat)


def alpha_gradient(
    loss: Loss,
    alpha: Tensor,
    weights: FlatParameters,
    update_statistics: bool = False,
    reduce: Reduce = alone,
) -> tuple[Tensor, Tensor]:
    """Loss and d loss / d alpha at the present weights; no weight gradient is computed."""
    _check_apart(alpha, weights)
    with differentiating(on=[alpha], off=weights.parameters):
        value = loss(update_statistics)
        (gradient,) = torch.autograd.grad(value, [alpha])
    reduce(gradient)
    return value.detach(), gradient


def first_order(
    loss_val: Loss,
    alpha: Tensor,
    weights: FlatParameters,
    every_pass_updates: bool = False,
    reduce: Reduce = alone,
) -> AlphaGradient:
    """First-order DARTS: d L_val(w, alpha) / d alpha.

    Args:
        every_pass_updates: the pass updates BatchNorm running statistics, as in the public code.
    """
    value, gradient = alpha_gradient(loss_val, alpha, weights, every_pass_updates, reduce)
    return AlphaGradient(galpha=gradient, loss_val=value)


def second_order(
    loss_train: Loss,
    loss_val: Loss,
    alpha: Tensor,
    weights: FlatParameters,
    eta: float | Tensor,
    weight_decay: float = 0.0,
    momentum: float = 0.0,
    momentum_buffer: Tensor | None = None,
    r: float = 0.01,
    every_pass_updates: bool = False,
    reduce: Reduce = alone,
    loss_unroll: Loss | None = None,
) -> AlphaGradient:
    """Second-order DARTS (Liu et al. 2019, eq. 7-8), with the values of the public code.

    w' = w - eta (momentum m + dL_train/dw + weight_decay w);  v = dL_val(w', alpha)/dw';  R = r / |v|;
    galpha = dL_val(w', alpha)/dalpha - eta (dL_train(w + R v)/dalpha - dL_train(w - R v)/dalpha) / 2R.

    The weights hold exactly their old values afterwards, also when a loss raises.

    Args:
        alpha: leaf tensor the two closures read.
        weights: the weights that are unrolled; others stay fixed.
        eta: step of the unroll, the present learning rate of the weights; a number, or 0-d on the device.
        momentum_buffer [P]: m, the SGD buffers; None drops the term.
        r: length of the probe (0.01 in the public code). Not a small step: see docs/fidelity.md.
        every_pass_updates: every pass at w and at the probes updates BatchNorm running statistics (three
            updates, as in the public code; the validation pass there runs on a copy whose statistics are
            thrown away).
        loss_unroll: the training loss in the precision of the unrolled step; None: `loss_train`. Only w'
            takes its rounding: v and the two probes are passes of the other two losses.
    """
    w = weights.values.clone()
    train, (step,) = weight_gradient(
        loss_unroll or loss_train, alpha, weights, update_statistics=every_pass_updates, reduce=reduce
    )
    step.add_(w, alpha=weight_decay)
    if momentum_buffer is not None:
        step.add_(momentum_buffer, alpha=momentum)
    unrolled = w - eta * step
    try:
        weights.values.copy_(unrolled)
        with differentiating(on=[alpha, *weights.parameters], off=[]):
            value = loss_val(False)
            dalpha, *gradients = torch.autograd.grad(value, [alpha, *weights.parameters], allow_unused=True)
        v = weights.gather(gradients)
        del gradients
        reduce(v, dalpha)
        radius = r / v.norm().clamp_min(torch.finfo(v.dtype).tiny)
        weights.values.copy_(w + radius * v)
        _, plus = alpha_gradient(loss_train, alpha, weights, every_pass_updates, reduce)
        weights.values.copy_(w - radius * v)
        _, minus = alpha_gradient(loss_train, alpha, weights, every_pass_updates, reduce)
    finally:
        weights.values.copy_(w)
    implicit = (plus - minus) / (2 * radius)
    return AlphaGradient(
        galpha=dalpha - eta * implicit,
        loss_val=value.detach(),
        loss_train=train,
        dalpha=dalpha,
        implicit=implicit,
        unrolled=unrolled,
        v=v,
        radius=radius,
    )
