"""The data of a training: samples for the weights, and the fixed validation samples."""

import functools
from typing import Any

import torch

from chase_fast.data import SampleRecipe
from chase_fast.data.trained_on import record
from chase_fast.recipes import TrainConfig
from chase_fast.runs.data import RunData
from chase_fast.runs.progress import RunProgress

PROPOSALS = {"prdimp": 128, "dimp": 8}  # boxes per test frame [PrDiMP, DiMP]


class TrainData(RunData):
    """`RunData` of training and validation; for the box regressor samples have proposals."""

    def __init__(
        self,
        config: TrainConfig,
        progress: RunProgress,
        part: tuple[int, int] = (0, 1),
        device: torch.device | None = None,
    ):
        recipe = SampleRecipe(
            config.train_frames,
            config.test_frames,
            max_gap=config.max_gap,
            size=config.image_size,
            proposals=config.classifier,
            proposal_count=PROPOSALS[config.classifier],
        )
        super().__init__(config, ("train", "val"), recipe, progress, part, device)

    @functools.cached_property
    def record(self) -> list[dict[str, Any]]:
        """The names of all sequences, for best.safetensors; see `data.trained_on`."""
        return [record(*named) for named in self.sources]
