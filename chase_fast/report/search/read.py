"""Reads the folder of a search as far as it is written: in progress, killed or finished."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chase_fast.errors import ChaseError
from chase_fast.nn.genotype import Sketch
from chase_fast.nn.mixing import Mixing, mixing_table
from chase_fast.nn.space import OPS
from chase_fast.report.files import LAST_EPOCH, is_number, read_json, read_rows, require_run
from chase_fast.report.run import Run


@dataclass(frozen=True)
class SearchRun(Run):
    """One search."""

    KIND = "search"
    LOSS = "holdout_loss"
    PLANNED = "of at most"

    alphas: dict[int, list[list[float]]]  # epoch -> logits, or mixing weights, [edges][operations]
    mixed: bool  # weights: of a method whose weights are no softmax or sigmoid
    cell: dict  # cell.json: genotype and provenance

    @property
    def neck(self) -> str:
        return "searched cell"

    @property
    def unreadable(self) -> bool:
        """Whether there is a cell.json that cannot be read."""
        return self.genotype is None and (self.path / "cell.json").exists()

    @property
    def ops(self) -> tuple[str, ...]:
        """Names of the columns of the alphas."""
        width = len(next(iter(self.alphas.values()))[0]) if self.alphas else 0
        ops = self.setting("ops")
        if isinstance(ops, list) and len(ops) == width:
            return tuple(str(op) for op in ops)
        if width == len(OPS):
            return OPS
        if width == len(OPS) - 1:  # Fair-DARTS has no `none`
            return OPS[1:]
        return tuple(f"operation {i}" for i in range(width))

    @property
    def edges(self) -> list[tuple[int, int]]:
        """(node, source) of every row of the alphas, node-major; node i reads sources 0 .. i + 1."""
        count = len(next(iter(self.alphas.values()))) if self.alphas else 0
        pairs = [(i, source) for i in range(count) for source in range(i + 2)]
        return pairs[:count]

    @property
    def mixing(self) -> Mixing:
        """How alphas become weights: softmax (DARTS) or sigmoid (Fair-DARTS)."""
        mixing = self.setting("mixing")
        fair = mixing is None and self.setting("method") == "fair"
        return "sigmoid" if mixing == "sigmoid" or fair else "softmax"

    @property
    def chosen(self) -> int | None:
        """Epoch of the cell: from cell.json, else of the best hold-out loss with alphas active so far."""
        if type(self.cell.get("epoch")) is int and 0 <= self.cell["epoch"] <= LAST_EPOCH:
            return self.cell["epoch"]
        active = [(v, e) for e, v in self.series("holdout_loss") if self.history[e].get("alpha_active")]
        return min(active)[1] if active else None

    @property
    def warmup_end(self) -> int:
        """Last epoch in which the alphas were not yet optimised."""
        active = [e for e, row in self.history.items() if row.get("alpha_active")]
        return min(active) - 1 if active else self.last_epoch

    @property
    def ended(self) -> bool:
        """All epochs are run, or the hold-out loss has not improved for `patience` epochs."""
        planned, patience = self.epochs_planned, self.setting("patience")
        if is_number(planned) and self.last_epoch >= planned:
            return True
        waited = self.last_epoch - self.chosen if self.chosen is not None else 0
        return is_number(patience) and patience > 0 and waited >= patience

    def probabilities(self) -> dict[int, list[list[float]]]:
        """Mixing weights per epoch, [edges][operations]: softmax or sigmoid of the logits, or what the run
        has written."""
        if self.mixed:
            return dict(sorted(self.alphas.items()))
        return {epoch: mixing_table(rows, self.mixing) for epoch, rows in sorted(self.alphas.items())}


def _alphas(path: Path, problems: list[str]) -> tuple[dict[int, list[list[float]]], bool]:
    """`SearchRun.alphas` and `SearchRun.mixed`."""
    alphas: dict[int, list[list[float]]] = {}
    shape, rows = None, read_rows(path, problems)
    mixed = any("weights" in row for row in rows.values())
    for epoch, row in rows.items():
        table: Any = row.get("weights" if mixed else "alpha")
        here = _shape(table)
        if here is None or shape not in (None, here):
            problems.append(f"{path.name}: the alphas of epoch {epoch} are not a table of numbers, left out")
            continue
        shape, alphas[epoch] = here, table
    return alphas, mixed


def _shape(table: Any) -> tuple[int, int] | None:
    """Rows and columns of a table of numbers; None if it is none."""
    rows = table if isinstance(table, list) else []
    if not all(isinstance(row, list) and all(map(is_number, row)) for row in rows):
        return None
    widths = {len(row) for row in rows}
    return (len(rows), widths.pop()) if len(widths) == 1 and 0 not in widths else None


def read_search(path: str | Path) -> SearchRun:
    """Everything a run folder holds so far.

    Raises:
        ChaseError: the folder is missing or holds no file of a run.
    """
    path = Path(path)
    require_run(path)
    problems: list[str] = []
    cell = read_json(path / "cell.json", problems)
    genotype = None
    if "genotype" in cell:
        try:
            genotype = Sketch.from_any(cell["genotype"])
        except ChaseError as e:
            problems.append(f"cell.json: {e}")
    elif cell:
        problems.append("cell.json: holds no genotype")
    config, history = read_json(path / "config.json", problems), read_rows(path / "history.jsonl", problems)
    alphas, perf = _alphas(path / "alphas.jsonl", problems), read_rows(path / "perf.jsonl", problems)
    return SearchRun(path, config, history, perf, tuple(problems), genotype, *alphas, cell)
