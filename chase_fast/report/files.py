"""Files of a run folder as far as they are written, whatever command wrote them: search or train."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

from chase_fast import fields
from chase_fast.errors import ChaseError, MissingFile
from chase_fast.files import read_bytes, read_text

RUN_FILES = ("config.json", "history.jsonl", "cell.json", "result.json")
LARGEST, LAST_EPOCH, DEEPEST = 1e100, 10**9, 12  # of what is drawn; nesting of the files
TRAIN_COLUMNS = ("val_final", "train_final", "val_box", "train_box")  # of a history.jsonl


def is_number(v: Any) -> TypeGuard[float]:
    """A number that can be drawn."""
    return fields.is_number(v) and abs(v) < LARGEST


def flatten(tree: Mapping, prefix: str = "") -> dict[str, object]:
    """{"a": {"b": 1}} -> {"a.b": 1}."""
    flat: dict[str, object] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def read_json(path: Path, problems: list[str]) -> dict:
    """A JSON object; {} if the file is not there, or with a line in `problems` if it cannot be read."""
    if not os.path.lexists(path):
        return {}
    try:
        value = fields.load_json(read_bytes(path), f"{path.name}:")
    except ChaseError as e:
        problems.append(str(e))
        return {}
    except OSError as e:
        problems.append(f"{path.name}: cannot be read ({e.strerror})")
        return {}
    if not isinstance(value, dict):
        problems.append(f"{path.name}: not a JSON object")
        return {}
    if _depth(value) > DEEPEST:
        problems.append(f"{path.name}: is nested too deeply to be a file of this kind")
        return {}
    return value


def _depth(value: object) -> int:
    level, depth = [value], 0
    while level and depth <= DEEPEST:
        inner = [v.values() if isinstance(v, dict) else v for v in level if isinstance(v, dict | list)]
        level, depth = [v for values in inner for v in values], depth + 1
    return depth


def read_rows(path: Path, problems: list[str]) -> dict[int, dict]:
    """Rows of a .jsonl by epoch; the last row of an epoch counts. What is broken is left out and counted."""
    rows: dict[int, dict] = {}
    broken = twice = 0
    if not os.path.lexists(path):
        return rows
    try:
        lines = read_text(path).split("\n")
    except OSError as e:
        problems.append(f"{path.name}: cannot be read ({e.strerror})")
        return rows
    for line in filter(str.strip, lines):
        try:
            row = fields.load_object(line, path.name)
            epoch = row.integer("epoch", 0, LAST_EPOCH)
            if _depth(row.values_) > DEEPEST:
                raise ChaseError("nested too deeply")
        except ChaseError:
            broken += 1
        else:
            twice += epoch in rows
            rows[epoch] = dict(row)
    for count, what in ((broken, "unreadable line%s"), (twice, "line%s of epochs that stand there again")):
        if count:
            problems.append(f"{path.name}: {count} {what % ('s' if count > 1 else '')} left out")
    return rows


def is_run(path: Path) -> bool:
    return any((path / name).is_file() for name in RUN_FILES)


def seed_folders(path: Path) -> list[Path]:
    """Run folders seed_K of a run over several seeds, in numeric order; [] for the folder of one run."""
    if not path.is_dir() or (path / "history.jsonl").exists():
        return []
    found = [p for p in path.glob("seed_*") if p.name[5:].isascii() and p.name[5:].isdigit() and is_run(p)]
    return sorted(found, key=lambda p: int(p.name[5:]))


def require_run(path: Path) -> None:
    """Raises:
    ChaseError: the folder is missing or holds no file of a run.
    """
    if not path.is_dir():
        raise MissingFile(f"{path}: no such folder; give the --out of a search or a training")
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


def common_kind(path: Path, folders: list[Path]) -> str:
    """ "train" or "search": which command wrote the folders of a run.

    Raises:
        ChaseError: they are of both kinds, or one is no run folder.
    """
    kinds = {kind_of(folder) for folder in folders}
    if len(kinds) > 1:
        raise ChaseError(f"{path}: some seeds are searches and some trainings; give their folders one by one")
    return kinds.pop()
