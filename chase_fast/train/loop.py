"""The training: what `runs.loop.Loop` does for it, validation, the network."""

import dataclasses
import functools
import math
from collections.abc import Iterator
from typing import Any

import torch

from chase_fast.checkpoint import fit, load_tracker, pack_tracker
from chase_fast.data import Batch
from chase_fast.data.trained_on import begun, record
from chase_fast.errors import ChaseError, Elsewhere
from chase_fast.fields import Fields
from chase_fast.nn.backbone import UNFOLDED
from chase_fast.nn.cost import cost
from chase_fast.nn.spec import TrackerSpec
from chase_fast.nn.state import restore
from chase_fast.nn.tracker_net import TrackerNet
from chase_fast.runs.folder import BEST
from chase_fast.runs.loop import Loop, Row
from chase_fast.runs.rows import train_rows
from chase_fast.runs.seeds import stream
from chase_fast.train import RESULT
from chase_fast.train.data import samples
from chase_fast.train.network import TERMS, Losses
from chase_fast.train.optimizer import check_optimizer, decay, learning_rates
from chase_fast.train.result import batch_file, best_row, describe, epoch_line
from chase_fast.train.step import TrainStep


class Training(Loop):
    """One training in one run folder. Its state is the weights, the optimiser and the average."""

    format, losses = 1, (*TERMS, "grad_norm")
    speed = ("seconds", "step_ms", "data_wait_share", "samples_per_second", "peak_memory_mb")
    samples, best_row = staticmethod(samples), staticmethod(best_row)
    line, describe = staticmethod(epoch_line), staticmethod(describe)

    def prepare(self, fresh: bool) -> str:
        config = self.config
        self.spec = TrackerSpec.from_data(self.job.about["spec"])
        self._trained_before: list[dict[str, Any]] = []  # the record of --init
        self._losses = Losses(config, self.device)
        net = self._losses.prepare(self._network(fresh))
        self._cost = cost(net, config.image_size)
        if fresh:
            self._begin(net)
        self._step = TrainStep(config, net, self._losses, self.ranks)
        return self._step.how

    def ready(self) -> None:
        self._losses.fold(self._step.net)

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
        images = self._losses.unfold_backbone(net, self.data.calibration(whole=True))
        if images:
            self.progress.say(UNFOLDED.format(images=images))
        elif self.config.backbone_weights == "random" and not self.config.init:
            self._losses.calibrate_backbone(net, self.data.calibration(whole=True))
        self.ranks.broadcast_(*net.state_dict().values())

    def calibrate(self) -> None:
        if self.config.init:
            return
        self._losses.calibrate(self._step.net, self.data.calibration(), self.ranks)
        if self._step.average is not None:
            self._step.average.net.load_state_dict(self._step.net.state_dict())

    def batches(self, epoch: int) -> Iterator[Batch]:
        return self.data.batches("train", epoch, self._iteration)

    def step(self, epoch: int, batch: Batch) -> dict[str, float]:
        return dict(zip(self.losses, self._step(batch, epoch, self._iteration)))

    def check(self, losses: dict[str, float], batch: Batch) -> None:
        """Keeps the batch of a loss or gradient that is not finite.

        Raises:
            ChaseError: for it; `Elsewhere` on a rank that is neither rank 0 nor at fault.
        """
        wrong = {"training loss": losses["loss"], "gradient norm": losses["grad_norm"]}
        what, value = next(((k, v) for k, v in wrong.items() if not math.isfinite(v)), (None, 0.0))
        if what is None:
            return
        rank, where = self.ranks.rank, {"epoch": self._epoch, "iteration": self._iteration + 1}
        if rank and math.isfinite(float(self._step.local[0])):
            raise Elsewhere("another rank has stopped")
        name = f"bad_batch_{rank}.safetensors" if rank else "bad_batch.safetensors"
        self.folder.write_bytes(name, batch_file(batch, where))
        raise ChaseError(
            f"{what} is {value} in epoch {where['epoch']}, iteration {where['iteration']}: try smaller "
            f"learning rates, --clip-norm 1 or another --seed; its batch is in {self.folder / name}, the "
            "last checkpoint is unharmed"
        )

    # end of an epoch

    @torch.no_grad()
    def _validate(self) -> list[float]:
        """Mean losses on the validation samples, in eval mode."""
        net = self._step.best_net.eval()
        total = torch.zeros(len(TERMS), device=self.device)
        for batch in self.data.batches("val"):
            total += self._losses(net, batch)
        self.ranks.mean_(total)
        return (total / self.config.val_batches).tolist()

    def row(self, epoch: int, means: dict[str, float]) -> Row:
        config = self.config
        due = epoch % config.val_every == 0 or epoch == config.epochs
        val = self._validate() if due else [math.nan] * len(TERMS)
        if due and not math.isfinite(val[0]):
            raise ChaseError(
                f"validation loss is {val[0]} after epoch {epoch}: try smaller learning rates, or another "
                "--seed; the last checkpoint is unharmed"
            )
        row: Row = {}
        for role, values in (("train", means), ("val", dict(zip(TERMS, val)))):
            found = {name: values.get(name, math.nan) for name in TERMS}
            row |= {f"{role}_{k}": v if math.isfinite(v) else None for k, v in found.items()}
        factor = decay(config, max(epoch, 1))
        row["lr"] = config.lr * factor
        row["lr_backbone"] = 0.0 if config.freeze_backbone else learning_rates(config)["backbone"] * factor
        row["grad_norm"] = means.get("grad_norm")
        return row

    # files

    @functools.cached_property
    def _record(self) -> list[dict[str, Any]]:
        """The names of all sequences, for best.safetensors; see `data.trained_on`."""
        return [record(*named) for named in self.data.sources]

    def write_best(self, row: Row) -> None:
        """best.safetensors and result.json."""
        config = self.config
        chosen = {"epoch": row["epoch"], "val_loss": row["val_loss"]}
        origin = self.origin("recipe", "seed", "threads", "versions", "commit")
        kept = origin | chosen | {"config": dataclasses.asdict(config)}
        kept["data"], kept["trained_on"] = self.data.summary, self._trained_before + self._record
        self.folder.write_bytes(BEST, pack_tracker(self._step.best_net, self.spec, kept))
        result = chosen | {"spec": self.spec.to_data()} | self._cost | origin
        self.folder.write_json(RESULT, result | {"train": list(config.train), "val": list(config.val)})

    def state(self) -> dict[str, Any]:
        step = self._step
        return {
            "sums": [*self._sums.values()],
            "net": step.net.state_dict(),
            "average": None if step.average is None else step.average.net.state_dict(),
            "optimizer": step.optimizer.state_dict(),
            "trained_before": self._trained_before,
        }

    def load(self, state: Fields) -> None:
        step = self._step
        restore(step.net, state.get("net"), "net")
        if step.average is not None:
            restore(step.average.net, state.get("average"), "average")
        step.load_optimizer(check_optimizer(step.optimizer, state.inner("optimizer")))
        self._sums = dict(zip(self.losses, state.numbers("sums", len(self.losses))))
        self.history = train_rows(state, TERMS)
        self._trained_before = begun(self.config.init, state.get("trained_before"))
