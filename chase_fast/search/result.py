"""What a search says of its epochs and of its result."""

from typing import Any

from chase_fast.fields import Fields
from chase_fast.nn.genotype import Genotype
from chase_fast.runs.progress import duration

NONE = (
    "none(K) gives zero: node K is left out there. The search may choose that, as in the paper; "
    "--no-none-counts forbids it"
)


def epoch_line(row: dict[str, Any], epochs: int, seconds: float, left: float) -> str:
    """One epoch in one line of plain text."""
    parts = [f"epoch {row['epoch']}/{epochs}"]
    for key, name in (("train_loss", "train"), ("val_loss", "val"), ("holdout_loss", "hold-out")):
        if row[key] is not None:
            parts.append(f"{name} {row[key]:.4f}")
    if row["alpha_active"]:
        parts.append(f"{row['skip_count']} skip, {row['weight_free_count']} weight-free")
    else:
        parts.append("untrained" if row["epoch"] == 0 else "warm-up")
    if row["epoch"]:
        parts.append(f"{duration(seconds)} ({duration(left)} left at most)")
    return " | ".join(parts)


def describe(cell: Fields, untrained: dict[str, Any]) -> list[str]:
    """What cell.json holds; untrained: row 0."""
    nodes = Genotype.from_any(cell.get("genotype")).nodes
    genes = [[f"{op}({source})" for op, source in node] for node in nodes]
    return [
        f"cell of epoch {cell.integer('epoch')} (nodes 0 and 1 are the inputs, layer2 and layer3):",
        *(f"  node {i}: {' + '.join(node) or 'nothing'}" for i, node in enumerate(genes, 2)),
        *([f"  {NONE}"] if any(op == "none" for node in nodes for op, _ in node) else []),
        f"hold-out loss {cell.number('holdout_loss'):.4f}, untrained {untrained['holdout_loss']:.4f}",
    ]
