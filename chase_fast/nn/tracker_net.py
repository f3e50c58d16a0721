"""The whole network (backbone, neck, classifier, box regressor); PrDiMP and DiMP with 18 and 50 layers."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from chase_fast.nn.backbone import Backbone, build_backbone
from chase_fast.nn.box_regressor import AtomIoUNet
from chase_fast.nn.neck import DerivedNeck, PlainNeck
from chase_fast.nn.seeded import seeded
from chase_fast.nn.spec import TrackerSpec
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


def build(spec: TrackerSpec, backbone_weights: str | Path, seed: int) -> TrackerNet:
    """See `TrackerSpec.build`."""
    backbone = build_backbone(spec.backbone, backbone_weights, seed)
    neck: PlainNeck | DerivedNeck
    with seeded(seed):
        if spec.cell is None:
            neck = PlainNeck(spec.depth)
        else:
            neck = DerivedNeck(backbone.channels, spec.cell, spec.channels, spec.flavour)
        classifier = TargetClassifier(
            neck.out_channels,
            spec.classifier,
            feature_size=spec.feature_size,
            iterations=spec.filter_iterations,
        )
        return TrackerNet(backbone, neck, classifier, AtomIoUNet(backbone.channels))


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
