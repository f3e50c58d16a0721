"""Adam with the published groups and schedule, gradient norm, and the average of the weights."""

import copy
from typing import Any

import torch
from torch import Tensor

from chase_fast.fields import Fields
from chase_fast.nn.state import check_like
from chase_fast.nn.tracker_net import TrackerNet
from chase_fast.recipes import TrainConfig
from chase_fast.runs.adam import adam_


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
        if part is not None and (parameters := [p for p in part.parameters() if p.requires_grad])
    ]
    return torch.optim.Adam(groups)


def set_epoch(config: TrainConfig, optimizer: torch.optim.Adam, epoch: int) -> None:
    """Sets the learning rates of an epoch."""
    rates = learning_rates(config)
    for group in optimizer.param_groups:
        group["lr"] = rates[group["name"]] * decay(config, epoch)


def make_moments(optimizer: torch.optim.Adam) -> None:
    """Completes the state: zeros where no step has been made yet, counters on the device of their weights
    (torch leaves those of a state that was loaded on the CPU)."""
    for group in optimizer.param_groups:
        for p in group["params"]:
            state = optimizer.state[p]
            state["step"] = state.get("step", torch.zeros(())).to(p.device)
            for name in ("exp_avg", "exp_avg_sq"):
                if name not in state:
                    state[name] = torch.zeros_like(p, memory_format=torch.preserve_format)


def check_optimizer(optimizer: torch.optim.Adam, state: Fields) -> dict[str, Any]:
    """The `state_dict` of an optimiser of the same network.

    Raises:
        ChaseError, ValueError: groups, constants or moments are others; torch would take them and fail later.
    """
    groups, own = state.many("param_groups"), optimizer.state_dict()["param_groups"]
    for mine, other in zip(own, groups, strict=True):
        if {k: v for k, v in dict(other).items() if k != "lr"} != {
            k: v for k, v in mine.items() if k != "lr"
        }:
            raise ValueError("the groups of its optimiser have other constants or sizes")
        other.number("lr", 0)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    moments: dict[Any, Any] = dict(state.inner("state"))
    if any(type(k) is not int or not 0 <= k < len(parameters) for k in moments):
        raise ValueError("its optimiser has moments of other weights")
    for number in moments:
        moment = moments[number]
        like = {"step": torch.zeros(()), "exp_avg": parameters[number], "exp_avg_sq": parameters[number]}
        if not isinstance(moment, dict) or moment.keys() != like.keys():
            raise ValueError("the moments of its optimiser have other names")
        for name, tensor in like.items():
            check_like(moment[name], tensor, f"optimizer.{number}.{name}")
    return {"state": moments, "param_groups": [dict(group) for group in groups]}


def step_(optimizer: torch.optim.Adam, group: dict[str, Any], size: Tensor, root: Tensor) -> None:
    """`optimizer.step()` for one group, without a value on the host.

    Args:
        optimizer: with the state that `make_moments` makes.
        size, root: see `adam.numbers`; 0-d, on the device of the weights.
    """
    weights = [p for p in group["params"] if p.grad is not None]
    if not weights:
        return
    states = [optimizer.state[p] for p in weights]
    steps, means, squares = ([s[name] for s in states] for name in ("step", "exp_avg", "exp_avg_sq"))
    torch._foreach_add_(steps, 1)
    constants = {name: group[name] for name in ("betas", "eps", "weight_decay")}
    adam_(weights, [p.grad for p in weights], means, squares, size, root, **constants)


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

    def weight(self, step: int) -> float:
        """Weight of the present weights in step 0, 1, ..."""
        return 1 - min(self._decay, (1 + step) / (10 + step))

    @torch.no_grad()
    def update(self, net: TrackerNet, step: int) -> None:
        weight = self.weight(step)
        for mine, other in self._pairs(net):
            if mine.is_floating_point():
                mine.lerp_(other, weight)
            else:
                mine.copy_(other)

    @torch.no_grad()
    def move(self, net: TrackerNet, weight: Tensor) -> None:
        """`update` with its weight a 0-d tensor on the device, in few launches."""
        pairs = self._pairs(net)
        mine, other = zip(*(pair for pair in pairs if pair[0].is_floating_point()))
        way = torch._foreach_sub(other, mine)
        torch._foreach_mul_(way, weight.to(way[0].dtype))
        torch._foreach_add_(mine, way)
        for counter, present in (pair for pair in pairs if not pair[0].is_floating_point()):
            counter.copy_(present)

    def _pairs(self, net: TrackerNet) -> list[tuple[Tensor, Tensor]]:
        """Each weight and statistic of the average with that of the network."""
        return list(zip(self.net.state_dict().values(), net.state_dict().values(), strict=True))
