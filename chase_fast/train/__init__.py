"""Training of a tracker network: cell, losses, optimiser and the loop with its checkpoints."""

RESULT = "result.json"
