"""Reads the folder of a training as far as it is written: in progress, killed or finished."""

from dataclasses import dataclass
from pathlib import Path

from chase_fast.errors import ChaseError
from chase_fast.nn.genotype import Genotype, Sketch
from chase_fast.report.files import LAST_EPOCH, Tables, is_number, read_json, read_rows, require_run

TERMS = ("final", "initial", "middle", "box")  # of the loss, beside the total "loss"
PARTS = ("backbone", "neck", "classifier", "box", "total")


@dataclass(frozen=True)
class TrainRun(Tables):
    """One training run; `genotype` is None for the plain block and as long as nothing is known."""

    result: dict  # result.json, written with every new best epoch
    genotype: Genotype | None

    @property
    def spec(self) -> dict:
        """Architecture, as TrackerSpec.to_data() gives it."""
        found = self.config.get("spec") or self.result.get("spec")
        return found if isinstance(found, dict) else {}

    @property
    def plain(self) -> bool:
        """Whether the network has the plain block and no cell."""
        return "cell" in self.spec and self.spec["cell"] is None

    @property
    def seed(self) -> object:
        return self.setting("seed", self.result.get("seed"))

    @property
    def evaluated(self) -> list[int]:
        """Trained epochs with a validation loss; row 0, the untrained net, is none of them."""
        return [epoch for epoch, _ in self.series("val_loss") if epoch > 0]

    @property
    def chosen(self) -> int | None:
        """Epoch of the best checkpoint: from result.json, else of the lowest validation loss so far."""
        if type(self.result.get("epoch")) is int and 0 <= self.result["epoch"] <= LAST_EPOCH:
            return self.result["epoch"]
        losses = dict(self.series("val_loss"))
        return min(self.evaluated, key=lambda epoch: losses[epoch], default=None)

    @property
    def ended(self) -> bool:
        planned = self.epochs_planned
        return self.last_epoch >= planned if is_number(planned) else bool(self.result)

    @property
    def status(self) -> str:
        """One phrase on where the run stands."""
        if not self.history:
            return "not started"
        of = f" of {self.epochs_planned}" if self.epochs_planned is not None else ""
        return f"{'ended' if self.ended else 'in progress or interrupted'} after epoch {self.last_epoch}{of}"

    def at(self, epoch: int | None, key: str) -> float | None:
        """Value of history.jsonl at an epoch."""
        value = self.history.get(epoch, {}).get(key)
        return float(value) if is_number(value) else None

    def size(self, what: str, part: str) -> float | None:
        """`what` is parameters or macs (multiply-accumulates for one frame), `part` one of PARTS."""
        table = self.result.get(what)
        value = table.get(part) if isinstance(table, dict) else None
        return value if is_number(value) else None


def read_train_run(path: str | Path) -> TrainRun:
    """Everything a training's folder holds so far.

    Raises:
        ChaseError: the folder is missing or holds no file of a run.
    """
    path = Path(path)
    require_run(path)
    problems: list[str] = []
    config, result = (read_json(path / name, problems) for name in ("config.json", "result.json"))
    history, perf = (read_rows(path / name, problems) for name in ("history.jsonl", "perf.jsonl"))
    run = TrainRun(path, config, history, perf, (), result, None)
    genotype = None
    if run.spec.get("cell") is not None:
        try:
            genotype = Sketch.from_data(run.spec["cell"])
        except ChaseError as e:
            problems.append(f"config.json: {e}")
    return TrainRun(path, config, history, perf, tuple(problems), result, genotype)
