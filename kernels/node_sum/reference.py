"""Definition of `node_sum` in plain torch; its gradient is autograd's."""

import torch
from torch import Tensor

IDENTITY, NORM, NORM_LRELU = 0, 1, 2


def node_sum(
    branches: list[Tensor],
    weights: Tensor,
    gamma: Tensor,
    beta: Tensor,
    mean: Tensor,
    var: Tensor,
    kinds: list[int],
    groups: int = 1,
    training: bool = True,
    eps: float = 1e-5,
    slope: float = 0.01,
) -> tuple[Tensor, Tensor, Tensor]:
    """Shapes and meaning: `chase_fast.kernels.node_sum`. Computes in the dtype of `weights`."""
    n, c = branches[0].shape[:2]
    out = weights.new_zeros(())
    means, variances = [], []
    for b, (branch, kind) in enumerate(zip(branches, kinds)):
        y = branch.to(weights.dtype)
        if kind == IDENTITY:
            m, v = mean.new_zeros(groups, c), var.new_ones(groups, c)
        else:
            y = y.unflatten(0, (groups, n // groups))  # [G, N/G, C, H, W]
            if training:
                v, m = torch.var_mean(y, dim=(1, 3, 4), correction=0)  # [G, C]
            else:
                m, v = mean[b].expand(groups, c), var[b].expand(groups, c)
            scale = gamma[b] * torch.rsqrt(v + eps)  # [G, C]
            z = (y - m[:, None, :, None, None]) * scale[:, None, :, None, None] + beta[b][:, None, None]
            if kind == NORM_LRELU:
                z = torch.nn.functional.leaky_relu(z, slope)
            y = z.flatten(0, 1)
        out = out + weights[b] * y
        means.append(m.detach())
        variances.append(v.detach())
    return out.to(branches[0].dtype), torch.stack(means), torch.stack(variances)
