"""Video with boxes: datasets and synthetic video as sources, samples for search and training, batches.

sources = open_sources(["got10k:/data/GOT-10k:train", "synthetic*0.25"])
samples = SampleSet(sources, SampleRecipe(), seed=0, size=26000)
for batch in loader(samples, batch=10, epoch=1): ...
"""

try:
    from chase_fast.data.loader import Batch, loader
    from chase_fast.data.sampler import SampleRecipe, SampleSet
    from chase_fast.data.sources import Source, open_sources
except ImportError as e:  # OpenCV's libraries: raised where data is used, so that commands can say what to do
    _why = e

    def __getattr__(name: str):
        raise _why


__all__ = ["Batch", "SampleRecipe", "SampleSet", "Source", "loader", "open_sources"]
