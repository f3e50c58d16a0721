"""What the folder of a search and that of a training have in common, as far as they are written."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from chase_fast.draw.palette import series_look
from chase_fast.nn.genotype import Genotype
from chase_fast.nn.space import WEIGHT_FREE
from chase_fast.report.files import is_number, read_json


@dataclass(frozen=True)
class Run:
    """One run. `history` and `perf` map an epoch to its row; row 0 is the untrained net."""

    KIND: ClassVar[str]  # search or train
    LOSS: ClassVar[str]  # key of `history` that epochs are chosen and runs are compared by
    PLANNED: ClassVar[str] = "of"  # before the number of planned epochs

    path: Path
    config: dict
    history: dict[int, dict]
    perf: dict[int, dict]
    problems: tuple[str, ...]  # what could not be read, one line each
    genotype: Genotype | None  # None for the plain block, and as long as nothing is known

    def setting(self, name: str, default: Any = None) -> Any:
        """Value of a flag in config.json."""
        flags = self.config.get("config")
        return flags.get(name, default) if isinstance(flags, dict) else default

    def series(self, key: str, rows: str = "history") -> list[tuple[int, float]]:
        """(epoch, value) for every epoch that has a finite number under `key`."""
        table = getattr(self, rows)
        pairs = ((epoch, row.get(key)) for epoch, row in sorted(table.items()))
        return [(epoch, float(v)) for epoch, v in pairs if is_number(v)]

    def costs(self, key: str) -> list[tuple[int, float]]:
        """The same of perf.jsonl, without row 0, which has no iterations."""
        return [(epoch, v) for epoch, v in self.series(key, "perf") if epoch > 0]

    def at(self, epoch: int | None, key: str) -> float | None:
        """Value of history.jsonl at an epoch."""
        value = self.history.get(epoch, {}).get(key) if epoch is not None else None
        return float(value) if is_number(value) else None

    @property
    def row0(self) -> float | None:
        """Loss of the untrained net."""
        return self.at(0, self.LOSS)

    @property
    def best(self) -> float | None:
        """Loss of the chosen epoch."""
        return self.at(self.chosen, self.LOSS)

    @property
    def last_epoch(self) -> int:
        return max(self.history, default=0)

    @property
    def epochs_planned(self) -> int | None:
        return self.setting("epochs")

    @property
    def evaluated(self) -> list[int]:
        """Epochs with that loss; row 0 is none of them."""
        return [epoch for epoch, _ in self.series(self.LOSS) if epoch > 0]

    @property
    def chosen(self) -> int | None:
        """Epoch that the run's result is of."""
        raise NotImplementedError

    @property
    def ended(self) -> bool:
        raise NotImplementedError

    @property
    def neck(self) -> str:
        """What stands between backbone and classifier, in words."""
        raise NotImplementedError

    @property
    def plain(self) -> bool:
        """Whether the network has the plain block and no cell."""
        return False

    def operations(self) -> tuple[int, int, int]:
        """Skip connections, weight-free operations and genes of the cell."""
        ops = [op for genes in self.genotype.nodes for op, _ in genes] if self.genotype else []
        return ops.count("skip_connect"), sum(op in WEIGHT_FREE for op in ops), len(ops)

    @property
    def has_none(self) -> bool:
        """Whether an operation of the cell is `none`, which readers wonder about."""
        nodes = self.genotype.nodes if self.genotype else ()
        return any(op == "none" for genes in nodes for op, _ in genes)

    @property
    def status(self) -> str:
        """One phrase on where the run stands."""
        if not self.history:
            return "not started"
        of = f" {self.PLANNED} {self.epochs_planned}" if self.epochs_planned is not None else ""
        return f"{'ended' if self.ended else 'in progress or interrupted'} after epoch {self.last_epoch}{of}"


@dataclass(frozen=True)
class Entry:
    """A run, or the seeds of one, beside others. `number` chooses its look."""

    name: str
    path: Path
    kind: str  # search or train
    runs: tuple[Run, ...]
    number: int

    @property
    def look(self) -> tuple[str, str]:
        """(CSS colour, stroke-dasharray)."""
        return series_look(self.number)

    @property
    def unfinished(self) -> bool:
        return not all(run.ended for run in self.runs) or len(self.runs) < self.planned

    @property
    def planned(self) -> int:
        """Number of seeds that were asked for."""
        seeds = read_json(self.path / "config.json", []).get("seeds")
        return max(len(self.runs), len(seeds) if isinstance(seeds, list) else 0)

    def seeds(self, word: str = "") -> str:
        """3, or 2 of 3; with a word behind it, in its plural where needed."""
        n = len(self.runs)
        text = str(n) if n == self.planned else f"{n} of {self.planned}"
        return text + (f" {word}" + "s" * (text != "1") if word else "")
