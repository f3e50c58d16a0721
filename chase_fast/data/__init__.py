"""Video with boxes: datasets and synthetic video as sources, samples for search and training, batches.

sources = open_sources(["got10k:/data/GOT-10k:train", "synthetic*0.25"])
samples = SampleSet(sources, SampleRecipe(), seed=0, size=26000)
for batch in loader(samples, batch=10, epoch=1): ...
"""

from chase_fast.data.loader import Batch, loader
from chase_fast.data.sampler import SampleRecipe, SampleSet
from chase_fast.data.sources import KINDS, Source, open_sources

__all__ = ["KINDS", "Batch", "SampleRecipe", "SampleSet", "Source", "loader", "open_sources"]
