"""The three data sources of a search: train for the weights, val for alpha, hold-out for the early stop."""

from collections.abc import Iterator

import torch

from chase_fast.data import Batch, SampleRecipe
from chase_fast.recipes import SearchConfig


def samples(config: SearchConfig) -> SampleRecipe:
    """Crops as PrDiMP makes them."""
    return SampleRecipe(config.train_frames, config.test_frames, size=config.image_size)


def ahead(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """Batches on a CUDA device, copied while the batch before is in use; on a CPU the batches themselves."""
    return _copied(batches, device) if device.type == "cuda" else batches


def _copied(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    side = torch.cuda.Stream(device)
    before: Batch | None = None
    for batch in batches:
        with torch.cuda.stream(side):
            following = batch.to(device, non_blocking=True)
        if before is not None:
            yield before
        torch.cuda.current_stream(device).wait_stream(side)
        for t in vars(following).values():
            if t is not None:
                t.record_stream(torch.cuda.current_stream(device))
        before = following
    if before is not None:
        yield before
