"""The search: what `runs.loop.Loop` does for it, hold-out evaluation, early stop, the cell."""

import hashlib
import itertools
import json
import math
from collections.abc import Iterator
from typing import Any

import torch
from safetensors.torch import save as to_safetensors

from chase_fast.data import Batch
from chase_fast.fields import Fields
from chase_fast.kernels._dispatch import resolve, using
from chase_fast.kernels.mixed_op import CAN_RUN as MIXED_OP
from chase_fast.kernels.node_sum import CAN_RUN as NODE_SUM
from chase_fast.nn.genotype import Genotype
from chase_fast.nn.state import check_like, restore
from chase_fast.runs.folder import ALPHAS, BEST
from chase_fast.runs.loop import Loop, Row
from chase_fast.runs.rows import Rows, alpha_rows, search_rows
from chase_fast.search import CELL
from chase_fast.search.data import ahead, samples
from chase_fast.search.diagnostics import cell_counts, dominant_eigenvalue
from chase_fast.search.methods.base import Method
from chase_fast.search.network import Prepared, SearchNetwork
from chase_fast.search.result import describe, epoch_line
from chase_fast.search.schedule import (
    alpha_active,
    best_row,
    dropout_rate,
    learning_rate,
    should_stop,
)
from chase_fast.search.step import SearchStep


