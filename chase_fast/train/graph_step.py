"""An iteration of a training as one function of tensors, replayed as a CUDA graph; which step a run takes."""

from collections.abc import Iterable
from dataclasses import fields

import torch
from torch import Tensor

from chase_fast.data import Batch
from chase_fast.distributed import Ranks
from chase_fast.graphs import Graph
from chase_fast.nn.tracker_net import TrackerNet
from chase_fast.recipes import TrainConfig
from chase_fast.train.network import Losses
from chase_fast.train.optimizer import adam_, clip, make_moments, set_epoch
from chase_fast.train.step import TrainStep

RATE = "lr_"  # prefix of the learning rate of a group among the inputs


class GraphStep(TrainStep):
    """`TrainStep` on one device whose whole iteration, the optimiser and the average included, is a `Graph`.

    The losses come to the host after the update: if they are not finite, the state in memory is lost.

    Args:
        enabled: False runs the same function eagerly, with the same digits.
    """

    def __init__(self, config: TrainConfig, net: TrackerNet, losses: Losses, enabled: bool = True):
        super().__init__(config, net, losses, Ranks())
        make_moments(self.optimizer)  # before a capture: its warm-up steps are taken back
        self._graph = Graph(self.whole, losses.device, self.state, enabled)

    def __call__(self, batch: Batch, epoch: int, iteration: int) -> list[float]:
        return self._graph(**self.inputs(batch, epoch, iteration)).tolist()

    def inputs(self, batch: Batch, epoch: int, iteration: int) -> dict[str, Tensor | float]:
        """What `whole` takes in this iteration: the batch and the numbers that change."""
        set_epoch(self._config, self.optimizer, epoch)
        found = {f.name: t for f in fields(batch) if (t := getattr(batch, f.name)) is not None}
        found |= {RATE + group["name"]: group["lr"] for group in self.optimizer.param_groups}
        if self.average is not None:
            found["weight"] = self.average.weight(self._count(epoch, iteration))
        return found

    def whole(self, weight: Tensor | None = None, **inputs: Tensor) -> Tensor:
        """Losses of a batch, and the norm of its gradient before clipping, [6]; the update.

        Args:
            weight: of the present weights in the moving average.
            inputs: tensors of the batch, and the learning rate of each group.
        """
        rates = {name: inputs.pop(name) for name in list(inputs) if name.startswith(RATE)}
        losses = self.gradients(Batch(**inputs))
        norm = clip(self._gradients(), self._config.clip_norm)
        for group in self.optimizer.param_groups:
            adam_(self.optimizer, group, rates[RATE + group["name"]])
        self.optimizer.zero_grad()  # the next backward pass writes gradients instead of adding to them
        if self.average is not None:
            self.average.move(self.net, weight)
        return torch.cat([losses, norm.view(1)])

    def state(self) -> Iterable[Tensor]:
        """What `whole` changes."""
        nets = [self.net] if self.average is None else [self.net, self.average.net]
        tensors = [t for net in nets for t in (*net.parameters(), *net.buffers())]
        return tensors + [t for moments in self.optimizer.state.values() for t in moments.values()]

    def load_optimizer(self, state: dict) -> None:
        super().load_optimizer(state)
        make_moments(self.optimizer)


def why_eager(config: TrainConfig, device: torch.device, ranks: Ranks) -> str | None:
    """What keeps an iteration from being one CUDA graph; None: nothing."""
    reasons = (
        (device.type != "cuda", "CUDA graphs need a CUDA device"),
        (ranks.world > 1, "several ranks"),
        (config.compile, "--compile"),
        (not config.graphs, "--no-graphs"),
    )
    return next((reason for applies, reason in reasons if applies), None)


def make_step(config: TrainConfig, net: TrackerNet, losses: Losses, ranks: Ranks) -> TrainStep:
    """The step for this device and these flags; its `how` says which it is and why."""
    reason = why_eager(config, losses.device, ranks)
    if reason in (None, "--no-graphs"):
        step: TrainStep = GraphStep(config, net, losses, enabled=reason is None)
    else:
        step = TrainStep(config, net, losses, ranks)
    step.how = "an iteration is one CUDA graph" if reason is None else f"eager ({reason})"
    return step
