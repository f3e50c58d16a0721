"""Folded networks rebuilt from convolutions that do their sum and activation in one call; for inference.

The modules keep no gradients and no BatchNorm: give them what `freeze` and `fold` return. Results equal those
of the modules they replace up to rounding (`kernels.conv3x3`).
"""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_weights

from chase_fast.kernels.conv3x3 import CAN_RUN, conv3x3, pack
from chase_fast.kernels.conv_epilogue import conv_epilogue

from .backbone import Backbone
from .box_regressor import AtomIoUNet, LinearNorm
from .containers import ModuleList
from .neck import PlainNeck


class Convolution(nn.Module):
    """y = f(conv(x) + residual), f = ReLU or nothing, with the weights of a convolution.

    3x3 ones of stride 1 and padding 1 go through `conv3x3`; all others are torch's with the rest in place, or
    on a GPU in one pass (`conv_epilogue`).
    """

    weight: Tensor
    bias: Tensor
    packed: Tensor | None

    def __init__(self, conv: nn.Conv2d, relu: bool = False):
        super().__init__()
        self.relu = relu
        self.stride, self.padding, self.dilation, self.groups = (
            conv.stride,
            conv.padding,
            conv.dilation,
            conv.groups,
        )
        weight = conv.weight.detach()
        bias = weight.new_zeros(weight.shape[0]) if conv.bias is None else conv.bias.detach()
        self.register_buffer("weight", weight.contiguous(memory_format=torch.channels_last))
        self.register_buffer("bias", bias)
        packs = _is_plain3x3(conv) and CAN_RUN["cpu"](weight.device, weight.dtype) is None
        self.register_buffer("packed", pack(weight) if packs else None)
        self._blocked: dict[tuple, Tensor] = {}  # the weight in oneDNN's layout

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        if type(x) is Tensor and x.is_cuda:
            y = F.conv2d(x, self.weight, None, self.stride, self.padding, self.dilation, self.groups)
            return conv_epilogue(y, self.bias, residual, self.relu)
        if self.packed is not None:
            return conv3x3(x, self.weight, self.bias, residual, self.relu, self.packed)
        if type(x) is Tensor and x.dtype == torch.float32 and x.device.type == "cpu" and _ONEDNN:
            return self._fused(x, residual)
        y = F.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)
        if residual is not None:
            y += residual
        return y.relu_() if self.relu else y

    def _fused(self, x: Tensor, residual: Tensor | None) -> Tensor:
        """By oneDNN, the sum in the same pass, the weight not laid out anew in every call. Its ReLU would
        turn NaN into 0, and a damaged network would go unnoticed: torch's keeps NaN."""
        geometry = list(self.padding), list(self.stride), list(self.dilation), self.groups
        ops = torch.ops.mkldnn
        key = (
            *x.shape,
            torch.get_num_threads(),
        )  # in the layout of another one it is laid out anew in every call
        if key not in self._blocked:
            while len(self._blocked) >= _LAYOUTS:
                del self._blocked[next(iter(self._blocked))]
            self._blocked[key] = ops._reorder_convolution_weight(self.weight, *geometry, list(x.shape))
        arguments = self._blocked[key], self.bias, *geometry
        if residual is None:
            y = ops._convolution_pointwise(x, *arguments, "none", [], "")
        else:
            y = ops._convolution_pointwise.binary(x, residual, *arguments, "add", 1.0, None, [], "")
        return y.relu_() if self.relu else y


_LAYOUTS = 3  # kept: the first frame, a frame, a batch of targets
_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_convolution_pointwise")


def _is_plain3x3(conv: nn.Conv2d) -> bool:
    shape = conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.groups
    return shape == ((3, 3), (1, 1), (1, 1), (1, 1), 1) and conv.padding_mode == "zeros"


