"""The data of a training: samples for the weights, and the fixed validation samples."""

import functools
import itertools
import re
from collections.abc import Iterator
from typing import Any

from chase_fast.data import Batch, SampleRecipe, SampleSet, loader, open_sources
from chase_fast.data.trained_on import record
from chase_fast.progress import RunProgress, some
from chase_fast.recipes import TrainConfig
from chase_fast.runs import stream

ROLES = ("train", "val")
PROPOSALS = {"prdimp": 128, "dimp": 8}  # boxes per test frame [PrDiMP, DiMP]


class TrainData:
    """Opens the sources, says what they hold, and warns if training and validation share a sequence.

    Args:
        part: (rank, world): the share of every batch that this process reads.
        pin: images in page-locked memory, for training on a GPU.

    Raises:
        ChaseError: a source is unknown, missing, empty, broken or too short.
    """

    def __init__(
        self, config: TrainConfig, progress: RunProgress, part: tuple[int, int] = (0, 1), pin: bool = False
    ):
        self._config, self._part, self._pin = config, part, pin
        self._sets = {name: self._open(name) for name in ROLES}
        seen: dict[str, str] = {}
        for name, samples in self._sets.items():
            for source in samples.sources:
                progress.say(f"{name}: {source.summary()}")
                keys = source.keys()
                shared = [key for key in keys if seen.setdefault(key, name) != name]
                if shared:
                    progress.warn(
                        f"train and val share {some(shared, len(keys))}: the validation loss is not "
                        "independent, give --train and --val different sequences"
                    )

    def _open(self, name: str) -> SampleSet:
        config, val = self._config, name == "val"
        # a bare `synthetic` is another set for each role
        specs = [re.sub(r"^synthetic(?=\*|$)", f"synthetic:{name}", spec) for spec in getattr(config, name)]
        recipe = SampleRecipe(
            train_frames=config.train_frames,
            test_frames=config.test_frames,
            max_gap=config.max_gap,
            size=config.image_size,
            proposals=config.classifier,
            proposal_count=PROPOSALS[config.classifier],
        )
        return SampleSet(
            open_sources(specs, skip_bad=config.skip_bad),
            recipe,
            # seeds are compared by validation loss, so all of them see the same validation samples
            seed=stream(0 if val else config.seed, name),
            size=config.batch * (config.val_batches if val else config.iterations),
            augment=not val,
        )

    @functools.cached_property
    def record(self) -> list[dict[str, Any]]:
        """The names of all sequences, for best.safetensors; see `data.trained_on`."""
        return [record(name, s) for name, samples in self._sets.items() for s in samples.sources]

    @property
    def summary(self) -> list[str]:
        """One line per source."""
        return [f"{name}: {s.summary()}" for name, samples in self._sets.items() for s in samples.sources]

    def batches(self, name: str, epoch: int = 0, start: int = 0, whole: bool = False) -> Iterator[Batch]:
        """Batches of one epoch from batch `start` on, this process's part of them unless `whole`; those of
        `val` are the same in every epoch."""
        return iter(
            loader(
                self._sets[name],
                self._config.batch,
                epoch,
                start=start,
                workers=self._config.workers,
                fixed=name == "val",
                part=(0, 1) if whole else self._part,
                pin=self._pin,
            )
        )

    def calibration(self, whole: bool = False) -> Iterator[Batch]:
        """Training batches of epoch 0, which no step uses."""
        return itertools.islice(self.batches("train", 0, whole=whole), self._config.calibration_batches)
