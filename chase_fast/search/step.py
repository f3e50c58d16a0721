"""One iteration of a search: architect step on alpha, then weight step on the same training batch."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from chase_fast.data import Batch
from chase_fast.distributed import Ranks, statistics
from chase_fast.recipes import SearchConfig
from chase_fast.runs import stream
from chase_fast.search.bilevel import Loss, first_order, second_order, weight_gradient
from chase_fast.search.fair import zero_one_loss
from chase_fast.search.network import Prepared, SearchNetwork
from chase_fast.search.schedule import dropout_rate, learning_rate, train_mode, unroll_rate


class SearchStep:
    """The two optimizers (Adam on the flat weights, Adam on alpha) and what one iteration does with them.

    Each rank has its part of the batches; gradients are averaged and running statistics merged, so weights,
    alpha and statistics stay the same on all ranks.
    """

    def __init__(self, config: SearchConfig, network: SearchNetwork, ranks: Ranks):
        self._config, self._network, self._ranks = config, network, ranks
        weights = [network.neck_weights.values, network.classifier_weights.values]
        self._weight_optimizer = torch.optim.Adam(weights, lr=config.lr, foreach=False)
        self._alpha_optimizer = torch.optim.Adam(
            [network.alpha],
            lr=config.alpha_lr,
            betas=(config.alpha_beta1, config.alpha_beta2),
            weight_decay=config.alpha_weight_decay,
            foreach=False,
        )

    def __call__(
        self, epoch: int, iteration: int, batch: Batch, val_batch: Batch | None = None
    ) -> dict[str, float]:
        """Updates alpha (if there is a validation batch) and the weights.

        Returns:
            `train` and, with a validation batch, `val`: the losses on this rank's part, without the zero-one
            term.
        """
        config, network = self._config, self._network
        training = train_mode(config, epoch)
        train_passes = 4 if val_batch is not None and config.order == 2 else 1
        data = self._prepare(batch, config.backbone_train_mode and training, train_passes)
        train_loss = self._loss(data, epoch, iteration, "train", training)
        losses = {}
        if val_batch is not None:
            # the released code evaluates w' in a new module, which is always in train mode
            val_training = training or config.order == 2
            val_data = self._prepare(val_batch, config.backbone_train_mode and val_training)
            val_loss = self._loss(val_data, epoch, iteration, "val", val_training)
            losses["val"] = self._architect(epoch, train_loss, val_loss)
            del val_data, val_loss
        for group in self._weight_optimizer.param_groups:
            group["lr"] = learning_rate(config, epoch)
        groups = network.neck_weights, network.classifier_weights
        value, gradients = weight_gradient(train_loss, network.alpha, *groups, reduce=self._ranks.mean_)
        for group, gradient in zip(groups, gradients):
            group.values.grad = gradient
        self._weight_optimizer.step()
        return {"train": float(value)} | losses

    def _prepare(self, batch: Batch, batch_statistics: bool, updates: int = 0) -> Prepared:
        if not (batch_statistics and updates):
            return self._network.prepare(batch, batch_statistics, updates)
        with self._merged(self._network.backbone):
            return self._network.prepare(batch, batch_statistics, updates)

    @contextmanager
    def _merged(self, module: nn.Module) -> Iterator[None]:
        """Within, the ranks update the running statistics of a module; afterwards they are merged."""
        before = statistics(module) if self._ranks.world > 1 else {}
        yield
        self._ranks.merge_statistics_(before, module)

    def _architect(self, epoch: int, train_loss: Loss, val_loss: Loss) -> float:
        """One Adam step on alpha; the validation loss."""
        config, network = self._config, self._network
        alpha, weights, every = network.alpha, network.neck_weights, config.every_pass_updates
        if config.order == 1:
            result = first_order(val_loss, alpha, weights, every_pass_updates=every, reduce=self._ranks.mean_)
        else:
            result = second_order(
                train_loss,
                val_loss,
                alpha,
                weights,
                eta=unroll_rate(config, epoch),
                weight_decay=config.unroll_weight_decay,
                r=config.unroll_r,
                every_pass_updates=every,
                reduce=self._ranks.mean_,
            )
        alpha.grad = result.galpha
        if config.zero_one_weight:  # depends on alpha alone, so its gradient just adds
            leaf = alpha.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(zero_one_loss(leaf, config.zero_one_kind), [leaf])
            alpha.grad = result.galpha + config.zero_one_weight * gradient
        self._alpha_optimizer.step()
        return float(result.loss_val)

    def _loss(self, data: Prepared, epoch: int, iteration: int, name: str, training: bool) -> Loss:
        """Loss on one batch: the same dropout masks in every pass, or new ones in each (`fresh_masks`)."""
        config, network = self._config, self._network
        rate = dropout_rate(config, epoch) if training else 0.0
        passes, kept = 0, None

        first = self._ranks.rank * data.boxes.shape[1]  # number of this rank's first sequence in the batch
        sequences = range(first, first + data.boxes.shape[1])

        def loss(update_statistics: bool) -> torch.Tensor:
            nonlocal passes, kept
            seeds = [stream(config.seed, "masks", name, epoch, iteration, passes, k) for k in sequences]
            masks = kept
            if masks is None and rate > 0:
                masks = network.masks(data, rate, seeds)
            if config.fresh_masks:
                passes += 1
            else:
                kept = masks
            if not update_statistics:
                return network.loss(data, masks, seeds[0], training)
            with self._merged(network.neck):
                return network.loss(data, masks, seeds[0], training, update_statistics)

        return loss

    def state_dict(self) -> dict[str, Any]:
        return {"weights": self._weight_optimizer.state_dict(), "alpha": self._alpha_optimizer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._weight_optimizer.load_state_dict(state["weights"])
        self._alpha_optimizer.load_state_dict(state["alpha"])
