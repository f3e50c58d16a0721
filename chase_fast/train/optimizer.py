"""Adam with the published groups and schedule, gradient norm, and the average of the weights."""

import copy

import torch
from torch import Tensor

from chase_fast.nn.tracker_net import TrackerNet
from chase_fast.recipes import TrainConfig


def learning_rates(config: TrainConfig) -> dict[str, float]:
    """Initial learning rate of each group."""
    return {
        "neck": config.lr,
        "filter_initializer": config.lr_filter_initializer or config.lr,
        "filter_optimizer": config.lr_filter_optimizer or config.lr,
        "box": config.lr_box,
        "backbone": config.lr_backbone,
    }


def decay(config: TrainConfig, epoch: int) -> float:
    """Factor of all learning rates in an epoch (1, 2, ...)."""
    return config.lr_gamma ** ((epoch - 1) // config.lr_step)


def make_optimizer(config: TrainConfig, net: TrackerNet) -> torch.optim.Adam:
    """Adam (betas 0.9 and 0.999, no weight decay) on everything that is not frozen; groups have a `name`."""
    parts = {
        "neck": net.neck,
        "filter_initializer": net.classifier.filter_initializer,
        "filter_optimizer": net.classifier.filter_optimizer,
        "box": net.bb_regressor,
        "backbone": net.feature_extractor,
    }
    rates = learning_rates(config)
    groups = [
        {"name": name, "params": parameters, "lr": rates[name]}
        for name, part in parts.items()
        if (parameters := [p for p in part.parameters() if p.requires_grad])
    ]
    return torch.optim.Adam(groups)


def set_epoch(config: TrainConfig, optimizer: torch.optim.Adam, epoch: int) -> None:
    """Sets the learning rates of an epoch."""
    rates = learning_rates(config)
    for group in optimizer.param_groups:
        group["lr"] = rates[group["name"]] * decay(config, epoch)


def clip(gradients: list[Tensor], limit: float) -> Tensor:
    """Scales the gradients in place to a common norm of at most `limit` (0: no limit); the norm before."""
    norm = torch.nn.utils.get_total_norm(gradients)
    if limit:
        scale = (limit / (norm + 1e-6)).clamp(max=1.0)
        torch._foreach_mul_(gradients, scale)
    return norm


class Average:
    """Exponential moving average of weights and BatchNorm statistics, in a network of its own.

    The decay of step t (0, 1, ...) is at most (1 + t) / (10 + t), so that the untrained weights fade at once.
    """

    def __init__(self, net: TrackerNet, decay: float):
        self.net, self._decay = copy.deepcopy(net).requires_grad_(False), decay

    @torch.no_grad()
    def update(self, net: TrackerNet, step: int) -> None:
        weight = 1 - min(self._decay, (1 + step) / (10 + step))
        for mine, other in zip(self.net.state_dict().values(), net.state_dict().values(), strict=True):
            if mine.is_floating_point():
                mine.lerp_(other, weight)
            else:
                mine.copy_(other)
