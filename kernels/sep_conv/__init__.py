"""One separable block: depthwise k x k, pointwise 1 x 1, batch norm, with its activation before or after.

    chase:  y = lrelu(BN(PW(DW(x))), slope)            darts:  y = BN(PW(DW(relu(x))))

`dilation` 1 gives the separable, 2 the dilated convolution; padding = dilation (k - 1) / 2, so stride 1 keeps
the size. No convolution has a bias. Two blocks make sep_conv_kxk, one makes dil_conv_kxk. The derived cell
and inference use it; the search cell has all its edges in `mixed_op`. Batch norm in training uses the biased
statistics of each of `groups` equal, consecutive parts of the batch; in eval mode the given ones, which a
fast backend folds into the pointwise where no gradient is recorded.

Memory plan of the fast backends: maps are read as NHWC (`channels_last`; any other layout is copied to it
once). For the backward cpu keeps the outputs of the depthwise and of the pointwise, as eager keeps them; its
products are torch's, the rest is csrc/cpu/depthwise.cpp and node_sum.cpp (a node of one branch is a batch
norm with its activation). triton keeps the output of the pointwise and computes the depthwise again; in eval
mode with nothing to record it is one kernel and writes nothing but the results.
Sources: DARTS (Liu et al. 2019) for `darts`, the released CHASE cell for `chase`.
"""

import torch
from torch import Tensor

from chase_fast.lazy import front_door

from .. import _dispatch
from .._autograd import not_differentiable, recompute
from . import reference

front_door(__name__, call="sep_conv")
CAN_RUN = {
    "reference": _dispatch.always,
    "cpu": _dispatch.native_cpu(torch.float32, torch.float64),
    "triton": _dispatch.triton(torch.float32, torch.bfloat16),
}
FLAVOURS = ("chase", "darts")
SMALL = 1 << 16  # values of x


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
        depthwise: [C, k, k], k odd. triton copies it unless its memory is in the order [k, k, C].
        pointwise: [D, C]. All weights and tables have the dtype of x, but float32 with bfloat16 maps: then
            sums and the gradients of the weights are float32 too. Autocast has no effect.
        gamma, beta: [D], scale and shift of the batch norm.
        mean, var: [D], running statistics; read (and required) only with training=False.
        flavour: "chase" or "darts".
        groups: number of parts of the batch with statistics of their own; divides N.
        slope: of the leaky ReLU (chase).
        backend: force `reference | cpu | triton`. Not forced, CPU maps of less than SMALL values with
            gradient take the reference: the overhead of two custom ops is more than cpu gains.

    Returns:
        y [N, D, H', W'] in the dtype of x and channels_last memory, H' = ceil(H / stride); mean and biased
        variance used, [groups, D], without gradient.
        Differentiable to x, depthwise, pointwise, gamma and beta; twice on the reference backend.

    Raises:
        ValueError: wrong shapes, dtypes, groups or flavour.
        RuntimeError: the forced backend cannot run (why is in the text).
    """
    tables = (depthwise, pointwise, gamma, beta, *((mean, var) if not training else ()))
    _check(x, depthwise, pointwise, mean, var, flavour, groups, training)
    keep = torch.is_grad_enabled() and any(t.requires_grad for t in (x, *tables[:4]))
    choice = backend or _dispatch.choice_of("sep_conv", CAN_RUN)
    backend = _dispatch.resolve("sep_conv", CAN_RUN, x, backend)
    if choice is None and backend == "cpu" and keep and x.numel() < SMALL:
        backend = "reference"
    arguments = (x, depthwise, pointwise, gamma, beta, mean, var)
    options = (stride, dilation, flavour, groups, training, eps, slope)
    if backend == "reference":
        return reference.sep_conv(*arguments, *options)
    _check_tables(x, tables)
    if not keep and type(x) is Tensor and not torch.compiler.is_compiling():
        # nothing to record: the custom op would only add its overhead
        return _dispatch.implementation("sep_conv", backend).forward(*arguments, *options, False)[:3]
    return _sep_conv(*arguments, *options, keep, backend)[:3]


def _check_tables(x: Tensor, tables: tuple[Tensor, ...]) -> None:
    dtype = torch.float32 if x.dtype == torch.bfloat16 else x.dtype
    for t in tables:
        if (t.dtype, t.device) != (dtype, x.device):
            raise ValueError(
                f"sep_conv: weights {t.dtype} on {t.device} must be {dtype} on {x.device} for x {x.dtype}"
            )
    if any(t.shape != tables[1].shape[:1] for t in tables[2:]):
        shapes = [list(t.shape) for t in tables[2:]]
        raise ValueError(
            f"sep_conv: batch norm tables {shapes} must be [D] for pointwise {list(tables[1].shape)}"
        )


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
    keep: bool,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """y, mean, var, and for the backward the outputs of the depthwise (cpu with `keep`) and of the pointwise
    (cpu and triton with `keep`); else these two are empty."""
    inputs = (x, depthwise, pointwise, gamma, beta, mean, var)
    options = (stride, dilation, flavour, groups, training, eps, slope)
    if backend == "reference":
        return *reference.sep_conv(*inputs, *options), x.new_empty(0), x.new_empty(0)
    return _dispatch.implementation("sep_conv", backend).forward(*inputs, *options, keep)


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
    keep,
    backend,
):
    n, c, h, w = x.shape
    d = pointwise.shape[0]
    kept = keep and backend != "reference"

    def new_map(channels):
        return x.new_empty(n, -(-h // stride), -(-w // stride), channels).permute(0, 3, 1, 2)

    return (
        new_map(d),
        gamma.new_empty(groups, d),
        gamma.new_empty(groups, d),
        new_map(c) if kept and backend == "cpu" else x.new_empty(0),
        new_map(d) if kept else x.new_empty(0),
    )


@torch.library.custom_op("chase_fast::sep_conv_backward", mutates_args=())
def _backward_op(
    grad: Tensor,
    x: Tensor,
    depthwise: Tensor,
    pointwise: Tensor,
    gamma: Tensor,
    beta: Tensor,
    mean: Tensor,
    var: Tensor,
    between: Tensor,
    product: Tensor,
    stride: int,
    dilation: int,
    flavour: str,
    training: bool,
    eps: float,
    slope: float,
    wanted: list[bool],
    backend: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of x, depthwise, pointwise, gamma, beta; an unwanted one of the first three is empty.

    mean, var [groups, D], between and product (outputs of the depthwise, if kept, and the pointwise) as the
    forward returned them.
    """
    return _dispatch.implementation("sep_conv", backend).backward(
        grad,
        x,
        depthwise,
        pointwise,
        gamma,
        beta,
        mean,
        var,
        between,
        product,
        stride,
        dilation,
        flavour,
        training,
        eps,
        slope,
        wanted,
    )


