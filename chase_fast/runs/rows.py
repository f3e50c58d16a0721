"""The rows of a run's tables out of its checkpoint, every value checked."""

from typing import Any

from chase_fast.fields import Fields, is_number

Rows = list[dict[str, Any]]


def _rows(state: Fields, name: str, first: int) -> list[Fields]:
    """Rows whose epochs count from `first`."""
    rows = state.many(name)
    for epoch, row in enumerate(rows, first):
        row.integer("epoch", epoch, epoch)
    return rows


def _number_or_none(row: Fields, name: str) -> None:
    if row.get(name, "") is not None:
        row.number(name)


def search_rows(state: Fields) -> Rows:
    """history.jsonl of a search.

    Raises:
        ChaseError: names the field that is missing or wrong; so do the others here.
    """
    rows = _rows(state, "history", 0)
    for row in rows:
        for name in ("holdout_loss", "lr", "dropout", "alpha_entropy"):
            row.number(name)
        for name in ("train_loss", "val_loss"):
            _number_or_none(row, name)
        for name in ("skip_count", "weight_free_count"):
            row.integer(name, 0)
        row.number("hessian_eigenvalue", default=None)
        row.flag("alpha_active")
        row.text("genotype")
    return [dict(row) for row in rows]


def alpha_rows(state: Fields, shape: tuple[int, int]) -> Rows:
    """alphas.jsonl of a search, tables of this shape."""
    rows = _rows(state, "alphas", 0)
    for row in rows:
        table = row.entries("alpha")
        good = all(isinstance(r, list) and len(r) == shape[1] and all(map(is_number, r)) for r in table)
        if len(table) != shape[0] or not good:
            raise row.wrong("alpha", f"a table of {shape[0]} x {shape[1]} numbers")
    return [dict(row) for row in rows]


def train_rows(state: Fields, terms: tuple[str, ...]) -> Rows:
    """history.jsonl of a training with these terms of its loss."""
    rows = _rows(state, "history", 0)
    for row in rows:
        for name in (*(f"{role}_{term}" for role in ("train", "val") for term in terms), "grad_norm"):
            _number_or_none(row, name)
        row.number("lr")
        row.number("lr_backbone")
    for row in rows[:1]:
        row.number("val_loss")
    return [dict(row) for row in rows]


def perf_rows(state: Fields, names: tuple[str, ...]) -> Rows:
    """perf.jsonl: these numbers of every epoch but row 0. The peak memory is not known everywhere (NaN)."""
    rows = _rows(state, "perf", 1)
    for row in rows:
        for name in names:
            if name != "peak_memory_mb" or row.get(name) == row.get(name):
                row.number(name)
    return [dict(row) for row in rows]
