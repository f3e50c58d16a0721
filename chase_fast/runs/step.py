"""How an iteration runs: as one CUDA graph, or eagerly and why."""

from typing import Any

import torch

from chase_fast.distributed import Ranks


def obstacle(config: Any, device: torch.device, ranks: Ranks, *own: tuple[bool, str]) -> str | None:
    """What keeps an iteration from being one CUDA graph; None: nothing.

    Args:
        own: whether, and what, in a search or a training alone.
    """
    reasons = (
        (device.type != "cuda", "CUDA graphs need a CUDA device"),
        (ranks.world > 1, "several ranks"),
        *own,
        (not config.graphs, "--no-graphs"),
    )
    return next((reason for applies, reason in reasons if applies), None)


def how(reason: str | None) -> str:
    """In words, how it runs, for the first lines of a run."""
    return "an iteration is one CUDA graph" if reason is None else f"eager ({reason})"
