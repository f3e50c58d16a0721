"""Training of a tracker network: cell, losses, optimiser and the loop with its checkpoints."""

RESULT, BEST = "result.json", "best.safetensors"
# a resumed run may change these: they do not change the samples or the mathematics
FREE_ON_RESUME = {"workers", "device", "threads", "graphs", "checkpoint_minutes", "checkpoint_iterations"}
