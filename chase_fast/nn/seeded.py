"""torch's global random generator, lent to code that draws from it and given back as it was."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Within: the global generator of the CPU, and of a CUDA device, starts from `seed`; afterwards it is as
    before. `torch.manual_seed` would also reset the generators of every GPU."""
    cuda = [device] if device is not None and device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        torch.default_generator.manual_seed(seed)
        if cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
