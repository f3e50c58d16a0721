"""Definition of `mixed_op` in plain torch; its gradient is autograd's. Source: the DARTS search space."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..sep_conv.reference import batch_norm, separable


def pool(x: Tensor, op: str) -> Tensor:
    """3x3 pooling at stride 1, size kept; the average counts only pixels inside the map."""
    if op == "max_pool_3x3":
        return F.max_pool2d(x, 3, stride=1, padding=1)
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


def mixed_op(
    x: Tensor,
    ops: Sequence[str],
    depthwise: Sequence[Tensor],
    pointwise: Sequence[Tensor],
    gamma: Sequence[Tensor],
    beta: Sequence[Tensor],
    mean: Sequence[Tensor] = (),
    var: Sequence[Tensor] = (),
    flavour: str = "chase",
    groups: int = 1,
    training: bool = True,
    eps: float = 1e-5,
    slope: float = 0.01,
) -> list[Tensor]:
    """Shapes and meaning: `chase_fast.kernels.mixed_op`; the result is flat: maps, means, variances.

    bfloat16 x: computed in float32, maps rounded to bfloat16."""
    storage = x.dtype
    x = x.float() if storage == torch.bfloat16 else x
    darts = flavour == "darts"
    activated = F.relu(x) if darts and depthwise else x
    stages = iter(zip(depthwise, pointwise))
    affines = iter(zip(gamma, beta))
    running = iter(zip(mean, var))
    maps, means, variances = [], [], []
    for op in ops:
        is_pool, is_sep = op.endswith("pool_3x3"), op.startswith("sep_conv")
        if is_pool:
            ys = [pool(x, op)]
        else:
            dilation = 1 if is_sep else 2
            ys = [separable(activated, d, p, dilation=dilation) for d, p in zip(*next(stages))]
        if is_pool or is_sep:
            affine = zip(*next(affines)) if is_sep else [(None, None)]
            given = [(None, None)] * len(ys) if training else zip(*next(running))
            normalised = [
                batch_norm(y, g, b, m, v, groups, training, eps)
                for y, (g, b), (m, v) in zip(ys, affine, given)
            ]
            ys = [y for y, _, _ in normalised]
            means.append(torch.stack([m for _, m, _ in normalised]))  # [E, G, C]
            variances.append(torch.stack([v for _, _, v in normalised]))
        if is_sep:
            activate = F.relu if darts else lambda y: F.leaky_relu(y, slope)
            ys = [separable(activate(y), d, p) for y, (d, p) in zip(ys, zip(*next(stages)))]
        maps += [y.to(storage) for y in ys]
    return maps + means + variances
