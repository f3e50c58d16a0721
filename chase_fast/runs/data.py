"""The data of a run by their roles: for the weights, for alpha, for the evaluation."""

import itertools
import re
from collections.abc import Iterator
from typing import Any

import torch

from chase_fast.data import Batch, SampleRecipe, SampleSet, loader, open_sources
from chase_fast.data.overlap import overlaps
from chase_fast.runs.progress import RunProgress
from chase_fast.runs.seeds import stream


class RunData:
    """Opens the sources, says what they hold, and warns if two roles share a sequence.

    Args:
        config: of a run; the fields `roles` hold the sources.
        roles: the last one is that of the evaluation: its samples are the same in every epoch, for every
            seed, so that seeds can be compared by its loss, and as many as its `_batches` say.
        recipe: of a sample.
        part: (rank, world): the share of every batch that this process reads.
        device: where batches are used; for a GPU images lie in page-locked memory, so that copies overlap.

    Raises:
        ChaseError: a source is unknown, missing, empty, broken or too short.
    """

    def __init__(
        self,
        config: Any,
        roles: tuple[str, ...],
        recipe: SampleRecipe,
        progress: RunProgress,
        part: tuple[int, int] = (0, 1),
        device: torch.device | None = None,
    ):
        self._config, self._evaluation, self._recipe = config, roles[-1], recipe
        self._part, self._pin = part, device is not None and device.type == "cuda"
        self._sets = {name: self._open(name) for name in roles}
        self.sources = [(name, s) for name, samples in self._sets.items() for s in samples.sources]
        for sentence in self.summary:
            progress.say(sentence)
        for sentence in overlaps({name: samples.sources for name, samples in self._sets.items()}):
            progress.warn(sentence)

    def _open(self, name: str) -> SampleSet:
        config, fixed = self._config, name == self._evaluation
        # a bare `synthetic` is another set for each role
        specs = [re.sub(r"^synthetic(?=\*|$)", f"synthetic:{name}", spec) for spec in getattr(config, name)]
        return SampleSet(
            open_sources(specs, skip_bad=config.skip_bad),
            self._recipe,
            seed=stream(0 if fixed else config.seed, name),
            size=config.batch * (getattr(config, f"{name}_batches") if fixed else config.iterations),
            augment=not fixed,
        )

    @property
    def summary(self) -> list[str]:
        """One line per source."""
        return [f"{name}: {source.summary()}" for name, source in self.sources]

    def batches(self, name: str, epoch: int = 0, start: int = 0, whole: bool = False) -> Iterator[Batch]:
        """Batches of one epoch from batch `start` on, this process's part of them unless `whole`."""
        return iter(
            loader(
                self._sets[name],
                self._config.batch,
                epoch,
                start=start,
                workers=self._config.workers,
                fixed=name == self._evaluation,
                part=(0, 1) if whole else self._part,
                pin=self._pin,
            )
        )

    def calibration(self, whole: bool = False) -> Iterator[Batch]:
        """Training batches of epoch 0, which no step uses."""
        return itertools.islice(self.batches("train", 0, whole=whole), self._config.calibration_batches)
