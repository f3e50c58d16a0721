"""What a training says of its epochs and of its result, and leaves of a bad batch."""

import json
from dataclasses import fields
from typing import Any

from chase_fast.data import Batch
from chase_fast.fields import Fields
from chase_fast.runs.progress import duration


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


def describe(result: Fields, untrained: dict[str, Any]) -> list[str]:
    """What result.json holds; untrained: row 0."""
    millions = result.inner("parameters").number("total") / 1e6
    billions = result.inner("macs").number("total") / 1e9
    epoch, loss = result.integer("epoch"), result.number("val_loss")
    return [
        f"network of epoch {epoch}: {millions:.2f} M parameters, {billions:.2f} G MACs a frame",
        f"validation loss {loss:.4f}, untrained network {untrained['val_loss']:.4f}",
    ]


def batch_file(batch: Batch, where: dict[str, Any]) -> bytes:
    """A batch as a .safetensors file: its tensors by the names in `chase_fast.data.Batch`."""
    from safetensors.torch import save

    tensors = {
        f.name: value.detach().cpu().contiguous()
        for f in fields(batch)
        if (value := getattr(batch, f.name)) is not None
    }
    return save(tensors, {"batch": json.dumps(where)})
