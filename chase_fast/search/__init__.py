"""Search of a tracking cell: architecture gradients, derivation, and the loop with its early stop."""

CELL, BEST = "cell.json", "best.safetensors"  # the result in a run folder