@_backward_op.register_fake
def _(
    grad,
    x,
    depthwise,
    pointwise,
    gamma,
    beta,
    mean,
    var,
    between,
    product,
    stride,
    dilation,
    flavour,
    training,
    eps,
    slope,
    wanted,
    backend,
):
    return (
        torch.empty_like(x, memory_format=torch.channels_last) if wanted[0] else x.new_empty(0),
        depthwise.new_empty(depthwise.shape if wanted[1] else 0),
        pointwise.new_empty(pointwise.shape if wanted[2] else 0),
        gamma.new_empty(gamma.shape),
        beta.new_empty(beta.shape),
    )


not_differentiable(_backward_op)


def _setup_context(ctx, inputs, output):
    x, depthwise, pointwise, gamma, beta, mean, var, *ctx.options, _, ctx.backend = inputs
    _, used_mean, used_var, between, product = output
    if ctx.backend != "reference":
        mean, var = used_mean, used_var
    ctx.save_for_backward(x, depthwise, pointwise, gamma, beta, mean, var, between, product)
    ctx.mark_non_differentiable(*output[1:])


def _backward(ctx, grad, *_):
    *inputs, between, product = ctx.saved_tensors
    needed = ctx.needs_input_grad
    if ctx.backend == "reference":
        return (
            *recompute(reference.sep_conv, (*inputs, *ctx.options), needed[:-2], (grad, None, None)),
            None,
            None,
        )
    stride, dilation, flavour, _, training, eps, slope = ctx.options
    options = (stride, dilation, flavour, training, eps, slope, list(needed[:5]), ctx.backend)
    gradients = _backward_op(grad, *inputs, between, product, *options)
    return *(g if need else None for g, need in zip(gradients, needed)), *(None,) * 11


_sep_conv.register_autograd(_backward, setup_context=_setup_context)
