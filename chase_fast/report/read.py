"""Reads a run folder as far as it is written: in progress, killed or finished, with the same fields."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from chase_fast.errors import ChaseError
from chase_fast.nn.genotype import Genotype
from chase_fast.nn.operations import OPS


@dataclass(frozen=True)
class Run:
    """One search run. `history` and `perf` map an epoch to its row; row 0 is the untrained net."""

    path: Path
    config: dict
    history: dict[int, dict]
    alphas: dict[int, list[list[float]]]  # epoch -> logits [edges][operations]
    perf: dict[int, dict]
    cell: dict  # cell.json: genotype and provenance
    genotype: Genotype | None
    problems: tuple[str, ...]  # files that could not be read, one line each

    def setting(self, name: str, default=None):
        """Value of a flag in config.json."""
        flags = self.config.get("config")
        return flags.get(name, default) if isinstance(flags, dict) else default

    def series(self, key: str, rows: str = "history") -> list[tuple[int, float]]:
        """(epoch, value) for every epoch that has a finite number under `key`."""
        table = getattr(self, rows)
        pairs = ((epoch, row.get(key)) for epoch, row in sorted(table.items()))
        return [(epoch, float(v)) for epoch, v in pairs if is_number(v)]

    @property
    def last_epoch(self) -> int:
        return max(self.history, default=0)

    @property
    def epochs_planned(self) -> int | None:
        return self.setting("epochs")

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
    def sigmoid(self) -> bool:
        """Whether the alphas are mixed by a sigmoid (Fair-DARTS) and not by a softmax."""
        return self.setting("mixing") == "sigmoid"

    @property
    def chosen(self) -> int | None:
        """Epoch of the cell: from cell.json, else of the best hold-out loss with alphas active so far."""
        if isinstance(self.cell.get("epoch"), int):
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

    @property
    def status(self) -> str:
        """One phrase on where the run stands."""
        if not self.history:
            return "not started"
        of = f" of at most {self.epochs_planned}" if self.epochs_planned is not None else ""
        how = "ended" if self.ended else "in progress or interrupted"
        return f"{how} after epoch {self.last_epoch}{of}"

    def probabilities(self) -> dict[int, list[list[float]]]:
        """Mixing weights per epoch: softmax (or sigmoid) of the logits, [edges][operations]."""
        mix = _sigmoid if self.sigmoid else _softmax
        return {epoch: [mix(row) for row in rows] for epoch, rows in sorted(self.alphas.items())}


def is_number(v) -> bool:
    return isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v)


def _softmax(row: list[float]) -> list[float]:
    top = max(row)
    powers = [math.exp(a - top) for a in row]
    return [p / sum(powers) for p in powers]


def _sigmoid(row: list[float]) -> list[float]:
    return [0.5 * (1 + math.tanh(0.5 * a)) for a in row]


def flatten(tree: Mapping, prefix: str = "") -> dict[str, object]:
    """{"a": {"b": 1}} -> {"a.b": 1}."""
    flat = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _json(path: Path, problems: list[str]) -> dict:
    if not path.exists():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        problems.append(f"{path.name}: {e}")
        return {}
    if not isinstance(value, dict):
        problems.append(f"{path.name}: not a JSON object")
        return {}
    return value


def _rows(path: Path, problems: list[str]) -> dict[int, dict]:
    """Rows of a .jsonl by epoch; the last row of an epoch counts, broken lines are left out and counted."""
    rows, broken = {}, 0
    if not path.exists():
        return rows
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
            rows[int(row["epoch"])] = row
        except (ValueError, KeyError, TypeError):
            broken += bool(line.strip())
    if broken:
        problems.append(f"{path.name}: {broken} unreadable line{'s' if broken > 1 else ''} left out")
    return rows


def _table_shape(table) -> tuple[int, int] | None:
    """(rows, columns) of a table of finite numbers, None for anything else."""
    if not isinstance(table, list) or not all(isinstance(row, list) for row in table):
        return None
    widths = {len(row) for row in table}
    if len(widths) != 1 or 0 in widths or not all(is_number(v) for row in table for v in row):
        return None
    return len(table), widths.pop()


def _alphas(path: Path, problems: list[str]) -> dict[int, list[list[float]]]:
    alphas, shape = {}, None
    for epoch, row in _rows(path, problems).items():
        table = row.get("alpha")
        ok = (
            isinstance(table, list)
            and table
            and all(isinstance(r, list) and all(map(is_number, r)) for r in table)
        )
        here = (len(table), {len(r) for r in table}) if ok else None
        if here is None or len(here[1]) != 1 or 0 in here[1] or shape not in (None, here):
            problems.append(f"{path.name}: the alphas of epoch {epoch} are not a table of numbers, left out")
            continue
        shape, alphas[epoch] = here, table
    return alphas


def genotype_of(cell: dict) -> Genotype:
    """Genotype of the content of a cell.json, where it stands as an object or as text.

    Raises:
        ChaseError: it is no genotype.
    """
    value = cell.get("genotype")
    return Genotype.from_json(value) if isinstance(value, str) else Genotype.from_data(value)


def is_run(path: Path) -> bool:
    return any((path / name).is_file() for name in ("config.json", "history.jsonl", "cell.json"))


def seed_runs(path: Path) -> list[Path]:
    """Run folders seed_K of a search over several seeds, in numeric order."""
    found = [p for p in path.glob("seed_*") if p.name[5:].isdigit() and is_run(p)]
    return sorted(found, key=lambda p: int(p.name[5:]))


def read_run(path: str | Path) -> Run:
    """Everything a run folder holds so far.

    Raises:
        ChaseError: the folder is missing or holds none of config.json, history.jsonl, cell.json.
    """
    path = Path(path)
    if not path.is_dir():
        raise ChaseError(f"{path}: no such folder; give the folder that `--out` of a search named")
    if not is_run(path):
        raise ChaseError(
            f"{path}: no run folder (no config.json, history.jsonl, cell.json); give the `--out` of a search"
        )
    problems: list[str] = []
    cell = _json(path / "cell.json", problems)
    genotype = None
    if "genotype" in cell:
        try:
            genotype = genotype_of(cell)
        except ChaseError as e:
            problems.append(f"cell.json: {e}")
    config, history = _json(path / "config.json", problems), _rows(path / "history.jsonl", problems)
    alphas, perf = _alphas(path / "alphas.jsonl", problems), _rows(path / "perf.jsonl", problems)
    return Run(path, config, history, alphas, perf, cell, genotype, tuple(problems))
