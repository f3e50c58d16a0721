"""A network made ready for tracking: batch norms folded, channels_last, no gradients, on one device.

With precision bf16 the convolutions of backbone, neck and box maps have weights and maps of 16 bits;
classification features are normalised, correlated and learned from in float32, boxes are pooled and refined
in float32.
"""

import contextlib
import copy
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_weights

from chase_fast.device import resolve_device
from chase_fast.errors import ChaseError
from chase_fast.kernels import target_filter
from chase_fast.nn.backbone import MEAN, STD, freeze
from chase_fast.nn.box_regressor import AtomIoUNet, Pair
from chase_fast.nn.derived_cell import SepBlock
from chase_fast.nn.inference import FastBackbone, FastBoxMaps, FastPlainNeck
from chase_fast.nn.neck import DerivedNeck, PlainNeck
from chase_fast.nn.preprocess import ConvInput
from chase_fast.nn.tracker_net import TrackerNet
from chase_fast.track.refine import BoxHead

PRECISIONS = ("fp32", "bf16")


def fold(regressor: AtomIoUNet) -> AtomIoUNet:
    """A copy with the evaluation statistics of every batch norm folded into the layer before it."""
    folded = copy.deepcopy(regressor).eval()
    for module in folded.modules():
        if isinstance(module, nn.Sequential) and isinstance(module[1], nn.BatchNorm2d):
            module[0], module[1] = fuse_conv_bn_eval(module[0], module[1]), nn.Identity()
        elif isinstance(getattr(module, "linear", None), nn.Linear):
            norm, linear = module.bn, module.linear
            statistics = norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
            linear.weight, linear.bias = fuse_linear_bn_weights(linear.weight, linear.bias, *statistics)
            module.bn = nn.Identity()
    return folded.requires_grad_(False).to(memory_format=torch.channels_last)


class Network:
    """The parts of a `TrackerNet` as the tracker calls them; the net itself is left as it is.

    Args:
        precision: fp32 or bf16, see the module text.

    Raises:
        ChaseError: the net has no box regressor, there is no such device or precision, or the device cannot
            compute with it.
    """

    def __init__(self, net: TrackerNet, device: str | torch.device = "auto", precision: str = "fp32"):
        if net.bb_regressor is None:
            raise ChaseError("this network has no box regressor: a tracker needs one, train it with boxes")
        self.device, self.precision = resolve_device(device), precision
        check_precision(precision, self.device)
        self._boxes = fold(net.bb_regressor).to(self.device)
        neck = copy.deepcopy(net.neck).eval().requires_grad_(False).to(self.device)
        if self.device.type == "cuda":
            for block in (m for m in neck.modules() if isinstance(m, SepBlock)):
                weight = block.depthwise.data  # taps outermost, as the kernel reads it: else a copy per frame
                block.depthwise.data = weight.permute(1, 2, 0).contiguous().permute(2, 0, 1)
        plain, bits16 = isinstance(neck, PlainNeck), precision == "bf16"
        storage = torch.bfloat16 if bits16 else None
        backbone = freeze(net.feature_extractor).to(self.device, storage)
        boxes = copy.deepcopy(self._boxes).to(storage) if bits16 else self._boxes
        self._backbone, self._box_maps = FastBackbone(backbone), FastBoxMaps(boxes)
        if plain:
            self._neck = FastPlainNeck(neck.to(storage) if bits16 else neck)
        else:
            self._neck = _mixed(neck) if bits16 else neck
        self.classifier = copy.deepcopy(net.classifier).eval().requires_grad_(False).to(self.device)
        self.head = BoxHead(self._boxes)
        self.dtype = self.classifier.filter_initializer.filter_conv.weight.dtype
        self.filter_size = self.classifier.filter_initializer.filter_size
        self.extra_logit: float | None = getattr(self.classifier.filter_optimizer, "softmax_reg", None)
        scale = torch.tensor(STD, dtype=self.dtype, device=self.device).mul(255).reciprocal()
        self._scale = scale.view(3, 1, 1)
        self._shift = (
            torch.tensor(MEAN, dtype=self.dtype, device=self.device).view(3, 1, 1) * -255 * self._scale
        )

    def upload(self, values: np.ndarray) -> Tensor:
        """An array as a tensor of the network's type on its device."""
        return torch.from_numpy(values).to(self.device, self.dtype, non_blocking=True)

    @contextlib.contextmanager
    def arithmetic(self) -> Iterator[None]:
        """On a GPU: its kernels are launched on this one, and float32 convolutions are float32 (TF32, torch's
        default there, keeps 10 bits)."""
        if self.device.type != "cuda":
            yield
            return
        exact = {"benchmark": False, "deterministic": True, "allow_tf32": False}
        with torch.cuda.device(self.device), torch.backends.cudnn.flags(enabled=True, **exact):
            yield

    def backbone(self, patches: Tensor) -> Pair:
        """Patches [B, size, size, 3], 0..255 -> layer2, layer3 (of 16 bits with bf16)."""
        images = patches.permute(0, 3, 1, 2)  # channels_last as it is
        images = torch.addcmul(self._shift, images, self._scale)
        return self._backbone(images.bfloat16() if self.precision == "bf16" else images)

    def features(self, maps: Pair) -> Tensor:
        """Classification features [B, C, h, w], normalised."""
        return self.classifier.normalize(self._neck(*maps).to(self.dtype))

    def scores(self, features: Tensor, filters: Tensor) -> Tensor:
        """Features [K, C, h, w] and filters [K, C, k, k] of K targets -> score maps [K, S, S]."""
        return target_filter.apply(features.contiguous()[None], filters)[0]

    def modulation(self, maps: Pair, boxes: Tensor) -> Pair:
        """Target vectors of the box regressor, two [K, C, 1, 1]."""
        return self._boxes.modulation(*(m.to(self.dtype) for m in maps), boxes)

    def box_maps(self, maps: Pair) -> Pair:
        """What boxes are pooled from (of 16 bits with bf16)."""
        return self._box_maps(*maps)

    def about(self, graphs: bool) -> str:
        """Device, precision and whether frames are CUDA graphs, in one line."""
        return describe(self.device, self.precision, graphs)


def describe(device: torch.device, precision: str, graphs: bool, threads: int | None = None) -> str:
    """What a tracker runs on; threads: of the CPU, torch's setting if None."""
    convolutions = "bf16 convolutions" if precision == "bf16" else precision
    if device.type == "cpu":
        threads = threads or torch.get_num_threads()
        return f"cpu, {threads} thread{'s' if threads > 1 else ''}, {convolutions}"
    name = f" {torch.cuda.get_device_name(device)}" if device.type == "cuda" else ""
    how = "one CUDA graph per frame" if graphs else "no CUDA graphs"
    return f"{device}{name}, {convolutions}, {how}"


def check_precision(precision: str, device: torch.device) -> None:
    """Raises ChaseError if there is no such precision or the device has none."""
    if precision not in PRECISIONS:
        raise ChaseError(f"--precision {precision} is unknown, choose from {', '.join(PRECISIONS)}")
    if precision == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported(False):
        name = torch.cuda.get_device_name(device)
        raise ChaseError(f"--precision bf16: {name} does not compute with bfloat16, use fp32")


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
    chase = isinstance(neck, DerivedNeck) and all(isinstance(c, ConvInput) for c in neck.preprocess)
    return _MixedNeck(neck) if chase else _Float(neck)
