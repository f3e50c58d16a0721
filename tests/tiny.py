"""The smallest tracker: for what does not depend on how well it tracks."""

from pathlib import Path

from chase_fast.checkpoint import pack_tracker
from chase_fast.nn.genotype import CHASE
from chase_fast.nn.spec import TrackerSpec


def tiny_tracker(path: Path) -> Path:
    """Writes a random network that looks at 64 x 64 pixels."""
    spec = TrackerSpec("prdimp", "resnet18", CHASE, channels=16, feature_size=4)
    path.write_bytes(pack_tracker(spec.build(), spec, {}))
    return path
