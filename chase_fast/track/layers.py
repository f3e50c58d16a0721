"""The frozen convolutions of a tracked frame, by torch with our kernels."""

import copy

import torch
from torch import Tensor, nn

from chase_fast.nn.backbone import MEAN, STD, freeze
from chase_fast.nn.box_regressor import AtomIoUNet, Pair
from chase_fast.nn.derived_cell import SepBlock
from chase_fast.nn.inference import FastBackbone, FastBoxMaps, FastPlainNeck
from chase_fast.nn.neck import DerivedNeck, PlainNeck
from chase_fast.nn.preprocess import ConvInput
from chase_fast.nn.tracker_net import TrackerNet


class Layers:
    """Patches [B, size, size, 3] of 0..255 -> what a frame is tracked with.

    Args:
        boxes: of `nn.inference.fold`, on the device.
        dtype: of the classification features.
        precision: with bf16 layers and box maps have 16 bits.
    """

    def __init__(
        self, net: TrackerNet, boxes: AtomIoUNet, device: torch.device, dtype: torch.dtype, precision: str
    ):
        neck = copy.deepcopy(net.neck).eval().requires_grad_(False).to(device)
        if device.type == "cuda":
            for block in (m for m in neck.modules() if isinstance(m, SepBlock)):
                weight = block.depthwise.data  # taps outermost, as the kernel reads it: else a copy per frame
                block.depthwise.data = weight.permute(1, 2, 0).contiguous().permute(2, 0, 1)
        self._bits16 = precision == "bf16"
        storage = torch.bfloat16 if self._bits16 else None
        backbone = freeze(net.feature_extractor).to(device, storage)
        boxes = copy.deepcopy(boxes).to(storage) if self._bits16 else boxes
        self._backbone, self._box_maps = FastBackbone(backbone), FastBoxMaps(boxes)
        self._neck: nn.Module
        if isinstance(neck, PlainNeck):
            self._neck = FastPlainNeck(neck.to(storage) if self._bits16 else neck)
        else:
            self._neck = _mixed(neck) if self._bits16 else neck
        self._normalize, self._dtype = net.classifier.normalize, dtype
        scale = torch.tensor(STD, dtype=dtype, device=device).mul(255).reciprocal()
        self._scale = scale.view(3, 1, 1)
        self._shift = torch.tensor(MEAN, dtype=dtype, device=device).view(3, 1, 1) * -255 * self._scale

    def first(self, patches: Tensor) -> tuple[Tensor, Pair]:
        """Features [B, C, h, w], normalised, and layer2 and layer3, for the first frame."""
        layers = self.backbone(patches)
        return self.features(layers), layers

    def frame(self, patches: Tensor) -> tuple[Tensor, Pair]:
        """Features, and the two maps that boxes are pooled from."""
        layers = self.backbone(patches)
        return self.features(layers), self.box_maps(layers)

    def backbone(self, patches: Tensor) -> Pair:
        """layer2, layer3."""
        images = patches.permute(0, 3, 1, 2)  # channels_last as it is
        images = torch.addcmul(self._shift, images, self._scale)
        return self._backbone(images.bfloat16() if self._bits16 else images)

    def features(self, layers: Pair) -> Tensor:
        """Classification features."""
        return self._normalize(self._neck(*layers).to(self._dtype))

    def box_maps(self, layers: Pair) -> Pair:
        """What boxes are pooled from."""
        return self._box_maps(*layers)


class _MixedNeck(nn.Module):
    """The neck of a cell: convolutions in front of the cell in bfloat16, the cell, which has small products
    and batch norms, in float32."""

    def __init__(self, neck: DerivedNeck):
        super().__init__()
        self.inputs = neck.preprocess.to(torch.bfloat16)
        self.cell = neck.cell

    def forward(self, layer2: Tensor, layer3: Tensor) -> Tensor:
        return self.cell(*(c(x).float() for c, x in zip(self.inputs, (layer2, layer3))))


class _Float(nn.Module):
    """A neck whose convolutions stand between batch norms: float32."""

    def __init__(self, neck: nn.Module):
        super().__init__()
        self.neck = neck

    def forward(self, layer2: Tensor, layer3: Tensor) -> Tensor:
        return self.neck(layer2.float(), layer3.float())


def _mixed(neck: nn.Module) -> nn.Module:
    if isinstance(neck, DerivedNeck) and all(isinstance(c, ConvInput) for c in neck.preprocess):
        return _MixedNeck(neck)
    return _Float(neck)
