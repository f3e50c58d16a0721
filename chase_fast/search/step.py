"""One iteration of a search: architect step on alpha, then weight step on the same training batch.

On a CUDA device the whole iteration is one CUDA graph (`SearchStep.function`), from the images to the updated
weights; `why_eager` says what keeps it from being one.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from chase_fast.data import Batch
from chase_fast.distributed import Ranks, statistics
from chase_fast.graphs import Graph
from chase_fast.nn.space import OPS
from chase_fast.recipes import SearchConfig
from chase_fast.runs import stream
from chase_fast.runs.adam import Adam
from chase_fast.runs.step import how, obstacle
from chase_fast.search.bilevel import AlphaGradient, Loss, weight_gradient
from chase_fast.search.network import Prepared, SearchNetwork
from chase_fast.search.schedule import dropout_rate, learning_rate, train_mode, unroll_rate

Number = float | Tensor  # a tensor is 0-d, float64, on the device
_VAL = "val_"  # prefix of the graph inputs of the validation batch


def why_eager(config: SearchConfig, device: torch.device, ranks: Ranks) -> str | None:
    """What keeps an iteration from being one CUDA graph; None: nothing."""
    own = [op for op in config.ops if op not in OPS]
    return obstacle(
        *(config, device, ranks),
        (bool(own), f"{' '.join(own)} may draw other random numbers in every pass"),
        (config.fresh_masks, "--fresh-masks"),
        (config.backbone_train_mode, "--backbone-train-mode"),
        (config.eval_after_holdout, "--eval-after-holdout"),
    )


@dataclass(frozen=True)
class Part:
    """One batch of an iteration.

    Attributes:
        tensors: arguments of `SearchNetwork.features`.
        seeds: of the dropout masks, one per sequence: a tensor, or the numbers of pass 0, 1, ...
        training: batch statistics and dropout.
    """

    tensors: Mapping[str, Tensor]
    seeds: Tensor | Callable[[int], list[int]]
    training: bool = True


@dataclass(frozen=True)
class Rates:
    """The numbers that change between iterations. scheduled: see `Method`; *_size, *_root: `Adam.numbers`."""

    eta: Number
    dropout: Number
    scheduled: Number
    weight_size: Number
    weight_root: Number
    alpha_size: Number
    alpha_root: Number


class SearchStep:
    """The two optimizers (Adam on the flat weights, Adam on alpha) and what one iteration does with them.

    Each rank has its part of the batches; gradients are averaged and running statistics merged, so weights,
    alpha and statistics stay the same on all ranks.

    BatchNorm running statistics take in one pass per iteration, that of the weight step: an update by the
    train frames and one by the test frames (of every group). With `every_pass_updates` every pass at w and at
    the probes w +- R v counts: four in a second-order iteration, two in a first-order one, as published.

    Precision. The validation pass, which yields v, and both probes see the same features in the type of the
    weights (float32). With `precision=bf16` the weight step stores its maps in bfloat16, and so does the
    training gradient of the unroll in the chase flavour (in darts that moves the implicit term by several
    per cent, see bench/precision.py); weights, gradients, statistics, the classifier and the optimizers stay
    float32.

    Args:
        graph: run as one CUDA graph (on a CPU: its eager stand-in); None: where it can be.

    Attributes:
        how: in words, how it runs and why, for the first lines of a run.
    """

    def __init__(self, config: SearchConfig, network: SearchNetwork, ranks: Ranks, graph: bool | None = None):
        self._config, self._network, self._ranks = config, network, ranks
        self._weight_adam = Adam([network.neck_weights.values, network.classifier_weights.values])
        self._alpha_adam = Adam(
            [network.alpha],
            betas=(config.alpha_beta1, config.alpha_beta2),
            weight_decay=config.alpha_weight_decay,
        )
        reason = None if graph else why_eager(config, network.device, ranks)
        if graph is None:
            graph = reason is None
        self.how = how(reason)
        self._graph = Graph(self.function, network.device, self.state) if graph else None

    def __call__(
        self, epoch: int, iteration: int, batch: Batch, val_batch: Batch | None = None
    ) -> dict[str, float]:
        """Updates alpha (if there is a validation batch) and the weights.

        Returns:
            `train` and, with a validation batch, `val`: the losses on this rank's part, without the
            regulariser.
        """
        if self._graph is not None:
            self._network.frozen()
            losses = self._graph(**self.inputs(epoch, iteration, batch, val_batch))
        else:
            losses = self._eagerly(epoch, iteration, batch, val_batch)
        self.count(val_batch is not None)
        return dict(zip(losses, torch.stack(list(losses.values())).tolist()))

    def count(self, with_alpha: bool) -> None:
        """One more step is done."""
        self._weight_adam.steps += 1
        self._alpha_adam.steps += with_alpha

    # as a graph

    def inputs(
        self, epoch: int, iteration: int, batch: Batch, val_batch: Batch | None = None
    ) -> dict[str, Tensor | float]:
        """The arguments of `function`."""
        found: dict[str, Tensor | float] = vars(self._rates(epoch)).copy()
        for name, prefix, b in (("train", "", batch), ("val", _VAL, val_batch)):
            if b is not None:
                tensors = self._network.inputs(b)
                seeds = self._seeds(name, epoch, iteration, b.train_boxes.shape[1], 0)
                found |= {prefix + k: t for k, t in (tensors | {"seeds": torch.tensor(seeds)}).items()}
        return found

    def function(self, **inputs: Tensor) -> dict[str, Tensor]:
        """A whole iteration, of tensors: what a graph captures.

        Args:
            inputs: `Rates` as 0-d tensors; train_images, test_images, boxes, labels and seeds of the training
                batch, and, unless alpha rests (warm-up), the same of the validation batch with the prefix
                `val_`. r and the weight decays are constants of the run and no inputs.

        Returns:
            The losses. Changes `state` in place.
        """
        rates = Rates(**{name: inputs.pop(name) for name in (f.name for f in fields(Rates))})
        mine = {name: t for name, t in inputs.items() if not name.startswith(_VAL)}
        other = {name.removeprefix(_VAL): t for name, t in inputs.items() if name.startswith(_VAL)}
        train = Part(mine, mine.pop("seeds"))
        val = Part(other, other.pop("seeds")) if other else None
        return self._iterate(train, val, rates)

    def state(self) -> list[Tensor]:
        """Every tensor that `function` changes: weights, alpha, moments, running statistics."""
        network = self._network
        weights = [network.neck_weights.values, network.classifier_weights.values, network.alpha]
        moments = [*self._weight_adam.state, *self._alpha_adam.state]
        return [*weights, *moments, *network.neck.buffers(), *network.classifier.buffers()]

    # eagerly

    def _eagerly(
        self, epoch: int, iteration: int, batch: Batch, val_batch: Batch | None
    ) -> dict[str, Tensor]:
        training = train_mode(self._config, epoch)

        def part(name: str, b: Batch, training: bool) -> Part:
            count = b.train_boxes.shape[1]
            seeds = lambda passes: self._seeds(name, epoch, iteration, count, passes)  # noqa: E731
            return Part(self._network.inputs(b), seeds, training)

        train, val = part("train", batch, training), None
        if val_batch is not None:
            # the released code evaluates w' in a new module, which is always in train mode
            val = part("val", val_batch, training or self._network.method.unrolls)
        return self._iterate(train, val, self._rates(epoch))

    def _seeds(self, name: str, epoch: int, iteration: int, count: int, passes: int) -> list[int]:
        """Seeds of the masks of this rank's sequences."""
        first = self._ranks.rank * count  # number of this rank's first sequence in the batch
        key = self._config.seed, "masks", name, epoch, iteration, passes
        return [stream(*key, k) for k in range(first, first + count)]

    def _rates(self, epoch: int) -> Rates:
        config = self._config
        weight = self._weight_adam.numbers(learning_rate(config, epoch))
        alpha = self._alpha_adam.numbers(config.alpha_lr)
        scheduled = self._network.method.schedule(epoch)
        return Rates(unroll_rate(config, epoch), dropout_rate(config, epoch), scheduled, *weight, *alpha)

    # the iteration

    def _iterate(self, train: Part, val: Part | None, rates: Rates) -> dict[str, Tensor]:
        network = self._network
        data = self._prepare(train, network.method.train_passes if val is not None else 1)
        exact, low = self.losses(data, train, rates.dropout, rates.scheduled)
        losses = {}
        if val is not None:
            losses["val"] = self._architect(exact, low, val, rates)
        groups = network.neck_weights, network.classifier_weights
        value, gradients = weight_gradient(low, network.alpha, *groups, reduce=self._ranks.mean_)
        self._weight_adam.apply(gradients, rates.weight_size, rates.weight_root)
        return {"train": value} | losses

    def _prepare(self, part: Part, updates: int = 0) -> Prepared:
        batch_statistics = self._config.backbone_train_mode and part.training
        if not (batch_statistics and updates):
            return self._network.features(**part.tensors, batch_statistics=batch_statistics, updates=0)
        with self._merged(self._network.backbone):
            return self._network.features(**part.tensors, batch_statistics=True, updates=updates)

    @contextmanager
    def _merged(self, module: nn.Module) -> Iterator[None]:
        """Within, the ranks update the running statistics of a module; afterwards they are merged."""
        before = statistics(module) if self._ranks.world > 1 else {}
        yield
        self._ranks.merge_statistics_(before, module)

    def _architect(self, exact: Loss, low: Loss, val: Part, rates: Rates) -> Tensor:
        """One Adam step on alpha; the validation loss. exact, low: on the training batch."""
        alpha = self._network.alpha
        val_loss, _ = self.losses(self._prepare(val), val, rates.dropout, rates.scheduled)
        result = self.alpha_gradient(exact, low, val_loss, rates.eta)
        del val_loss
        alpha.grad = result.galpha
        leaf = alpha.detach().requires_grad_()
        if (regulariser := self._network.method.regulariser(leaf, rates.scheduled)) is not None:
            weight, value = regulariser
            alpha.grad = result.galpha + weight * torch.autograd.grad(value, [leaf])[0]
        self._alpha_adam.apply([alpha.grad], rates.alpha_size, rates.alpha_root)
        return result.loss_val

    def alpha_gradient(self, exact: Loss, low: Loss, val: Loss, eta: Number) -> AlphaGradient:
        """The gradient of alpha by the method of the run, without the regulariser.

        Args:
            exact, low: `losses` on the training batch; low is that of the unroll in the chase flavour.
            val: the first of `losses` on the validation batch.
        """
        network = self._network
        return network.method.alpha_gradient(
            *(exact, low, val, network.alpha, network.neck_weights, eta), reduce=self._ranks.mean_
        )

    def losses(self, data: Prepared, part: Part, dropout: Number, scheduled: Number) -> tuple[Loss, Loss]:
        """Loss on one batch in the type of the weights, and in that of the weight step; the same dropout
        masks in every pass, or new ones in each (`fresh_masks`)."""
        config, network, training = self._config, self._network, part.training
        dropped = training and config.dropout > 0 and (isinstance(dropout, Tensor) or dropout > 0)
        passes, kept = 0, None

        def loss(update_statistics: bool, data: Prepared = data) -> Tensor:
            nonlocal passes, kept
            seeds: Tensor | list[int]
            seed: int | None = None
            if isinstance(part.seeds, Tensor):
                seeds = part.seeds
            else:
                seeds = part.seeds(passes)
                seed = seeds[0]
            masks = kept
            if masks is None and dropped:
                masks = network.masks(data, dropout, seeds)
            if config.fresh_masks:
                passes += 1
            else:
                kept = masks
            if not update_statistics:
                return network.loss(data, masks, seed, scheduled, training)
            with self._merged(network.neck):
                return network.loss(data, masks, seed, scheduled, training, update_statistics)

        if config.precision != "bf16":
            return loss, loss
        rounded = functools.cache(lambda: data.to(torch.bfloat16))
        return loss, lambda update_statistics: loss(update_statistics, rounded())

    def state_dict(self) -> dict[str, Any]:
        return {"weights": self._weight_adam.state_dict(), "alpha": self._alpha_adam.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._weight_adam.load_state_dict(state.get("weights"))
        self._alpha_adam.load_state_dict(state.get("alpha"))
