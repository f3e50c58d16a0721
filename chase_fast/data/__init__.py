"""Video with boxes: datasets and synthetic video as sources, samples for search and training, batches.

sources = open_sources(["got10k:/data/GOT-10k:train", "synthetic*0.25"])
samples = SampleSet(sources, SampleRecipe(), seed=0, size=26000)
for batch in loader(samples, batch=10, epoch=1): ...
"""

from typing import TYPE_CHECKING

from chase_fast.lazy import front_door

if TYPE_CHECKING:
    from chase_fast.data.batches import Batch, loader
    from chase_fast.data.sampler import SampleRecipe, SampleSet
    from chase_fast.data.sources import Source, open_sources

__all__ = ["Batch", "SampleRecipe", "SampleSet", "Source", "loader", "open_sources"]
_HOMES = {
    "Batch": "batches",
    "SampleRecipe": "sampler",
    "SampleSet": "sampler",
    "Source": "sources",
    "loader": "batches",
    "open_sources": "sources",
}
front_door(__name__, {name: f"{__name__}.{file}" for name, file in _HOMES.items()})
