"""What an engine computes: the convolutions of a frame, from pixels to what is correlated and pooled."""

import copy

import torch
from torch import Tensor, nn

from chase_fast.errors import ChaseError
from chase_fast.nn.backbone import MEAN, STD, freeze
from chase_fast.nn.box_regressor import AtomIoUNet
from chase_fast.nn.inference import fold
from chase_fast.nn.target_classifier import InstanceL2Norm
from chase_fast.nn.tracker_net import TrackerNet

STRIDE = 16  # px per cell of the classification features


class Frames(nn.Module):
    """Patches [B, size, size, 3], float32 of 0..255 -> classification features [B, C, h, w], normalised; the
    two maps that boxes are pooled from, channels last: [B, 2h, 2w, C], [B, h, w, C]; and the two that the
    modulation of the first frame is pooled from, likewise.

    A copy of the networks, batch norms folded; plain torch only, so that other engines can read it. No
    gradients.

    Args:
        size: of the patches, in pixels.

    Raises:
        ChaseError: the net has no box regressor.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, net: TrackerNet, size: int):
        super().__init__()
        if net.bb_regressor is None:
            raise ChaseError("this network has no box regressor: a tracker needs one, train it with boxes")
        self.backbone = freeze(net.feature_extractor)
        self.neck = copy.deepcopy(net.neck)
        self.boxes: AtomIoUNet = fold(net.bb_regressor)
        scale = torch.tensor(STD).mul(255).reciprocal().view(3, 1, 1)
        self.register_buffer("scale", scale)
        self.register_buffer("shift", torch.tensor(MEAN).view(3, 1, 1) * -255 * scale)
        norm = net.classifier.normalize
        if not isinstance(norm, InstanceL2Norm):
            raise ChaseError(f"engines know no normalisation of kind {type(norm).__name__}")
        channels = net.classifier.filter_initializer.filter_conv.in_channels
        count = channels * (size // STRIDE) ** 2
        self._norm, self._eps = norm.scale, norm.eps / count
        self.eval().requires_grad_(False)

    def forward(self, patches: Tensor) -> tuple[Tensor, ...]:
        images = patches.permute(0, 3, 1, 2) * self.scale + self.shift
        layer2, layer3 = self.backbone(images)
        reference = self.boxes.conv3_1r(layer2), self.boxes.conv4_1r(layer3)
        maps = (*self.boxes.features(layer2, layer3), *reference)
        features = self._normalise(self.neck(layer2, layer3))
        return (features, *(m.permute(0, 2, 3, 1) for m in maps))

    def _normalise(self, x: Tensor) -> Tensor:
        """`InstanceL2Norm`; the number of values is a constant, which no converter can get wrong."""
        mean = x.square().mean((1, 2, 3), keepdim=True)
        return x * (self._norm / (mean + self._eps).sqrt())