class Search(Loop):
    """One search in one run folder. Its state is the weights, alpha and the two optimizers."""

    format, losses = 2, ("train", "val")
    speed = ("seconds", "iteration_ms", "data_wait_share", "peak_memory_mb")
    iteration = "iteration with alpha"
    samples, best_row = staticmethod(samples), staticmethod(best_row)
    line, describe = staticmethod(epoch_line), staticmethod(describe)

    def prepare(self, fresh: bool) -> str:
        config = self.config
        self.alphas: Rows = []
        self.network = SearchNetwork(config, self.device, config.batch_groups // self.ranks.world)
        if config.backbone_weights == "random":
            self.network.calibrate_backbone(self.data.calibration(whole=True))
            self.progress.say(
                "backbone: random weights, BatchNorm calibrated on training batches; cells found on random "
                "features show the method, not the best tracker"
            )
        ops = {"mixed_op": MIXED_OP, "node_sum": NODE_SUM}
        backends = (f"{op} {resolve(op, can_run, self.network.alpha)}" for op, can_run in ops.items())
        self.progress.say(f"method {self.network.method.about}; backends: {', '.join(backends)}")
        self._step = SearchStep(config, self.network, self.ranks)
        self._holdout_cache: list[Prepared] | None = None
        return self._step.how

    def ready(self) -> None:
        weights = self.network.neck_weights.values, self.network.classifier_weights.values
        self.ranks.broadcast_(self.network.alpha, *weights, *self.network.buffers())

    @property
    def finished(self) -> bool:
        return super().finished or should_stop(self.history, self.config.patience)

    def cost(self, epoch: int) -> float:
        return self.network.method.passes if alpha_active(self.config, epoch) else 1.0

    def calibrate(self) -> None:
        self.network.calibrate_neck(self.data.calibration(), self.ranks)

    def batches(self, epoch: int) -> Iterator[tuple[Batch, Batch | None]]:
        """Those for the weights, and, once alpha is optimised, for alpha."""
        train = ahead(self.data.batches("train", epoch, self._iteration), self.device)
        if not alpha_active(self.config, epoch):
            return zip(train, itertools.repeat(None))
        return zip(train, ahead(self.data.batches("val", epoch, self._iteration), self.device))

    def step(self, epoch: int, batch: tuple[Batch, Batch | None]) -> dict[str, float]:
        losses = self._step(epoch, self._iteration, *batch)
        means = torch.tensor([*losses.values()], dtype=torch.float64)
        self.ranks.mean_(means)
        return dict(zip(losses, means.tolist()))

    def check(self, losses: dict[str, float], batch: Any) -> None:
        for name, value in losses.items():
            if not math.isfinite(value):
                raise self.ranks.error(
                    f"{name} loss is {value} in epoch {self._epoch}, iteration {self._iteration + 1}: try a "
                    "smaller --lr or --alpha-lr, or another --seed; the last checkpoint is unharmed"
                )

    # end of an epoch

    @torch.no_grad()
    def _holdout_loss(self, epoch: int) -> float:
        """Mean loss of the mixture on the hold-out samples, in eval mode without dropout."""
        total, count, scheduled = 0.0, 0, self.network.method.schedule(epoch)
        for data in self._holdout_data():
            total += float(self.network.loss(data, None, 0, scheduled, training=False))
            count += 1
        return self.ranks.sum(total / count) / self.ranks.world

    def _holdout_data(self) -> Iterator[Prepared]:
        """Prepared hold-out batches; kept in memory if all of them fit and the backbone does not change."""
        if self._holdout_cache is not None:
            yield from self._holdout_cache
            return
        cache: list[Prepared] | None = None if self.config.backbone_train_mode else []
        for batch in self.data.batches("holdout", 0):
            data = self.network.prepare(batch)
            if cache is not None:
                fits = data.bytes * self.config.holdout_batches <= self.config.holdout_cache_mb * 2**20
                cache = [*cache, data] if fits else None
            yield data
        self._holdout_cache = cache

    def _hessian(self, epoch: int) -> float:
        """Dominant eigenvalue on the first validation batch of the epoch, batch statistics, no dropout."""
        network = self.network
        data = network.prepare(next(self.data.batches("val", epoch)))
        weights = (*network.neck_weights.parameters, *network.classifier_weights.parameters)
        with using("reference"):
            return dominant_eigenvalue(
                lambda _: network.loss(data, None, 0, network.method.schedule(epoch)),
                *(network.alpha, weights),
                reduce=self.ranks.mean_,
            )

    def genotype(self) -> Genotype:
        """The cell the present alpha stands for."""
        return self.network.method.derive(self.network.alpha)

    def row(self, epoch: int, means: dict[str, float]) -> Row:
        config, alpha = self.config, self.network.alpha.detach().cpu()
        holdout, method = self._holdout_loss(epoch), self.network.method
        if not math.isfinite(holdout):
            raise self.ranks.error(
                f"hold-out loss is {holdout} after epoch {epoch}: try a smaller --lr, or another --seed"
            )
        genotype, active = self.genotype(), epoch > 0 and alpha_active(config, epoch)
        text = f"{holdout!r} {genotype.to_json()} {alpha.tolist()}"
        digest = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=6).digest())
        self.ranks.agree(digest, f"hold-out loss, cell and alpha after epoch {epoch}")
        row = {
            "train_loss": means.get("train"),
            "val_loss": means["val"] if active else None,
            "holdout_loss": holdout,
            "alpha_active": active,
            "lr": learning_rate(config, max(epoch, 1)),
            "dropout": dropout_rate(config, epoch),
            "alpha_entropy": method.entropy(alpha),
            **method.numbers(epoch),
            **cell_counts(genotype),
            "genotype": genotype.to_json(),
        }
        if config.hessian and epoch:
            row["hessian_eigenvalue"] = self._hessian(epoch)
        told: dict[str, Any] = {"epoch": epoch, "alpha": alpha.double().tolist()}
        if type(method).ranking is not Method.ranking:  # the report knows softmax and sigmoid
            told["weights"] = method.ranking(alpha.double()).tolist()
        self.alphas.append(told)
        return row

    # files

    @property
    def tables(self) -> dict[str, Rows]:
        return super().tables | {ALPHAS: self.alphas}

    def write_best(self, row: Row) -> None:
        """cell.json and best.safetensors."""
        config, network = self.config, self.network
        tensors = {
            f"{part}.{name}": t.detach().cpu().contiguous()
            for part, module in (("neck", network.neck), ("classifier", network.classifier))
            for name, t in module.state_dict().items()
        }
        tensors["alpha"] = network.alpha.detach().cpu()
        keys = ("recipe", "backbone", "classifier", "flavour", "channels", "nodes", "ops")
        # one metadata entry: the order of several is not fixed
        metadata = {"search": json.dumps({key: getattr(config, key) for key in keys})}
        self.folder.write_bytes(BEST, to_safetensors(tensors, metadata))
        cell = {
            "genotype": self.genotype().to_data(),
            "epoch": row["epoch"],
            "holdout_loss": row["holdout_loss"],
        }
        names = ("recipe", "flavour", "channels", "seed", "versions", "commit", "threads")
        self.folder.write_json(CELL, cell | self.origin(*names))

    def state(self) -> dict[str, Any]:
        network = self.network
        state = {
            "sums": self._sums,
            "neck": network.neck.state_dict(),
            "classifier": network.classifier.state_dict(),
            "alpha": network.alpha.detach(),
            "optimizers": self._step.state_dict(),
            "alphas": self.alphas,
        }
        if self.config.backbone_train_mode:
            state["backbone"] = network.backbone.state_dict()
        return state

    def load(self, state: Fields) -> None:
        network, sums = self.network, state.inner("sums")
        restore(network.neck, state.get("neck"), "neck")
        restore(network.classifier, state.get("classifier"), "classifier")
        check_like(state.get("alpha"), network.alpha, "alpha")
        with torch.no_grad():
            network.alpha.copy_(state["alpha"])
        self._step.load_state_dict(state.inner("optimizers"))
        if self.config.backbone_train_mode:
            restore(network.backbone, state.get("backbone"), "backbone")
        self._sums = {name: sums.number(name) for name in self._sums}
        self.history = search_rows(state)
        edges, columns = network.alpha.shape
        self.alphas = alpha_rows(state, (edges, columns))

    @property
    def timed(self) -> Rows:
        return [row for row in self.perf if row["epoch"] > self.config.warmup_epochs]
