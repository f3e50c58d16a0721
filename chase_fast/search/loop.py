"""The search loop: steps, hold-out evaluation at the end of each epoch, early stop, files.

Every sample, mask and initial value comes from (seed, purpose, epoch, index), so a run continues from a
checkpoint exactly: the state is the weights, alpha, the two optimizers and the tables written so far. All
ranks hold the same state; rank 0 writes it.
"""

import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Iterator
from typing import Any

import torch
from safetensors.torch import save as to_safetensors

from chase_fast.data import Batch
from chase_fast.device import device_name, resolve_device
from chase_fast.distributed import Ranks
from chase_fast.errors import ChaseError
from chase_fast.fields import Fields
from chase_fast.kernels._dispatch import using
from chase_fast.nn.genotype import Genotype
from chase_fast.nn.state import check_like, restore
from chase_fast.recipes import SearchConfig
from chase_fast.report import write_report
from chase_fast.rows import alpha_rows, perf_rows, search_rows
from chase_fast.runs import ALPHAS, CHECKPOINT, HISTORY, PERF, REPORT, EventFile, RunFolder, peak_memory_mb
from chase_fast.search import BEST, CELL, FREE_ON_RESUME
from chase_fast.search.data import SearchData, ahead
from chase_fast.search.derive import derive, mixing_entropy
from chase_fast.search.diagnostics import cell_counts, dominant_eigenvalue
from chase_fast.search.network import Prepared, SearchNetwork
from chase_fast.search.progress import SearchProgress
from chase_fast.search.schedule import (
    alpha_active,
    best_row,
    dropout_rate,
    iteration_cost,
    learning_rate,
    should_stop,
)
from chase_fast.search.step import SearchStep
from chase_fast.stored import check_checkpoint

FORMAT = 2  # of the checkpoint


class Interrupted(KeyboardInterrupt):
    """The user asked to stop; a checkpoint of this very iteration was written."""


