"""The training loop: steps, validation at the end of epochs, files.

Every sample and initial value comes from (seed, purpose, epoch, index), so a run continues from a checkpoint
exactly: the state is the weights, the optimiser, the average and the tables written so far.
"""

import dataclasses
import math
import time
from collections.abc import Iterator
from typing import Any

import torch

from chase_fast.checkpoint import fit, load_tracker, pack_tracker
from chase_fast.data import Batch
from chase_fast.data.trained_on import begun
from chase_fast.device import device_name
from chase_fast.distributed import Ranks
from chase_fast.errors import ChaseError, Elsewhere
from chase_fast.fields import Fields
from chase_fast.nn.backbone import UNFOLDED
from chase_fast.nn.cost import cost
from chase_fast.nn.state import restore
from chase_fast.nn.tracker_net import TrackerNet, TrackerSpec
from chase_fast.progress import RunProgress
from chase_fast.recipes import TrainConfig
from chase_fast.report import write_report
from chase_fast.rows import perf_rows, train_rows
from chase_fast.runs import CHECKPOINT, HISTORY, PERF, REPORT, EventFile, RunFolder, peak_memory_mb, stream
from chase_fast.stored import check_checkpoint
from chase_fast.train import BEST, FREE_ON_RESUME, RESULT
from chase_fast.train.data import TrainData
from chase_fast.train.graph_step import make_step
from chase_fast.train.network import TERMS, Losses
from chase_fast.train.optimizer import check_optimizer, decay, learning_rates
from chase_fast.train.result import batch_file, best_row, epoch_line

FORMAT = 1  # of the checkpoint
PERF_COLUMNS = ("seconds", "step_ms", "data_wait_share", "samples_per_second", "peak_memory_mb")


class Interrupted(KeyboardInterrupt):
    """The user asked to stop; a checkpoint of this very iteration was written."""


