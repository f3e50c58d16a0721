"""How many threads of the CPU are used, with or without torch."""

import os
import sys


def cpu_threads() -> int:
    """Torch's setting where torch is loaded; else OMP_NUM_THREADS, else all processors of the process."""
    if (torch := sys.modules.get("torch")) is not None:
        return torch.get_num_threads()
    given = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    if given.isdecimal() and int(given) > 0:
        return int(given)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
