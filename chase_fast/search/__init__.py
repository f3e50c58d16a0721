"""Search of a tracking cell: architecture gradients, derivation, and the loop with its early stop."""

CELL = "cell.json"  # the result in a run folder