class Search:
    """One search in one run folder. `run()` starts it or continues it from its checkpoint.

    Args:
        provenance: written into cell.json beside the genotype (recipe, seed, versions, commit, ...).
        ranks: this process among all, which must use the same folder.
        device: of this process; None: that of the configuration.

    Raises:
        ChaseError: unusable data, weights, device or checkpoint.
    """

    def __init__(
        self,
        config: SearchConfig,
        folder: RunFolder,
        provenance: dict[str, Any],
        progress: SearchProgress,
        ranks: Ranks | None = None,
        device: torch.device | None = None,
    ):
        self.ranks = ranks or Ranks()
        self.config, self.folder, self.progress = config.on(self.ranks.world), folder, progress
        self.provenance = provenance
        self.interrupted = False
        self.history: list[dict[str, Any]] = []
        self.alphas: list[dict[str, Any]] = []
        self.perf: list[dict[str, Any]] = []
        self.device = device or resolve_device(config.device)
        self._data = SearchData(self.config, progress, self.ranks.part, self.device)
        state = folder.load_checkpoint()
        groups = self.config.batch_groups // self.ranks.world
        self.network = SearchNetwork(self.config, self.device, groups)
        if config.backbone_weights == "random":
            self.network.calibrate_backbone(self._data.calibration(whole=True))
            progress.say(
                "backbone: random weights, BatchNorm calibrated on training batches; cells found on random "
                "features show the method, not the best tracker"
            )
        self._step = SearchStep(self.config, self.network, self.ranks)
        progress.say(f"{device_name(self.device)}, {config.precision}, {self._step.how}")
        self._epoch = 1
        self._begin_epoch()
        self._holdout_cache: list[Prepared] | None = None
        self._last_checkpoint = time.monotonic()
        if state is not None:
            self._restore(state)
        self.ranks.agree(self._epoch + self._iteration / self.config.iterations, "the checkpoint in --out")
        weights = self.network.neck_weights.values, self.network.classifier_weights.values
        self.ranks.broadcast_(self.network.alpha, *weights, *self.network.buffers())

    # the run

    def run(self) -> Fields | None:
        """Searches until the last epoch or the early stop.

        Returns:
            The content of cell.json; on other ranks than 0 nothing.

        Raises:
            Interrupted: `interrupted` was set; the state is in the checkpoint.
            ChaseError: a loss is not finite, the disk is full, ...
        """
        if self.history and self._finished():
            return self._finish()
        self._events = EventFile(self.folder) if self.ranks.main else None
        for row in self.history:
            self._add_event(row["epoch"], row)
        self._write_tables()
        work = [iteration_cost(self.config, e) for e in range(1, self.config.epochs + 1)]
        done = sum(work[: self._epoch - 1]) * self.config.iterations
        done += iteration_cost(self.config, self._epoch) * self._iteration
        try:
            if not self.history:
                self._untrained_row()
            self.progress.start(sum(work) * self.config.iterations, done)
            while not self._finished():
                self._run_epoch()
        finally:
            self.progress.stop()
        return self.folder.read_json(CELL) if self.ranks.main else None

    def _finish(self) -> Fields | None:
        """Of a run resumed after its last checkpoint: writes what a kill may have prevented. A whole run
        is left alone, and may lie on a read-only disk."""
        if not self.ranks.main:
            return None
        for name, rows in self._tables.items():
            self.folder.ensure_rows(name, rows)
        if not self.folder.newer(REPORT, CHECKPOINT):
            self._report()
        return self.folder.read_json(CELL)

    def _finished(self) -> bool:
        return self._epoch > self.config.epochs or should_stop(self.history, self.config.patience)

    def _begin_epoch(self) -> None:
        """Sums over the iterations of an epoch, at its start."""
        self._iteration, self._sums = 0, {"train": 0.0, "val": 0.0}
        self._timing = {"seconds": 0.0, "wait": 0.0, "steps": 0}

    def _untrained_row(self) -> None:
        """Row 0: the untrained network, the statistics of its neck calibrated on training batches."""
        self.network.calibrate_neck(self._data.calibration(), self.ranks)
        self._add_row(0, train_loss=None, val_loss=None)
        self._write_tables()
        self._save()

    def _run_epoch(self) -> None:
        config, epoch, active = self.config, self._epoch, alpha_active(self.config, self._epoch)
        train = ahead(self._data.batches("train", epoch, self._iteration), self.device)
        val = ahead(self._data.batches("val", epoch, self._iteration), self.device) if active else None
        while self._iteration < config.iterations:
            if self._run_iteration(epoch, train, val):
                self._save()
                self.ranks.barrier()  # torchrun ends all ranks with the first
                raise Interrupted
            if self._iteration < config.iterations and self._checkpoint_due():
                self._save()
        means = {name: value / config.iterations for name, value in self._sums.items()}
        self._add_row(epoch, train_loss=means["train"], val_loss=means["val"] if active else None)
        self._epoch += 1
        self._begin_epoch()
        if best_row(self.history) is self.history[-1]:
            self._write_best()
        self._save()
        self._write_tables()
        self._report()

    def _run_iteration(self, epoch: int, train: Iterator[Batch], val: Iterator[Batch] | None) -> bool:
        """One step; whether a rank was asked to stop."""
        start = time.perf_counter()
        batch, val_batch = next(train), next(val) if val is not None else None
        loaded = time.perf_counter()
        losses = self._step(epoch, self._iteration, batch, val_batch)
        means = torch.tensor([*losses.values(), float(self.interrupted)], dtype=torch.float64)
        self.ranks.mean_(means)
        *values, stop = means.tolist()
        losses = dict(zip(losses, values))
        self._iteration += 1
        self.folder.begun = True
        for name, value in losses.items():
            if not math.isfinite(value):
                raise self.ranks.error(
                    f"{name} loss is {value} in epoch {epoch}, iteration {self._iteration}: try a smaller "
                    "--lr or --alpha-lr, or another --seed; the last checkpoint is unharmed"
                )
            self._sums[name] += value
        self._timing["seconds"] += time.perf_counter() - start
        self._timing["wait"] += loaded - start
        self._timing["steps"] += 1
        shown = " ".join(f"{name} {value:.3f}" for name, value in losses.items())
        self.progress.iteration(epoch, self.config.epochs, iteration_cost(self.config, epoch), shown)
        return stop > 0

    def _checkpoint_due(self) -> bool:
        config = self.config
        minutes = (time.monotonic() - self._last_checkpoint) / 60
        return bool(
            (config.checkpoint_minutes and minutes >= config.checkpoint_minutes)
            or (config.checkpoint_iterations and self._iteration % config.checkpoint_iterations == 0)
        )

    # end of an epoch

    @torch.no_grad()
    def _holdout_loss(self) -> float:
        """Mean loss of the mixture on the hold-out samples, in eval mode without dropout."""
        total, count = 0.0, 0
        for data in self._holdout_data():
            total += float(self.network.loss(data, None, seed=0, training=False))
            count += 1
        return self.ranks.sum(total / count) / self.ranks.world

    def _holdout_data(self) -> Iterator[Prepared]:
        """Prepared hold-out batches; kept in memory if all of them fit and the backbone does not change."""
        if self._holdout_cache is not None:
            yield from self._holdout_cache
            return
        cache: list[Prepared] | None = None if self.config.backbone_train_mode else []
        for batch in self._data.batches("holdout", 0):
            data = self.network.prepare(batch)
            if cache is not None:
                fits = data.bytes * self.config.holdout_batches <= self.config.holdout_cache_mb * 2**20
                cache = [*cache, data] if fits else None
            yield data
        self._holdout_cache = cache

    def _hessian(self, epoch: int) -> float:
        """Dominant eigenvalue on the first validation batch of the epoch, batch statistics, no dropout."""
        network = self.network
        data = network.prepare(next(self._data.batches("val", epoch)))
        weights = (*network.neck_weights.parameters, *network.classifier_weights.parameters)
        with using("reference"):
            return dominant_eigenvalue(
                lambda _: network.loss(data, None, seed=0), network.alpha, weights, reduce=self.ranks.mean_
            )

    def genotype(self) -> Genotype:
        """The cell the present alpha stands for."""
        config = self.config
        return derive(self.network.alpha, config.ops, config.mixing, config.derivation, config.none_counts)

    def _add_row(self, epoch: int, train_loss: float | None, val_loss: float | None) -> None:
        """Evaluates the state after an epoch and appends a row to each table.

        Raises:
            ChaseError: the hold-out loss is not finite, or the ranks do not agree.
        """
        config, alpha = self.config, self.network.alpha.detach().cpu()
        start = time.perf_counter()
        holdout = self._holdout_loss()
        if not math.isfinite(holdout):
            raise self.ranks.error(
                f"hold-out loss is {holdout} after epoch {epoch}: try a smaller --lr, or another --seed"
            )
        genotype = self.genotype()
        text = f"{holdout!r} {genotype.to_json()} {alpha.tolist()}"
        digest = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=6).digest())
        self.ranks.agree(digest, f"hold-out loss, cell and alpha after epoch {epoch}")
        row = {
            "epoch": epoch,
            "train_loss": train_loss,
            "val_loss": val_loss,
            "holdout_loss": holdout,
            "alpha_active": epoch > 0 and alpha_active(config, epoch),
            "lr": learning_rate(config, max(epoch, 1)),
            "dropout": dropout_rate(config, epoch),
            "alpha_entropy": mixing_entropy(alpha, config.mixing),
            **cell_counts(genotype),
            "genotype": genotype.to_json(),
        }
        if config.hessian and epoch:
            row["hessian_eigenvalue"] = self._hessian(epoch)
        self.history.append(row)
        self.alphas.append({"epoch": epoch, "alpha": alpha.double().tolist()})
        self._add_event(epoch, row)
        seconds = self._timing["seconds"] + time.perf_counter() - start
        if epoch:
            perf = {
                "epoch": epoch,
                "seconds": seconds,
                "iteration_ms": 1000 * self._timing["seconds"] / self._timing["steps"],
                "data_wait_share": self._timing["wait"] / self._timing["seconds"],
                "peak_memory_mb": peak_memory_mb(str(self.device)),
            }
            self.perf.append(perf)
            self._add_event(epoch, {f"perf/{k}": v for k, v in perf.items() if k != "epoch"})
        self.progress.epoch(row, config.epochs, seconds)

    # files, of rank 0

    def _add_event(self, step: int, row: dict[str, Any]) -> None:
        if self._events is not None:
            self._events.add(step, row)

    def _write_tables(self) -> None:
        if not self.ranks.main:
            return
        for name, rows in self._tables.items():
            self.folder.write_rows(name, rows)

    @property
    def _tables(self) -> dict[str, list[dict[str, Any]]]:
        return {HISTORY: self.history, ALPHAS: self.alphas, PERF: self.perf}

    def _report(self) -> None:
        """report.html; a run worth days does not end because its page cannot be drawn."""
        if not self.ranks.main:
            return
        try:
            write_report(self.folder.path)
        except ChaseError:
            raise
        except Exception as e:
            self.progress.warn(f"report.html was not written ({type(e).__name__}: {e})")

    def _write_best(self) -> None:
        """cell.json and best.safetensors of the epoch just finished."""
        if not self.ranks.main:
            return
        row = self.history[-1]
        network = self.network
        tensors = {
            f"{part}.{name}": t.detach().cpu().contiguous()
            for part, module in (("neck", network.neck), ("classifier", network.classifier))
            for name, t in module.state_dict().items()
        }
        tensors["alpha"] = network.alpha.detach().cpu()
        keys = ("recipe", "backbone", "classifier", "flavour", "channels", "nodes", "ops")
        # one metadata entry: the order of several is not fixed
        about = json.dumps({key: getattr(self.config, key) for key in keys})
        self.folder.write_bytes(BEST, to_safetensors(tensors, {"search": about}))
        cell = {
            "genotype": self.genotype().to_data(),
            "epoch": row["epoch"],
            "holdout_loss": row["holdout_loss"],
        }
        self.folder.write_json(CELL, cell | self.provenance)

    def _save(self) -> None:
        if not self.ranks.main:
            return
        network = self.network
        state = {
            "format": FORMAT,
            "config": dataclasses.asdict(self.config),
            "epoch": self._epoch,
            "iteration": self._iteration,
            "sums": self._sums,
            "neck": network.neck.state_dict(),
            "classifier": network.classifier.state_dict(),
            "alpha": network.alpha.detach(),
            "optimizers": self._step.state_dict(),
            "history": self.history,
            "alphas": self.alphas,
            "perf": self.perf,
            "timing": self._timing,
        }
        if self.config.backbone_train_mode:
            state["backbone"] = network.backbone.state_dict()
        self.folder.save_checkpoint(state)
        self._last_checkpoint = time.monotonic()

    def _restore(self, state: Fields) -> None:
        config, network = self.config, self.network
        try:
            if (wrote := state.integer("format")) != FORMAT:
                raise ValueError(f"format {wrote}, this version reads {FORMAT}")
            check_checkpoint(state, config, FREE_ON_RESUME)
            restore(network.neck, state.get("neck"), "neck")
            restore(network.classifier, state.get("classifier"), "classifier")
            check_like(state.get("alpha"), network.alpha, "alpha")
            with torch.no_grad():
                network.alpha.copy_(state["alpha"])
            self._step.load_state_dict(state.inner("optimizers"))
            if config.backbone_train_mode:
                restore(network.backbone, state.get("backbone"), "backbone")
            self._epoch = state.integer("epoch", 1, config.epochs + 1)
            self._iteration = state.integer("iteration", 0, config.iterations)
            sums, timing = state.inner("sums"), state.inner("timing")
            self._sums = {name: sums.number(name) for name in self._sums}
            self._timing = {name: timing.number(name, 0) for name in self._timing}
            self.history = search_rows(state)
            self.alphas = alpha_rows(state, tuple(network.alpha.shape))
            self.perf = perf_rows(state, ("seconds", "iteration_ms", "data_wait_share", "peak_memory_mb"))
            if not len(self.history) == len(self.alphas) == len(self.perf) + 1 == self._epoch:
                raise ValueError("its tables do not end at its epoch")
        except (KeyError, ValueError, TypeError, RuntimeError) as e:
            reason = " ".join(str(e).split())[:120]
            raise ChaseError(
                f"{self.folder / CHECKPOINT} does not fit this run ({reason}): start again in another --out"
            ) from None
