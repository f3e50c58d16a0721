"""Track with a public PrDiMP, DiMP or CHASE checkpoint.

python examples/public_checkpoint.py [prdimp50.pth.tar]

prdimp50.pth.tar, prdimp18.pth.tar, dimp50.pth and dimp18.pth are linked in the model zoo of pytracking
(Google Drive). They are read without running anything that they contain. Without an argument a checkpoint
of the same form with random weights is written and read.
"""

import sys
from pathlib import Path

import numpy as np

import chase_fast

OUT = Path("runs/example_public")


def random_public_checkpoint(path: Path) -> Path:
    """A PrDiMP-18 with random weights, under the public names."""
    import torch

    from chase_fast.published import to_pytracking_state

    spec = chase_fast.nn.TrackerSpec("prdimp", "resnet18", None)
    torch.save({"net": to_pytracking_state(spec.build(), spec)}, path)
    return path


if __name__ == "__main__":
    OUT.mkdir(parents=True, exist_ok=True)
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else random_public_checkpoint(OUT / "prdimp18.pth.tar")

    tracker = chase_fast.Tracker.load(file)  # the published online procedure: preset="published"

    rng = np.random.default_rng(0)
    background, target = (
        rng.integers(0, 256, (240, 320, 3), np.uint8),
        rng.integers(0, 256, (40, 40, 3), np.uint8),
    )
    for i in range(10):
        frame = background.copy()
        frame[80:120, 100 + 4 * i : 140 + 4 * i] = target
        if i == 0:
            tracker.init(frame, (100, 80, 40, 40))
        else:
            print(
                f"frame {i}: the target is at x = {100 + 4 * i}, found",
                *map(round, tracker.update(frame).box),
            )
