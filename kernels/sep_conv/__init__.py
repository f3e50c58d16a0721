"""One separable block: depthwise k x k, pointwise 1 x 1, batch norm, with its activation before or after.

    chase:  y = lrelu(BN(PW(DW(x))), slope)            darts:  y = BN(PW(DW(relu(x))))

`dilation` 1 gives the separable, 2 the dilated convolution; padding = dilation (k - 1) / 2, so stride 1 keeps
the size. No convolution has a bias. Two blocks make sep_conv_kxk, one makes dil_conv_kxk. The derived cell
and inference use it; the search cell has all its edges in `mixed_op`. Batch norm in training uses the biased
statistics of each of `groups` equal, consecutive parts of the batch; in eval mode the given ones, so a fast
backend may fold them into the pointwise.
Sources: DARTS (Liu et al. 2019) for `darts`, the released CHASE cell for `chase`.
"""

import torch
from torch import Tensor

from .. import _dispatch
from .._autograd import recompute
from . import reference

CAN_RUN = {"reference": _dispatch.always}
FLAVOURS = ("chase", "darts")


def sep_conv(
    x: Tensor,
    depthwise: Tensor,
    pointwise: Tensor,
    gamma: Tensor,
    beta: Tensor,
    mean: Tensor | None = None,
    var: Tensor | None = None,
    *,
    stride: int = 1,
    dilation: int = 1,
    flavour: str = "chase",
    groups: int = 1,
    training: bool = True,
    eps: float = 1e-5,
    slope: float = 0.01,
    backend: str | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """One DW-PW-BN block with the activation of its flavour.

    Args:
        x: [N, C, H, W], best in channels_last memory.
        depthwise: [C, k, k], k odd.
        pointwise: [D, C].
        gamma, beta: [D], scale and shift of the batch norm.
        mean, var: [D], running statistics; read (and required) only with training=False.
        flavour: "chase" or "darts".
        groups: number of parts of the batch with statistics of their own; divides N.
        slope: of the leaky ReLU (chase).
        backend: force a backend; only `reference` is written.

    Returns:
        y [N, D, H', W'] in channels_last memory, H' = ceil(H / stride); mean and biased variance used,
        [groups, D], without gradient.
        Differentiable to x, depthwise, pointwise, gamma and beta.

    Raises:
        ValueError: wrong shapes, groups or flavour.
    """
    _check(x, depthwise, pointwise, mean, var, flavour, groups, training)
    backend = _dispatch.resolve("sep_conv", CAN_RUN, x, backend)
    arguments = (x, depthwise, pointwise, gamma, beta, mean, var)
    options = (stride, dilation, flavour, groups, training, eps, slope)
    if backend == "reference":
        return reference.sep_conv(*arguments, *options)
    return _sep_conv(*arguments, *options, backend)


def _check(x, depthwise, pointwise, mean, var, flavour, groups, training) -> None:
    if x.dim() != 4 or depthwise.dim() != 3 or depthwise.shape[0] != x.shape[1]:
        raise ValueError(
            f"sep_conv: depthwise {list(depthwise.shape)} must be [C, k, k] for x {list(x.shape)}"
        )
    if depthwise.shape[1] != depthwise.shape[2] or depthwise.shape[1] % 2 == 0:
        raise ValueError(f"sep_conv: depthwise {list(depthwise.shape)} must be square with an odd size")
    if pointwise.dim() != 2 or pointwise.shape[1] != x.shape[1]:
        raise ValueError(f"sep_conv: pointwise {list(pointwise.shape)} must be [D, C] for x {list(x.shape)}")
    if flavour not in FLAVOURS:
        raise ValueError(f"sep_conv: unknown flavour {flavour!r}, choose from {', '.join(FLAVOURS)}")
    if groups < 1 or x.shape[0] % groups:
        raise ValueError(f"sep_conv: {groups} groups do not divide a batch of {x.shape[0]}")
    if not training and (mean is None or var is None):
        raise ValueError("sep_conv: training=False needs the running mean and var")


@torch.library.custom_op("chase_fast::sep_conv", mutates_args=())
def _sep_conv(
    x: Tensor,
    depthwise: Tensor,
    pointwise: Tensor,
    gamma: Tensor,
    beta: Tensor,
    mean: Tensor | None,
    var: Tensor | None,
    stride: int,
    dilation: int,
    flavour: str,
    groups: int,
    training: bool,
    eps: float,
    slope: float,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor]:
    return reference.sep_conv(
        x,
        depthwise,
        pointwise,
        gamma,
        beta,
        mean,
        var,
        stride,
        dilation,
        flavour,
        groups,
        training,
        eps,
        slope,
    )


@_sep_conv.register_fake
def _(
    x,
    depthwise,
    pointwise,
    gamma,
    beta,
    mean,
    var,
    stride,
    dilation,
    flavour,
    groups,
    training,
    eps,
    slope,
    backend,
):
    n, _, h, w = x.shape
    channels = pointwise.shape[0]
    y = x.new_empty(n, -(-h // stride), -(-w // stride), channels).permute(0, 3, 1, 2)
    statistics = gamma if training else mean
    return (
        y,
        statistics.new_empty(groups, channels),
        statistics.new_empty(groups, channels),
    )


def _setup_context(ctx, inputs, output):
    *arguments, ctx.backend = inputs
    ctx.save_for_backward(*arguments[:7])
    ctx.options = arguments[7:]
    ctx.mark_non_differentiable(*output[1:])


def _backward(ctx, grad, *_):
    inputs = (*ctx.saved_tensors, *ctx.options)
    return *recompute(reference.sep_conv, inputs, ctx.needs_input_grad[:-1], (grad, None, None)), None


_sep_conv.register_autograd(_backward, setup_context=_setup_context)
