"""Definition of `sep_conv` in plain torch; its gradient is autograd's. Source: the DARTS search space."""

from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor


def separable(x: Tensor, depthwise: Tensor, pointwise: Tensor, stride: int = 1, dilation: int = 1) -> Tensor:
    """Depthwise [C, k, k], then pointwise [D, C] convolution; padding keeps the size at stride 1."""
    padding = dilation * (depthwise.shape[-1] - 1) // 2
    x = F.conv2d(x, depthwise[:, None], None, stride, padding, dilation, groups=x.shape[1])
    return F.linear(x.permute(0, 2, 3, 1), pointwise).permute(0, 3, 1, 2)  # the result is channels_last


def batch_norm(
    x: Tensor,
    gamma: Tensor | None,
    beta: Tensor | None,
    mean: Tensor | None,
    var: Tensor | None,
    groups: int,
    training: bool,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Batch norm with separate statistics for each of `groups` equal parts of the batch.

    Returns:
        y [N, C, H, W]; mean and biased variance used, [G, C] each, without gradient.
    """
    channels = x.shape[1]
    # torch 2.15 on the CPU reads strided tables as if they were dense in the backward of channels_last maps
    gamma, beta, mean, var = (t if t is None else t.contiguous() for t in (gamma, beta, mean, var))
    if not training:
        assert mean is not None and var is not None
        y = F.batch_norm(x, mean, var, gamma, beta, training=False, eps=eps)
        return y, mean.detach().repeat(groups, 1), var.detach().repeat(groups, 1)
    count = x.numel() // (groups * channels)
    buffer_dtype = x.dtype if gamma is None else gamma.dtype
    parts, means, variances = [], [], []
    for part in x.chunk(groups):
        m, v = torch.zeros(2, channels, dtype=buffer_dtype, device=x.device)
        # momentum 1: the buffers become the mean and the unbiased variance of this part
        parts.append(F.batch_norm(part, m, v, gamma, beta, training=True, momentum=1.0, eps=eps))
        means.append(m)
        variances.append(v * ((count - 1) / count))
    y = parts[0] if groups == 1 else torch.cat(parts)
    return y, torch.stack(means), torch.stack(variances)


def without_autocast(device: torch.device) -> AbstractContextManager:
    """Inside, products keep the dtype of their inputs; devices like meta have no autocast to switch off."""
    known = torch.amp.is_autocast_available(device.type)
    return torch.autocast(device.type, enabled=False) if known else nullcontext()


def sep_conv(
    x: Tensor,
    depthwise: Tensor,
    pointwise: Tensor,
    gamma: Tensor,
    beta: Tensor,
    mean: Tensor | None = None,
    var: Tensor | None = None,
    stride: int = 1,
    dilation: int = 1,
    flavour: str = "chase",
    groups: int = 1,
    training: bool = True,
    eps: float = 1e-5,
    slope: float = 0.01,
) -> tuple[Tensor, Tensor, Tensor]:
    """Shapes and meaning: `chase_fast.kernels.sep_conv`. Computes in the dtype of the weights."""
    y = x.to(pointwise.dtype)
    with without_autocast(x.device):
        if flavour == "darts":
            y = F.relu(y)
        y = separable(y, depthwise, pointwise, stride, dilation)
        y, mean, var = batch_norm(y, gamma, beta, mean, var, groups, training, eps)
        if flavour == "chase":
            y = F.leaky_relu(y, slope)
    return y.to(x.dtype), mean, var
