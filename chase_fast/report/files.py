"""Files of a run folder as far as they are written, whatever command wrote them: search or train."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from chase_fast.errors import ChaseError

RUN_FILES = ("config.json", "history.jsonl", "cell.json", "result.json")
TRAIN_COLUMNS = ("val_final", "train_final", "val_box", "train_box")  # of a history.jsonl


@dataclass(frozen=True)
class Tables:
    """What every run folder has. `history` and `perf` map an epoch to its row; row 0 is the untrained net."""

    path: Path
    config: dict
    history: dict[int, dict]
    perf: dict[int, dict]
    problems: tuple[str, ...]  # what could not be read, one line each

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


def is_number(v) -> bool:
    return isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v)


def flatten(tree: Mapping, prefix: str = "") -> dict[str, object]:
    """{"a": {"b": 1}} -> {"a.b": 1}."""
    flat = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def read_json(path: Path, problems: list[str]) -> dict:
    """A JSON object; {} if the file is not there, or with a line in `problems` if it cannot be read."""
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


def read_rows(path: Path, problems: list[str]) -> dict[int, dict]:
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


def is_run(path: Path) -> bool:
    return any((path / name).is_file() for name in RUN_FILES)


def seed_folders(path: Path) -> list[Path]:
    """Run folders seed_K of a run over several seeds, in numeric order; [] for the folder of one run."""
    if not path.is_dir() or (path / "history.jsonl").exists():
        return []
    found = [p for p in path.glob("seed_*") if p.name[5:].isdigit() and is_run(p)]
    return sorted(found, key=lambda p: int(p.name[5:]))


def require_run(path: Path) -> None:
    """Raises:
    ChaseError: the folder is missing or holds no file of a run.
    """
    if not path.is_dir():
        raise ChaseError(f"{path}: no such folder; give the --out of a search or a training")
    if not is_run(path):
        raise ChaseError(
            f"{path}: no run folder (no {', '.join(RUN_FILES)}); give the --out of a search or a training"
        )


def kind_of(path: Path) -> str:
    """ "train" or "search": which command wrote the run folder.

    Raises:
        ChaseError: the folder is missing or holds no file of a run.
    """
    require_run(path)
    command = read_json(path / "config.json", []).get("command")
    if command is not None:
        return "train" if command == "train" else "search"
    if (path / "result.json").is_file():
        return "train"
    rows = read_rows(path / "history.jsonl", []).values()
    return "train" if any(key in row for row in rows for key in TRAIN_COLUMNS) else "search"
