"""The whole network (backbone, neck, classifier, box regressor); PrDiMP and DiMP with 18 and 50 layers."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import nn

from chase_fast.errors import ChaseError
from chase_fast.fields import Fields
from chase_fast.nn.backbone import CHANNELS, Backbone, build_backbone
from chase_fast.nn.box_regressor import AtomIoUNet
from chase_fast.nn.genotype import MOST_CHANNELS, Genotype
from chase_fast.nn.neck import DerivedNeck, PlainNeck
from chase_fast.nn.preprocess import FLAVOURS
from chase_fast.nn.seeded import seeded
from chase_fast.nn.target_classifier import TargetClassifier

_PUBLISHED_NECK, _NECK = "classifier.feature_extractor.", "neck."
_UNUSED = ("feature_extractor.layer4.", "feature_extractor.fc.")


class TrackerNet(nn.Module):
    """Backbone -> neck -> target classifier, and backbone -> box regressor.

    Args:
        feature_extractor: backbone with forward(images) -> (layer2, layer3).
        neck: forward(layer2, layer3, groups=1) -> classification features of stride 16.
        classifier: target classifier for the neck's channels.
        bb_regressor: box regressor on layer2 and layer3; None if only the classifier is needed.
    """

    def __init__(
        self,
        feature_extractor: Backbone,
        neck: nn.Module,
        classifier: TargetClassifier,
        bb_regressor: AtomIoUNet | None = None,
    ):
        super().__init__()
        self.feature_extractor = feature_extractor
        self.neck = neck
        self.classifier = classifier
        self.bb_regressor = bb_regressor

    def forward(
        self,
        train_images: torch.Tensor,
        test_images: torch.Tensor,
        train_boxes: torch.Tensor,
        test_proposals: torch.Tensor | None = None,
    ) -> tuple[list[torch.Tensor], torch.Tensor | None]:
        """Training pass; train and test frames are two passes, so BatchNorm keeps their statistics apart.

        Args:
            train_images, test_images: [n, s, 3, H, W] normalised.
            train_boxes: [n, s, 4] px; frame 0 gives the reference of the box regressor.
            test_proposals: [n, s, P, 4] px, or None to leave the box regressor out.

        Returns:
            scores: one map [n, s, H', W'] per filter iterate, the initial one first.
            box scores: [n, s, P] or None.
        """
        sequences = train_images.shape[1]
        train = self.feature_extractor(train_images.flatten(0, 1))
        test = self.feature_extractor(test_images.flatten(0, 1))
        train_features, test_features = (
            self.neck(*maps).unflatten(0, (-1, sequences)) for maps in (train, test)
        )
        scores = self.classifier(train_features, test_features, train_boxes)
        if test_proposals is None:
            return scores, None
        assert self.bb_regressor is not None, "proposals need a box regressor"
        reference = tuple(x[:sequences] for x in train)
        return scores, self.bb_regressor(reference, test, train_boxes[0], test_proposals)


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

    def build(self, backbone_weights: str | Path = "random", seed: int = 0) -> TrackerNet:
        """A new network, in train mode; `backbone_weights` as in `build_backbone`, `seed` of the rest."""
        backbone = build_backbone(self.backbone, backbone_weights, seed)
        neck: PlainNeck | DerivedNeck
        with seeded(seed):
            if self.cell is None:
                neck = PlainNeck(self.depth)
            else:
                neck = DerivedNeck(backbone.channels, self.cell, self.channels, self.flavour)
            classifier = TargetClassifier(
                neck.out_channels,
                self.classifier,
                feature_size=self.feature_size,
                iterations=self.filter_iterations,
            )
            return TrackerNet(backbone, neck, classifier, AtomIoUNet(backbone.channels))

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


def build_tracker(
    kind: str = "prdimp",
    depth: int = 50,
    backbone_weights: str | Path = "imagenet",
    seed: int = 0,
) -> TrackerNet:
    """PrDiMP or DiMP as published (without the unused layer4 and fc).

    Args:
        kind: prdimp or dimp.
        depth: 18 or 50 layers of the backbone.
        backbone_weights: imagenet, random or a file, see `build_backbone`.
        seed: of the random initialisation.
    """
    return TrackerSpec(kind, f"resnet{depth}").build(backbone_weights, seed)


def prdimp18(**options) -> TrackerNet:
    """PrDiMP-18; options: see `build_tracker`."""
    return build_tracker("prdimp", 18, **options)


def prdimp50(**options) -> TrackerNet:
    """PrDiMP-50; options: see `build_tracker`."""
    return build_tracker("prdimp", 50, **options)


def dimp18(**options) -> TrackerNet:
    """DiMP-18; options: see `build_tracker`."""
    return build_tracker("dimp", 18, **options)


def dimp50(**options) -> TrackerNet:
    """DiMP-50; options: see `build_tracker`."""
    return build_tracker("dimp", 50, **options)


def to_published(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """State dict of a plain net in the key names of the public checkpoints; layer4 and fc are not there."""
    return {_renamed(k, _NECK, _PUBLISHED_NECK): v for k, v in state.items()}


def from_published(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """State dict of a public checkpoint in our key names; the unused layer4 and fc are dropped."""
    return {_renamed(k, _PUBLISHED_NECK, _NECK): v for k, v in state.items() if not k.startswith(_UNUSED)}


def _renamed(key: str, old: str, new: str) -> str:
    return new + key.removeprefix(old) if key.startswith(old) else key
