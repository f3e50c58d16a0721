"""What a running search shows: a bar with rate, losses and time left; off a terminal a line per epoch."""

from typing import Any

from chase_fast.progress import RunProgress, duration


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


class SearchProgress(RunProgress):
    """Progress of one search on standard output.

    Args:
        quiet: print nothing but warnings.
        silent: nor those; for the ranks that are not 0.
    """

    def __init__(self, quiet: bool = False, silent: bool = False):
        super().__init__(quiet or silent)
        self._silent = silent

    def epoch(self, row: dict[str, Any], epochs: int, seconds: float) -> None:
        """A finished epoch (or row 0)."""
        self.say(epoch_line(row, epochs, seconds, self.left or 0.0))

    def warn(self, text: str) -> None:
        """A line on standard error, quiet or not."""
        if not self._silent:
            super().warn(text)
