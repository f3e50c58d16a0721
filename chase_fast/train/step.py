"""One iteration: losses and gradients of the micro-batches, over all ranks, and the step of the optimiser."""

import math
from typing import Any

import torch
from torch import Tensor

from chase_fast.data import Batch
from chase_fast.distributed import Ranks, statistics
from chase_fast.nn.tracker_net import TrackerNet
from chase_fast.recipes import TrainConfig
from chase_fast.train.network import TERMS, Losses, split
from chase_fast.train.optimizer import Average, clip, make_optimizer, set_epoch


class TrainStep:
    """The network, its optimiser and its average, and what one iteration does with them.

    Attributes:
        local: losses of the last batch on this rank alone, [5].
        how: how it runs, for the first lines of a run.
    """

    how = "eager"

    def __init__(self, config: TrainConfig, net: TrackerNet, losses: Losses, ranks: Ranks):
        self._config, self._losses, self._ranks = config, losses, ranks
        self.net = net
        self.optimizer = make_optimizer(config, net)
        self.average = Average(net, config.ema) if config.ema else None

    @property
    def best_net(self) -> TrackerNet:
        """The network to validate and to save: the average, if there is one."""
        return self.net if self.average is None else self.average.net

    def __call__(self, batch: Batch, epoch: int, iteration: int) -> list[float]:
        """One iteration: mean losses over all ranks, then the norm of the gradient before clipping.

        There is no update if the loss is not finite; the norm is NaN then.
        """
        losses = self.gradients(batch).tolist()
        if not math.isfinite(losses[0]):
            return [*losses, math.nan]
        return [*losses, float(self.update(epoch, iteration))]

    def gradients(self, batch: Batch) -> Tensor:
        """Adds the gradients of this rank's share of a batch to `.grad`; mean losses over all ranks, [5]."""
        config, net = self._config, self.net
        self._losses.train_mode(net)
        before = statistics(net) if self._ranks.world > 1 else {}
        total = torch.zeros(len(TERMS), device=self._losses.device)
        for part in split(batch, config.accumulate):
            terms = self._losses(net, part)
            (terms[0] / config.accumulate).backward()
            total += terms.detach() / config.accumulate
        gradients = self._gradients()
        self.local = total.clone()
        self._ranks.mean_(total, *gradients)
        self._ranks.merge_statistics_(before, net)
        return total

    def _gradients(self) -> list[Tensor]:
        return [p.grad for p in self.net.parameters() if p.grad is not None]

    def update(self, epoch: int, iteration: int) -> Tensor:
        """A step of the optimiser with the gradients that are there; their norm before clipping."""
        set_epoch(self._config, self.optimizer, epoch)
        norm = clip(self._gradients(), self._config.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.average is not None:
            self.average.update(self.net, self._count(epoch, iteration))
        return norm

    def _count(self, epoch: int, iteration: int) -> int:
        """Steps of the run before this one."""
        return (epoch - 1) * self._config.iterations + iteration

    def load_optimizer(self, state: dict[str, Any]) -> None:
        """Takes over the `state_dict` of an optimiser, whichever step wrote it."""
        self.optimizer.load_state_dict(state)
