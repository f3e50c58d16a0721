"""Batch norm with statistics per group of frames (train frames, test frames), and its state inside cells."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chase_fast.errors import ChaseError

EPS, MOMENTUM = 1e-5, 0.1


@torch.no_grad()
def forget_start_(module: nn.Module, updates: int) -> None:
    """Takes the share of the initial statistics (mean 0, variance 1) out of the running averages of all batch
    norms in a module, after this many updates of each. A cumulative average (momentum None) holds none."""
    for norm in module.modules():
        momentum = getattr(norm, "momentum", MOMENTUM)
        mean, variance = getattr(norm, "running_mean", None), getattr(norm, "running_var", None)
        if mean is not None and variance is not None and momentum is not None:
            left = (1 - momentum) ** updates
            mean.div_(1 - left)
            variance.sub_(left).div_(1 - left)


class GroupBatchNorm(nn.BatchNorm2d):
    """nn.BatchNorm2d (same state_dict) with batch statistics per group.

    The batch is `groups` equal, consecutive parts. The running statistics are updated group by group, in
    order, and only if `update_stats`.

    Raises:
        ValueError: `groups` does not divide the batch.
    """

    num_batches_tracked: Tensor
    momentum: float

    def forward(self, x: Tensor, groups: int = 1, update_stats: bool = True) -> Tensor:
        if not self.training:
            return super().forward(x)
        if x.shape[0] % groups:
            raise ValueError(f"{groups} groups do not divide a batch of {x.shape[0]}")
        running = (self.running_mean, self.running_var) if update_stats else (None, None)
        if update_stats:
            self.num_batches_tracked += groups
        parts = [
            F.batch_norm(part, *running, self.weight, self.bias, True, self.momentum, self.eps)
            for part in x.chunk(groups)
        ]
        return parts[0] if groups == 1 else torch.cat(parts)


def run_registered(module: nn.Module, x: Tensor, groups: int, update_stats: bool) -> Tensor:
    """Runs a user's module on each group of the batch by itself: its batch norms see one group at a time.

    Raises:
        ChaseError: the module changes the shape.
    """
    batch_norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    norms = [m for m in batch_norms if m.track_running_stats]
    for norm in norms:  # in training, batch norm without tracking leaves its buffers alone
        norm.track_running_stats = update_stats or not module.training
    try:
        parts = [module(part) for part in x.chunk(groups if module.training else 1)]
    finally:
        for norm in norms:
            norm.track_running_stats = True
    y = parts[0] if len(parts) == 1 else torch.cat(parts)
    if y.shape != x.shape:
        raise ChaseError(
            f"{type(module).__name__} maps {list(x.shape)} to {list(y.shape)}: it must keep the shape"
        )
    return y


class NormState(nn.Module):
    """Affine part and running statistics of a stack of batch norms, for kernels that normalise by themselves.

    All are [*rows, C]: weight, bias (parameters, or the constants 1 and 0 with affine=False), running_mean,
    running_var. `updates` counts the groups taken in; it is no part of the state_dict.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor
    updates: Tensor

    def __init__(self, *shape: int, affine: bool):
        super().__init__()
        if affine:
            self.weight, self.bias = nn.Parameter(torch.ones(shape)), nn.Parameter(torch.zeros(shape))
        else:
            self.register_buffer("weight", torch.ones(shape), persistent=False)
            self.register_buffer("bias", torch.zeros(shape), persistent=False)
        self.register_buffer("running_mean", torch.zeros(shape))
        self.register_buffer("running_var", torch.ones(shape))
        self.register_buffer("updates", torch.zeros((), dtype=torch.long), persistent=False)

    @torch.no_grad()
    def update(self, mean: Tensor, var: Tensor, count: int) -> None:
        """Moves the running statistics towards those of a batch, group by group.

        Args:
            mean, var: [*rows, G, C], mean and biased variance.
            count: values per channel in one group.
        """
        unbiased = var * (count / (count - 1))
        for m, v in zip(mean.unbind(-2), unbiased.unbind(-2)):
            self.running_mean.lerp_(m, MOMENTUM)
            self.running_var.lerp_(v, MOMENTUM)
        self.updates.add_(mean.shape[-2])
