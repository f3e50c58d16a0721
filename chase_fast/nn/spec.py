"""What decides a tracker network, as data. Free of torch: command lines read it before they load anything."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chase_fast.errors import ChaseError
from chase_fast.fields import Fields, short
from chase_fast.nn.genotype import MOST_CHANNELS, Genotype

if TYPE_CHECKING:
    from chase_fast.nn.tracker_net import TrackerNet

CHANNELS = {"resnet18": (128, 256), "resnet50": (512, 1024)}  # of layer2, layer3
FLAVOURS = ("chase", "darts")


def check_flavour(flavour: object) -> None:
    if not isinstance(flavour, str) or flavour not in FLAVOURS:
        raise ChaseError(f"unknown cell flavour {short(flavour)}: choose {' or '.join(FLAVOURS)}")


@dataclass(frozen=True)
class TrackerSpec:
    """Everything that decides the architecture of a tracker network; the weights are apart.

    classifier: prdimp or dimp. backbone: resnet18 or resnet50.
    cell: the searched cell between backbone and classifier; None is the plain block of PrDiMP and DiMP.
    flavour, channels: of the cell (chase or darts; C, channels per node).
    feature_size: side of the training crops in feature cells of 16 px; the label's deviation is 0.05 of it.
    filter_iterations: solver iterations unrolled in training.

    Raises:
        ChaseError: an unknown classifier or backbone.
    """

    classifier: str = "prdimp"
    backbone: str = "resnet50"
    cell: Genotype | None = None
    flavour: str = "chase"
    channels: int = 256
    feature_size: int = 18
    filter_iterations: int = 5

    def __post_init__(self):
        if self.classifier not in ("prdimp", "dimp"):
            raise ChaseError(f"unknown classifier {self.classifier!r}, choose prdimp or dimp")
        if self.backbone not in CHANNELS:
            raise ChaseError(f"unknown backbone {self.backbone!r}, choose from {', '.join(CHANNELS)}")

    @property
    def depth(self) -> int:
        return int(self.backbone.removeprefix("resnet"))

    def build(self, backbone_weights: str | Path = "random", seed: int = 0) -> "TrackerNet":
        """A new network, in train mode; `backbone_weights` as in `build_backbone`, `seed` of the rest."""
        from chase_fast.nn.tracker_net import build

        return build(self, backbone_weights, seed)

    def to_data(self) -> dict[str, Any]:
        """Plain data for JSON."""
        data = {f.name: getattr(self, f.name) for f in fields(self)}
        return data | {"cell": None if self.cell is None else self.cell.to_data()}

    @classmethod
    def from_data(cls, data: Any) -> "TrackerSpec":
        """Inverse of `to_data`.

        Raises:
            ChaseError: `data` does not have that form.
        """
        names = {f.name for f in fields(cls)}
        if not isinstance(data, dict) or set(data) != names:
            raise ChaseError(f"a tracker is described by {', '.join(sorted(names))}, and nothing else")
        values = Fields(data, "tracker")
        return cls(
            classifier=values.text("classifier"),
            backbone=values.text("backbone"),
            cell=None if data["cell"] is None else Genotype.from_data(data["cell"]),
            flavour=values.choice("flavour", FLAVOURS),
            channels=values.integer("channels", 1, MOST_CHANNELS),
            feature_size=values.integer("feature_size", 2, 512),
            filter_iterations=values.integer("filter_iterations", 1, 4096),
        )