class Residual(nn.Module):
    """Residual block: convolutions in a row with a ReLU each, the last one's after adding the shortcut."""

    def __init__(self, convolutions: list[nn.Conv2d], shortcut: nn.Conv2d | None):
        super().__init__()
        self.convolutions = ModuleList([Convolution(c, relu=True) for c in convolutions])
        self.shortcut = None if shortcut is None else Convolution(shortcut)

    def forward(self, x: Tensor) -> Tensor:
        *first, last = self.convolutions
        y = x
        for convolution in first:
            y = convolution(y)
        return last(y, x if self.shortcut is None else self.shortcut(x))


class FastBackbone(nn.Module):
    """conv1 to layer3 of a folded ResNet, see `backbone.freeze`: normalised images -> layer2, layer3."""

    layer1: nn.Module
    layer2: nn.Module
    layer3: nn.Module

    def __init__(self, frozen: Backbone):
        super().__init__()
        self.conv1, self.maxpool = Convolution(frozen.conv1, relu=True), frozen.maxpool
        for name in ("layer1", "layer2", "layer3"):
            blocks = [
                Residual(_convolutions(b), b.downsample and b.downsample[0]) for b in getattr(frozen, name)
            ]
            setattr(self, name, nn.Sequential(*blocks))
        self.requires_grad_(False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        layer2 = self.layer2(self.layer1(self.maxpool(self.conv1(images))))
        return layer2, self.layer3(layer2)


def _convolutions(block: nn.Module) -> list[nn.Conv2d]:
    """Those of the block itself, in order: conv1, conv2 and, in a bottleneck, conv3."""
    return [conv for conv in block.children() if isinstance(conv, nn.Conv2d)]


class FastPlainNeck(nn.Module):
    """The neck of PrDiMP and DiMP: layer2 (not read), layer3 -> features."""

    def __init__(self, neck: PlainNeck):
        super().__init__()
        *blocks, last = copy.deepcopy(neck).eval()
        for block in blocks:
            for conv, norm in (("conv1", "bn1"), ("conv2", "bn2")):
                setattr(block, conv, fuse_conv_bn_eval(getattr(block, conv), getattr(block, norm)))
        assert isinstance(last, nn.Conv2d)
        self.blocks = nn.Sequential(
            *(Residual(_convolutions(block), None) for block in blocks), Convolution(last)
        )
        self.requires_grad_(False)

    def forward(self, layer2: Tensor, layer3: Tensor) -> Tensor:
        return self.blocks(layer3)


def fold(regressor: AtomIoUNet) -> AtomIoUNet:
    """A copy with the evaluation statistics of every batch norm folded into the layer before it."""
    folded = copy.deepcopy(regressor).eval()
    for module in folded.modules():
        if isinstance(module, nn.Sequential):
            conv, norm = module[0], module[1]
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                module[0], module[1] = fuse_conv_bn_eval(conv, norm), nn.Identity()
        elif isinstance(module, LinearNorm) and isinstance(module.bn, nn.BatchNorm2d):
            linear, norm = module.linear, module.bn
            assert norm.running_mean is not None and norm.running_var is not None
            linear.weight, linear.bias = fuse_linear_bn_weights(
                linear.weight,
                linear.bias,
                norm.running_mean,
                norm.running_var,
                norm.eps,
                norm.weight,
                norm.bias,
            )
            module.bn = nn.Identity()
    return folded.requires_grad_(False).to(memory_format=torch.channels_last)


class FastBoxMaps(nn.Module):
    """What boxes are pooled from, `AtomIoUNet.features` of a folded regressor: layer2, layer3 -> two maps."""

    def __init__(self, folded: AtomIoUNet):
        super().__init__()
        pairs = (folded.conv3_1t, folded.conv3_2t), (folded.conv4_1t, folded.conv4_2t)
        self.low, self.high = (
            nn.Sequential(*(Convolution(c, relu=True) for block in pair for c in _convolutions(block)))
            for pair in pairs
        )
        self.requires_grad_(False)

    def forward(self, layer2: Tensor, layer3: Tensor) -> tuple[Tensor, Tensor]:
        return self.low(layer2), self.high(layer3)
