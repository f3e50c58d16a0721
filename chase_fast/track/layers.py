"""The frozen convolutions of a tracked frame: by torch with our kernels, or by another engine."""

import copy
import logging
import statistics
import time
from typing import Protocol

import torch
from torch import Tensor, nn

from chase_fast.engines.engine import Engine, installed, make_engine
from chase_fast.errors import ChaseError
from chase_fast.nn.backbone import MEAN, STD, freeze
from chase_fast.nn.box_regressor import AtomIoUNet, Pair
from chase_fast.nn.derived_cell import SepBlock
from chase_fast.nn.inference import FastBackbone, FastBoxMaps, FastPlainNeck
from chase_fast.nn.neck import DerivedNeck, PlainNeck
from chase_fast.nn.preprocess import ConvInput
from chase_fast.nn.tracker_net import TrackerNet

log = logging.getLogger("chase_fast")
LIMIT = {"fp32": 1e-4, "bf16": 0.05}  # of the relative difference of features between engines


class Layers(Protocol):
    """Patches [B, size, size, 3] of 0..255 -> what a frame is tracked with. Features are [B, C, h, w],
    normalised, of the network's type."""

    about: str

    def first(self, patches: Tensor) -> tuple[Tensor, Pair]:
        """Features, and layer2 and layer3, for the first frame."""

    def frame(self, patches: Tensor) -> tuple[Tensor, Pair]:
        """Features, and the two maps that boxes are pooled from; the next call may overwrite them."""


def make_layers(
    engine: str | Engine,
    net: TrackerNet,
    boxes: AtomIoUNet,
    size: int,
    device: torch.device,
    dtype: torch.dtype,
    precision: str,
) -> Layers:
    """The layers of a network by the engine of this name, or by a made one.

    Args:
        engine: torch, openvino, onnxruntime; auto: the fastest of those installed on a CPU, torch on a GPU.
        boxes: of `nn.inference.fold`, on the device.
        size: of the patches, in pixels.
        dtype: of the classification features.

    Raises:
        ChaseError: unknown engine, a missing package, no such precision, an engine for the CPU on a GPU.
    """
    if not isinstance(engine, str):
        return EngineLayers(engine)
    on_gpu = device.type != "cpu"
    if engine == "torch" or (engine == "auto" and on_gpu):
        return TorchLayers(net, boxes, device, dtype, precision)
    if on_gpu:
        raise ChaseError(f"--engine {engine} runs on a CPU: add --device cpu")
    if engine != "auto":
        return EngineLayers(make_engine(engine, net, size, precision))
    return _fastest(net, size, precision, TorchLayers(net, boxes, device, dtype, precision))


@torch.no_grad()
def _fastest(net: TrackerNet, size: int, precision: str, ours: "TorchLayers") -> Layers:
    """The layers that take the least time for a frame on this processor; the figures are logged. An engine
    that computes other features is left aside."""
    patches = torch.randint(0, 256, (1, size, size, 3), generator=torch.Generator().manual_seed(0)).float()
    expected, _ = ours.frame(patches)
    known: dict[str, Layers] = {"torch": ours}
    for name in installed():
        try:
            layers = EngineLayers(make_engine(name, net, size, precision))
        except ChaseError as e:
            log.info("engine %s: %s", name, e)
            continue
        features, _ = layers.frame(patches)
        if torch.dist(features, expected) <= LIMIT[precision] * expected.norm():
            known[name] = layers
        else:
            log.warning("engine %s computes other features here and is left aside", name)
    times = {name: _milliseconds(layers, patches) for name, layers in known.items()}
    log.info("milliseconds of a frame: %s", ", ".join(f"{name} {t:.1f}" for name, t in times.items()))
    return known[min(times, key=times.__getitem__)]


def _milliseconds(layers: Layers, patches: Tensor, rounds: int = 5) -> float:
    """Median time of a frame, after one call that is not counted."""
    times = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        layers.frame(patches)
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times[1:])


class TorchLayers:
    """By torch and the kernels of this package; with bf16 layers and box maps have 16 bits. Arguments: see
    `make_layers`."""

    about = ""

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
        layers = self.backbone(patches)
        return self.features(layers), layers

    def frame(self, patches: Tensor) -> tuple[Tensor, Pair]:
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


class EngineLayers:
    """By another engine, on the CPU, in float32 at its borders."""

    def __init__(self, engine: Engine):
        self._engine, self.about = engine, engine.about

    def first(self, patches: Tensor) -> tuple[Tensor, Pair]:
        features, _, _, layer2, layer3 = (t.clone() for t in self._engine.run(patches))
        return features, (_nchw(layer2), _nchw(layer3))

    def frame(self, patches: Tensor) -> tuple[Tensor, Pair]:
        features, low, high = self._engine.run(patches, 3)
        return features, (_nchw(low), _nchw(high))


def _nchw(x: Tensor) -> Tensor:
    return x.permute(0, 3, 1, 2)  # in channels_last memory


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
