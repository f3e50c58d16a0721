"""One iteration: losses and gradients of the micro-batches, over all ranks, and the step of the optimiser."""

import math
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from chase_fast.data import Batch
from chase_fast.distributed import Ranks, statistics
from chase_fast.graphs import Graph
from chase_fast.nn.tracker_net import TrackerNet
from chase_fast.recipes import TrainConfig
from chase_fast.runs.adam import numbers
from chase_fast.runs.step import how, obstacle
from chase_fast.train.network import TERMS, Losses, split
from chase_fast.train.optimizer import Average, clip, make_moments, make_optimizer, set_epoch, step_

SIZE = "size_"  # prefix of the size of the step of a group among the inputs of a graph


class TrainStep:
    """The network, its optimiser and its average, and what one iteration does with them.

    On a CUDA device the whole iteration, the optimiser and the average included, is one `Graph` (`function`),
    which with --no-graphs runs eagerly, with the same digits. Its losses come to the host after the update:
    if they are not finite, the state in memory is lost.

    Args:
        graph: run as one CUDA graph (on a CPU: its eager stand-in); None: where it can be.

    Attributes:
        local: losses of the last batch on this rank alone, [5].
        how: in words, how it runs and why, for the first lines of a run.
    """

    def __init__(
        self, config: TrainConfig, net: TrackerNet, losses: Losses, ranks: Ranks, graph: bool | None = None
    ):
        self._config, self._losses, self._ranks = config, losses, ranks
        self.net = net
        self.optimizer = make_optimizer(config, net)
        self.average = Average(net, config.ema) if config.ema else None
        reason = None if graph else obstacle(config, losses.device, ranks, (config.compile, "--compile"))
        if graph is None:
            graph = reason in (None, "--no-graphs")
        self.how = how(reason)
        captured = reason is None
        self._graph = Graph(self.function, losses.device, self.state, captured) if graph else None
        self._complete()

    @property
    def best_net(self) -> TrackerNet:
        """The network to validate and to save: the average, if there is one."""
        return self.net if self.average is None else self.average.net

    def __call__(self, batch: Batch, epoch: int, iteration: int) -> list[float]:
        """One iteration: mean losses over all ranks, then the norm of the gradient before clipping.

        Eagerly there is no update if the loss is not finite; the norm is NaN then.
        """
        if self._graph is not None:
            return self._graph(**self.inputs(batch, epoch, iteration)).tolist()
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

    # as a graph

    def inputs(self, batch: Batch, epoch: int, iteration: int) -> dict[str, Tensor | float]:
        """What `function` takes in this iteration: the batch and the numbers that change."""
        set_epoch(self._config, self.optimizer, epoch)
        found = {f.name: t for f in fields(batch) if (t := getattr(batch, f.name)) is not None}
        step = self._count(epoch, iteration)
        for group in self.optimizer.param_groups:
            found[SIZE + group["name"]], found["root"] = numbers(group["lr"], step + 1, group["betas"])
        if self.average is not None:
            found["weight"] = self.average.weight(step)
        return found

    def function(self, root: Tensor, weight: Tensor | None = None, **inputs: Tensor) -> Tensor:
        """Losses of a batch, and the norm of its gradient before clipping, [6]; the update.

        Args:
            root: see `adam.numbers`.
            weight: of the present weights in the moving average.
            inputs: tensors of the batch, and the size of the step of each group.
        """
        sizes = {name: inputs.pop(name) for name in list(inputs) if name.startswith(SIZE)}
        losses = self.gradients(Batch(**inputs))
        norm = clip(self._gradients(), self._config.clip_norm)
        for group in self.optimizer.param_groups:
            step_(self.optimizer, group, sizes[SIZE + group["name"]], root)
        self.optimizer.zero_grad()  # the next backward pass writes gradients instead of adding to them
        if self.average is not None:
            assert weight is not None
            self.average.move(self.net, weight)
        return torch.cat([losses, norm.view(1)])

    def state(self) -> Iterable[Tensor]:
        """What `function` changes."""
        nets = [self.net] if self.average is None else [self.net, self.average.net]
        tensors = [t for net in nets for t in (*net.parameters(), *net.buffers())]
        return tensors + [t for moments in self.optimizer.state.values() for t in moments.values()]

    def load_optimizer(self, state: dict[str, Any]) -> None:
        """Takes over the `state_dict` of an optimiser, whichever step wrote it."""
        self.optimizer.load_state_dict(state)
        self._complete()

    def _complete(self) -> None:
        if self._graph is not None:  # before a capture: its warm-up steps are taken back
            make_moments(self.optimizer)
