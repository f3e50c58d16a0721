"""The three data sources of a search: train for the weights, val for alpha, hold-out for the early stop."""

import itertools
import re
from collections.abc import Iterator

import torch

from chase_fast.data import Batch, SampleRecipe, SampleSet, loader, open_sources
from chase_fast.progress import some
from chase_fast.recipes import SearchConfig
from chase_fast.runs import stream
from chase_fast.search.progress import SearchProgress

ROLES = ("train", "val", "holdout")


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


class SearchData:
    """Opens the sources, says what they hold, and warns if two roles share a sequence.

    Args:
        part: (rank, world): the share of every batch that this process reads.
        device: where batches are used; for a GPU images lie in page-locked memory, so that copies overlap.

    Raises:
        ChaseError: a source is unknown, missing, empty, broken or too short.
    """

    def __init__(
        self,
        config: SearchConfig,
        progress: SearchProgress,
        part: tuple[int, int] = (0, 1),
        device: torch.device | None = None,
    ):
        self._config, self._part, self._pin = config, part, device is not None and device.type == "cuda"
        self._sets = {name: self._open(name) for name in ROLES}
        seen: dict[str, str] = {}
        for name, samples in self._sets.items():
            for source in samples.sources:
                progress.say(f"{name}: {source.summary()}")
                keys = source.keys()
                shared = [key for key in keys if seen.setdefault(key, name) != name]
                if shared:
                    progress.warn(
                        f"{seen[shared[0]]} and {name} share {some(shared, len(keys))}: their losses are not "
                        "independent, "
                        "give --train, --val and --holdout different sequences"
                    )

    def _open(self, name: str) -> SampleSet:
        config, holdout = self._config, name == "holdout"
        # a bare `synthetic` is another set for each role
        specs = [re.sub(r"^synthetic(?=\*|$)", f"synthetic:{name}", spec) for spec in getattr(config, name)]
        recipe = SampleRecipe(
            train_frames=config.train_frames, test_frames=config.test_frames, size=config.image_size
        )
        return SampleSet(
            open_sources(specs, skip_bad=config.skip_bad),
            recipe,
            # seeds are compared by hold-out loss, so all of them see the same hold-out samples
            seed=stream(0 if holdout else config.seed, name),
            size=config.batch * (config.holdout_batches if holdout else config.iterations),
            augment=not holdout,
        )

    def batches(self, name: str, epoch: int, start: int = 0, whole: bool = False) -> Iterator[Batch]:
        """Batches of one epoch from batch `start` on, this process's part of them unless `whole`; those of
        `holdout` are the same in every epoch."""
        config = self._config
        return iter(
            loader(
                self._sets[name],
                config.batch,
                epoch,
                start=start,
                workers=config.workers,
                fixed=name == "holdout",
                part=(0, 1) if whole else self._part,
                pin=self._pin,
            )
        )

    def calibration(self, whole: bool = False) -> Iterator[Batch]:
        """Training batches of epoch 0, which no step uses."""
        return itertools.islice(self.batches("train", 0, whole=whole), self._config.calibration_batches)
