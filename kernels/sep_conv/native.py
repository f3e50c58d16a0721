"""The stages of the block on CPU: depthwise (`csrc/cpu/depthwise.cpp`), products (torch), batch norm with its
activation (`csrc/cpu/node_sum.cpp`: a node of one branch with weight 1)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .._dispatch import native
from .._layout import channels_last
from ..node_sum import native as node
from ..node_sum.reference import NORM, NORM_LRELU

# torch takes oneDNN for 1 x 1 convolutions of this many images: 20 % faster than a matrix product. For fewer
# it takes a convolution that is twice as slow.
IMAGES = 16


def _new_map(x: Tensor, channels: int, stride: int) -> Tensor:
    n, _, h, w = x.shape
    shape = (n, -(-h // stride), -(-w // stride), channels)
    return torch.empty(shape, dtype=x.dtype).permute(0, 3, 1, 2)


def _empty(x: Tensor) -> Tensor:
    """Stands for a result that is not wanted; a fresh one each time, an op's results must not alias."""
    return torch.empty(0, dtype=x.dtype)


def _rows(x: Tensor) -> Tensor:
    """[N, C, H, W] in channels_last memory -> [N H W, C], a view."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def _maps(rows: Tensor, like: Tensor) -> Tensor:
    """[N H W, D] -> [N, D, H, W], a view; N, H, W are those of `like`."""
    n, _, h, w = like.shape
    return rows.view(n, h, w, -1).permute(0, 3, 1, 2)


def _pointwise(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x [N, C, H, W] channels_last, weight [D, C], bias [D] -> [N, D, H, W] channels_last."""
    many = x.shape[0] >= IMAGES and x.dtype == torch.float32
    if many and torch.backends.mkldnn.is_available():
        return channels_last(F.conv2d(x, weight[:, :, None, None], bias))
    return _maps(F.linear(_rows(x), weight, bias), x)


def _norm_kind(flavour: str) -> list[int]:
    return [NORM_LRELU if flavour == "chase" else NORM]


def _activation_slope(flavour: str) -> float:
    """Of the activation in front of the depthwise: 1 is none, 0 the ReLU."""
    return 1.0 if flavour == "chase" else 0.0


def forward(
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
):
    x, depthwise, pointwise = channels_last(x), depthwise.contiguous(), pointwise.contiguous()
    between = _new_map(x, x.shape[1], stride)
    native().cpu_depthwise(
        x,
        depthwise,
        stride,
        dilation,
        _activation_slope(flavour),
        between,
        torch.get_num_threads(),
    )
    if not training and not keep:
        scale = gamma * torch.rsqrt(var + eps)
        y = _pointwise(between, pointwise * scale[:, None], torch.addcmul(beta, mean, scale, value=-1))
        y = F.leaky_relu_(y, slope) if flavour == "chase" else y
        return y, mean.expand(groups, -1).clone(), var.expand(groups, -1).clone(), _empty(x), _empty(x)
    product = _pointwise(between, pointwise)
    given = (gamma, beta) if training else (mean, var)  # running statistics are not read in training
    tables = [t[None] for t in (gamma, beta, *given)]
    out = None if keep else product  # a fresh map costs page faults
    one = torch.ones(1, dtype=x.dtype)
    options = (_norm_kind(flavour), groups, training, eps, slope, out)
    y, mean, var = node.forward([product], one, *tables, *options)
    return y, mean[0], var[0], *((between, product) if keep else (_empty(x), _empty(x)))


def backward(
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
):
    """Gradients of x, depthwise, pointwise, gamma, beta; unwanted ones of the first three are empty."""
    to_x, to_depthwise, to_pointwise = wanted[:3]
    one = torch.ones(1, dtype=x.dtype)
    tables = [t[None] for t in (gamma, beta, mean, var)]
    options = (_norm_kind(flavour), training, eps, slope, [any(wanted[:3])])
    (grad,), _, grad_gamma, grad_beta = node.backward(grad, [product], one, *tables, *options)
    rest = grad_gamma[0], grad_beta[0]
    grad_pointwise = torch.mm(_rows(grad).t(), _rows(between)) if to_pointwise else _empty(x)
    if not (to_x or to_depthwise):
        return _empty(x), _empty(x), grad_pointwise, *rest
    grad_between = _pointwise(grad, pointwise.t().contiguous())
    x, depthwise = channels_last(x), depthwise.contiguous()
    if to_x:  # where it fits, over the gradient that has been used: a fresh map costs page faults
        same = grad.shape == x.shape
        grad_x = grad if same else torch.empty_like(x, memory_format=torch.channels_last)
    else:
        grad_x = _empty(x)
    grad_depthwise = torch.empty(depthwise.shape, dtype=x.dtype) if to_depthwise else _empty(x)
    native().cpu_depthwise_backward(
        grad_between,
        x,
        depthwise,
        stride,
        dilation,
        _activation_slope(flavour),
        grad_x,
        grad_depthwise,
        torch.get_num_threads(),
    )
    return grad_x, grad_depthwise, grad_pointwise, *rest
