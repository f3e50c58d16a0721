"""Reads the folder of a training as far as it is written: in progress, killed or finished."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from chase_fast.errors import ChaseError
from chase_fast.nn.genotype import Sketch
from chase_fast.report.files import LAST_EPOCH, is_number, read_json, read_rows, require_run
from chase_fast.report.run import Run

TERMS = ("final", "initial", "middle", "box")  # of the loss, beside the total "loss"
PARTS = ("backbone", "neck", "classifier", "box", "total")


@dataclass(frozen=True)
class TrainRun(Run):
    """One training."""

    KIND = "train"
    LOSS = "val_loss"

    result: dict  # result.json, written with every new best epoch

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
    def neck(self) -> str:
        if self.plain:
            return "plain block"
        if self.genotype is None:
            return "unknown"
        name, (_, free, genes) = self.setting("cell"), self.operations()
        published = isinstance(name, str) and "/" not in name and not name.endswith(".json")
        known = f"{name}: " if published else ""
        return f"{known}cell of {len(self.genotype.nodes)} nodes, {genes} operations, {free} weight-free"

    def size(self, what: str, part: str) -> float | None:
        """`what` is parameters or macs (multiply-accumulates for one frame), `part` one of PARTS."""
        table = self.result.get(what)
        value = table.get(part) if isinstance(table, dict) else None
        return value if is_number(value) else None


def read_train(path: str | Path) -> TrainRun:
    """Everything a training's folder holds so far.

    Raises:
        ChaseError: the folder is missing or holds no file of a run.
    """
    path = Path(path)
    require_run(path)
    problems: list[str] = []
    config, result = (read_json(path / name, problems) for name in ("config.json", "result.json"))
    history, perf = (read_rows(path / name, problems) for name in ("history.jsonl", "perf.jsonl"))
    run = TrainRun(path, config, history, perf, (), None, result)
    genotype = None
    if run.spec.get("cell") is not None:
        try:
            genotype = Sketch.from_data(run.spec["cell"])
        except ChaseError as e:
            problems.append(f"config.json: {e}")
    return dataclasses.replace(run, problems=tuple(problems), genotype=genotype)
