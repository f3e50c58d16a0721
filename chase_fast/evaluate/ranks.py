"""The ranks of a torchrun share the sequences and the folder of results; they only meet at the end."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from chase_fast.evaluate.running import Effort

PATIENCE = 30 * 24.0  # hours: ranks may finish far apart on a large benchmark


@contextmanager
def together(effort: Effort) -> Iterator[Callable[[], None]]:
    """Gives a function that waits for all ranks; without torchrun it does nothing."""
    if effort.world == 1:
        yield lambda: None
        return
    from chase_fast.distributed import shutdown, start

    ranks, _ = start("cpu")  # gloo, whatever the trackers run on
    try:
        yield lambda: ranks.barrier(PATIENCE)
    finally:
        shutdown()