class Training:
    """One training in one run folder. `run()` starts it or continues it from its checkpoint.

    Args:
        spec: architecture of the configuration.
        provenance: written into best.safetensors and result.json (recipe, seed, versions, commit).
        ranks: this process among all; rank 0 writes the files.

    Raises:
        ChaseError: unusable data, weights or checkpoint.
    """

    def __init__(
        self,
        config: TrainConfig,
        spec: TrackerSpec,
        folder: RunFolder,
        provenance: dict[str, Any],
        progress: RunProgress,
        ranks: Ranks,
        device: torch.device,
    ):
        self.config, self.spec, self.folder, self.progress = config.check(), spec, folder, progress
        self._provenance, self._ranks, self.device = provenance, ranks, device
        self.interrupted = False
        self._trained_before: list[dict[str, Any]] = []  # the record of --init
        self.history: list[dict[str, Any]] = []
        self.perf: list[dict[str, Any]] = []
        self._data = TrainData(config, progress, (ranks.rank, ranks.world), pin=device.type == "cuda")
        state = folder.load_checkpoint()
        self._losses = Losses(config, device)
        net = self._losses.prepare(self._network(fresh=state is None))
        self._cost = cost(net, config.image_size)
        if state is None:
            self._begin(net)
        self._step = make_step(config, net, self._losses, ranks)
        progress.say(f"{device_name(device)}, {config.precision}, {self._step.how}")
        self._epoch = 1
        self._begin_epoch()
        self._last_checkpoint = time.monotonic()
        if state is not None:
            self._restore(state)
        self._losses.fold(net)

    def _network(self, fresh: bool) -> TrackerNet:
        """The network with its first weights; those of a resumed run come from its checkpoint."""
        config = self.config
        weights = config.backbone_weights if fresh and not config.init else "random"
        net = self.spec.build(weights, stream(config.seed, "weights") % 2**31)
        if fresh and config.init:
            start = load_tracker(config.init)
            fit(net, start.net.state_dict(), f"--init {config.init}")
            self._trained_before = begun(config.init, start.about.get("trained_on"))
        return net

    def _begin(self, net: TrackerNet) -> None:
        """BatchNorm of a new network's backbone, if it has to be measured first."""
        images = self._losses.unfold_backbone(net, self._data.calibration(whole=True))
        if images:
            self.progress.say(UNFOLDED.format(images=images))
        elif self.config.backbone_weights == "random" and not self.config.init:
            self._losses.calibrate_backbone(net, self._data.calibration(whole=True))
        self._ranks.broadcast_(*net.state_dict().values())

    # the run

    def run(self) -> None:
        """Trains until the last epoch.

        Raises:
            Interrupted: `interrupted` was set; the state is in the checkpoint.
            ChaseError: a loss is not finite, the disk is full, ...
        """
        if self._epoch > self.config.epochs:
            self._finish()
            return
        self._events = EventFile(self.folder) if self._ranks.main else None
        for row in self.history:
            self._log(row["epoch"], row)
        self._write_tables()
        done = (self._epoch - 1) * self.config.iterations + self._iteration
        try:
            if not self.history:
                self._untrained_row()
            self.progress.start(self.config.epochs * self.config.iterations, done)
            while self._epoch <= self.config.epochs:
                self._run_epoch()
        finally:
            self.progress.stop()

    def _finish(self) -> None:
        """Of a run resumed after its last checkpoint: writes what a kill may have prevented. A whole run
        is left alone, and may lie on a read-only disk.

        Raises:
            ChaseError: its network is gone; the last checkpoint need not hold it.
        """
        if not (self.folder / BEST).is_file():
            raise self._ranks.error(f"{self.folder / BEST} is missing: start again in another --out")
        if self._ranks.main:
            self.folder.ensure_rows(HISTORY, self.history)
            self.folder.ensure_rows(PERF, self.perf)
            if not self.folder.newer(REPORT, CHECKPOINT):
                self._report()

    def _begin_epoch(self) -> None:
        """Sums over the iterations of an epoch, at its start: the losses, then the gradient norm."""
        self._iteration, self._sums = 0, [0.0] * (len(TERMS) + 1)
        self._timing = {"seconds": 0.0, "wait": 0.0, "steps": 0}

    def _untrained_row(self) -> None:
        """Row 0: the untrained network, its new BatchNorms calibrated on training batches."""
        if not self.config.init:
            self._losses.calibrate(self._step.net, self._data.calibration(), self._ranks)
            if self._step.average is not None:
                self._step.average.net.load_state_dict(self._step.net.state_dict())
        self._add_row(0, None)
        self._write_tables()
        self._save()

    def _run_epoch(self) -> None:
        config, epoch = self.config, self._epoch
        batches = self._data.batches("train", epoch, self._iteration)
        while self._iteration < config.iterations:
            self._run_iteration(epoch, batches)
            if self._ranks.sum(float(self.interrupted)):
                self._save()
                raise Interrupted
            if self._iteration < config.iterations and self._checkpoint_due():
                self._save()
        self._add_row(epoch, [value / config.iterations for value in self._sums])
        self._epoch += 1
        self._begin_epoch()
        if best_row(self.history) is self.history[-1]:
            self._write_best()
        self._save()
        self._write_tables()
        self._report()

    def _run_iteration(self, epoch: int, batches: Iterator[Batch]) -> None:
        start = time.perf_counter()
        batch = next(batches)
        loaded = time.perf_counter()
        *losses, norm = self._step(batch, epoch, self._iteration)
        if not math.isfinite(losses[0]):
            self._stop("training loss", losses[0], batch)
        if not math.isfinite(norm):
            self._stop("gradient norm", norm, batch)
        self._iteration += 1
        self.folder.begun = True
        self._sums = [a + b for a, b in zip(self._sums, (*losses, norm))]
        self._timing["seconds"] += time.perf_counter() - start
        self._timing["wait"] += loaded - start
        self._timing["steps"] += 1
        shown = " ".join(f"{name} {v:.3f}" for name, v in zip(TERMS, losses) if math.isfinite(v))
        self.progress.iteration(epoch, self.config.epochs, 1, shown)

    def _stop(self, what: str, value: float, batch: Batch) -> None:
        """Keeps the batch of a loss or gradient that is not finite, and stops.

        Raises:
            ChaseError: always; `Elsewhere` on a rank that is neither rank 0 nor at fault.
        """
        rank, where = self._ranks.rank, {"epoch": self._epoch, "iteration": self._iteration + 1}
        if rank and math.isfinite(float(self._step.local[0])):
            raise Elsewhere("another rank has stopped")
        name = f"bad_batch_{rank}.safetensors" if rank else "bad_batch.safetensors"
        self.folder.write_bytes(name, batch_file(batch, where))
        raise ChaseError(
            f"{what} is {value} in epoch {where['epoch']}, iteration {where['iteration']}: try smaller "
            f"learning rates, --clip-norm 1 or another --seed; its batch is in {self.folder / name}, the "
            "last checkpoint is unharmed"
        )

    def _checkpoint_due(self) -> bool:
        config = self.config
        minutes = (time.monotonic() - self._last_checkpoint) / 60
        return bool(
            (config.checkpoint_minutes and minutes >= config.checkpoint_minutes)
            or (config.checkpoint_iterations and self._iteration % config.checkpoint_iterations == 0)
        )

    # end of an epoch

    @torch.no_grad()
    def _validate(self) -> list[float]:
        """Mean losses on the validation samples, in eval mode."""
        net = self._step.best_net.eval()
        total = torch.zeros(len(TERMS), device=self.device)
        for batch in self._data.batches("val"):
            total += self._losses(net, batch)
        self._ranks.mean_(total)
        return (total / self.config.val_batches).tolist()

    def _add_row(self, epoch: int, means: list[float] | None) -> None:
        """Evaluates the state after an epoch and appends a row to each table.

        Args:
            means: mean training losses and gradient norm; None for row 0.

        Raises:
            ChaseError: the validation loss is not finite.
        """
        config = self.config
        start = time.perf_counter()
        due = epoch % config.val_every == 0 or epoch == config.epochs
        val = self._validate() if due else [math.nan] * len(TERMS)
        if due and not math.isfinite(val[0]):
            raise ChaseError(
                f"validation loss is {val[0]} after epoch {epoch}: try smaller learning rates, or another "
                "--seed; the last checkpoint is unharmed"
            )
        row: dict[str, Any] = {"epoch": epoch}
        for role, values in (("train", means or [math.nan] * len(TERMS)), ("val", val)):
            row |= {f"{role}_{k}": v if math.isfinite(v) else None for k, v in zip(TERMS, values)}
        factor = decay(config, max(epoch, 1))
        row["lr"] = config.lr * factor
        row["lr_backbone"] = 0.0 if config.freeze_backbone else learning_rates(config)["backbone"] * factor
        row["grad_norm"] = means[-1] if means else None
        self.history.append(row)
        self._log(epoch, row)
        seconds = self._timing["seconds"] + time.perf_counter() - start
        if epoch:
            steps, spent = self._timing["steps"], self._timing["seconds"]
            perf = {
                "epoch": epoch,
                "seconds": seconds,
                "step_ms": 1000 * spent / steps,
                "data_wait_share": self._timing["wait"] / spent,
                "samples_per_second": config.batch * steps / spent,
                "peak_memory_mb": peak_memory_mb(str(self.device)),
            }
            self.perf.append(perf)
            self._log(epoch, {f"perf/{k}": v for k, v in perf.items() if k != "epoch"})
        self.progress.say(epoch_line(row, config.epochs, seconds, self.progress.left or 0.0))

    # files: rank 0 alone writes

    def _log(self, epoch: int, row: dict[str, Any]) -> None:
        if self._events is not None:
            self._events.add(epoch, row)

    def _write_tables(self) -> None:
        if self._ranks.main:
            self.folder.write_rows(HISTORY, self.history)
            self.folder.write_rows(PERF, self.perf)

    def _report(self) -> None:
        """report.html; a run worth days does not end because its page cannot be drawn."""
        if not self._ranks.main:
            return
        try:
            write_report(self.folder.path)
        except ChaseError:
            raise
        except Exception as e:
            self.progress.warn(f"report.html was not written ({type(e).__name__}: {e})")

    def _write_best(self) -> None:
        """best.safetensors and result.json of the epoch just finished."""
        if not self._ranks.main:
            return
        row, config = self.history[-1], self.config
        chosen = {"epoch": row["epoch"], "val_loss": row["val_loss"]}
        about = self._provenance | chosen | {"config": dataclasses.asdict(config)}
        about["data"], about["trained_on"] = self._data.summary, self._trained_before + self._data.record
        self.folder.write_bytes(BEST, pack_tracker(self._step.best_net, self.spec, about))
        result = chosen | {"spec": self.spec.to_data()} | self._cost | self._provenance
        self.folder.write_json(RESULT, result | {"train": list(config.train), "val": list(config.val)})

    def _save(self) -> None:
        if not self._ranks.main:
            return
        step = self._step
        state = {
            "format": FORMAT,
            "config": dataclasses.asdict(self.config),
            "epoch": self._epoch,
            "iteration": self._iteration,
            "sums": self._sums,
            "net": step.net.state_dict(),
            "average": None if step.average is None else step.average.net.state_dict(),
            "optimizer": step.optimizer.state_dict(),
            "history": self.history,
            "perf": self.perf,
            "timing": self._timing,
            "trained_before": self._trained_before,
        }
        self.folder.save_checkpoint(state)
        self._last_checkpoint = time.monotonic()

    def _restore(self, state: Fields) -> None:
        step, config = self._step, self.config
        try:
            if (wrote := state.integer("format")) != FORMAT:
                raise ValueError(f"format {wrote}, this version reads {FORMAT}")
            check_checkpoint(state, config, FREE_ON_RESUME)
            restore(step.net, state.get("net"), "net")
            if step.average is not None:
                restore(step.average.net, state.get("average"), "average")
            step.load_optimizer(check_optimizer(step.optimizer, state.inner("optimizer")))
            self._epoch = state.integer("epoch", 1, config.epochs + 1)
            self._iteration = state.integer("iteration", 0, config.iterations)
            self._sums = state.numbers("sums", len(self._sums))
            timing = state.inner("timing")
            self._timing = {name: timing.number(name, 0) for name in self._timing}
            self.history = train_rows(state, TERMS)
            self.perf = perf_rows(state, PERF_COLUMNS)
            if not len(self.history) == len(self.perf) + 1 == self._epoch:
                raise ValueError("its tables do not end at its epoch")
            self._trained_before = begun(config.init, state.get("trained_before"))
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as e:
            reason = str(e).splitlines()[0] if str(e) else type(e).__name__
            raise ChaseError(
                f"{self.folder / CHECKPOINT} does not belong to this run ({reason[:120]}): start again in "
                "another --out"
            ) from None
