"""The data of a training: samples for the weights, and the fixed validation samples."""

from chase_fast.data import SampleRecipe
from chase_fast.recipes import TrainConfig

PROPOSALS = {"prdimp": 128, "dimp": 8}  # boxes per test frame [PrDiMP, DiMP]


def samples(config: TrainConfig) -> SampleRecipe:
    """Crops with boxes near the target, which the box regressor learns from."""
    return SampleRecipe(
        config.train_frames,
        config.test_frames,
        max_gap=config.max_gap,
        size=config.image_size,
        proposals=config.classifier,
        proposal_count=PROPOSALS[config.classifier],
    )
