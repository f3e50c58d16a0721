"""What a training leaves: the chosen epoch, one line per epoch, a bad batch."""

import json
from dataclasses import fields
from typing import Any

from chase_fast.data import Batch
from chase_fast.progress import duration


def best_row(history: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Trained epoch with the smallest validation loss, the first of equal ones."""
    rows = [row for row in history if row["epoch"] and row["val_loss"] is not None]
    return min(rows, key=lambda row: row["val_loss"], default=None)


def epoch_line(row: dict[str, Any], epochs: int, seconds: float, left: float) -> str:
    """One epoch in one line of plain text."""
    parts = [f"epoch {row['epoch']}/{epochs}"]
    for role in ("train", "val"):
        if row[f"{role}_loss"] is not None:
            terms = ", ".join(
                f"{name} {row[f'{role}_{name}']:.3f}"
                for name in ("final", "box")
                if row[f"{role}_{name}"] is not None
            )
            parts.append(f"{role} {row[f'{role}_loss']:.4f} ({terms})")
    parts.append(f"{duration(seconds)} ({duration(left)} left)" if row["epoch"] else "untrained")
    return " | ".join(parts)


def batch_file(batch: Batch, where: dict[str, Any]) -> bytes:
    """A batch as a .safetensors file: its tensors by the names in `chase_fast.data.Batch`."""
    from safetensors.torch import save

    tensors = {
        f.name: value.detach().cpu().contiguous()
        for f in fields(batch)
        if (value := getattr(batch, f.name)) is not None
    }
    return save(tensors, {"batch": json.dumps(where)})
