"""Search of a tracking cell: architecture gradients, derivation, and the loop with its early stop."""

CELL, BEST = "cell.json", "best.safetensors"  # the result in a run folder
# a resumed run may change these: they do not change the samples or the mathematics
FREE_ON_RESUME = {
    "workers",
    "device",
    "threads",
    "graphs",
    "patience",
    "backbone_chunk",
    "holdout_cache_mb",
    "checkpoint_minutes",
    "checkpoint_iterations",
}
