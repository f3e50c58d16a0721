"""A network made ready for tracking: batch norms folded, channels_last, no gradients, on one device."""

import copy

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_weights

from chase_fast.device import resolve_device
from chase_fast.errors import ChaseError
from chase_fast.kernels import target_filter
from chase_fast.nn.backbone import MEAN, STD, freeze
from chase_fast.nn.box_regressor import AtomIoUNet, Pair
from chase_fast.nn.inference import FastBackbone, FastBoxMaps, FastPlainNeck
from chase_fast.nn.neck import PlainNeck
from chase_fast.nn.tracker_net import TrackerNet
from chase_fast.track.refine import BoxHead


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

    Raises:
        ChaseError: the net has no box regressor, or there is no such device.
    """

    def __init__(self, net: TrackerNet, device: str | torch.device = "auto"):
        if net.bb_regressor is None:
            raise ChaseError("this network has no box regressor: a tracker needs one, train it with boxes")
        self.device = resolve_device(device)
        self._backbone = freeze(net.feature_extractor).to(self.device)
        self._neck = copy.deepcopy(net.neck).eval().requires_grad_(False).to(self.device)
        self.classifier = copy.deepcopy(net.classifier).eval().requires_grad_(False).to(self.device)
        self._boxes = fold(net.bb_regressor).to(self.device)
        self._box_maps = self._boxes.features
        self.head = BoxHead(self._boxes)
        if self.device.type == "cpu":
            self._backbone, self._box_maps = FastBackbone(self._backbone), FastBoxMaps(self._boxes)
            self._neck = FastPlainNeck(self._neck) if isinstance(self._neck, PlainNeck) else self._neck
        self.dtype = self.classifier.filter_initializer.filter_conv.weight.dtype
        self.filter_size = self.classifier.filter_initializer.filter_size
        scale = torch.tensor(STD, dtype=self.dtype, device=self.device).mul(255).reciprocal()
        self._scale = scale.view(3, 1, 1)
        self._shift = (
            torch.tensor(MEAN, dtype=self.dtype, device=self.device).view(3, 1, 1) * -255 * self._scale
        )

    def upload(self, values: np.ndarray) -> Tensor:
        """An array as a tensor of the network's type on its device."""
        return torch.from_numpy(values).to(self.device, self.dtype, non_blocking=True)

    def backbone(self, patches: Tensor) -> Pair:
        """Patches [B, size, size, 3], 0..255 -> layer2, layer3."""
        images = patches.permute(0, 3, 1, 2)  # channels_last as it is
        return self._backbone(torch.addcmul(self._shift, images, self._scale))

    def features(self, maps: Pair) -> Tensor:
        """Classification features [B, C, h, w], normalised."""
        return self.classifier.normalize(self._neck(*maps))

    def scores(self, features: Tensor, filters: Tensor) -> Tensor:
        """Features [K, C, h, w] and filters [K, C, k, k] of K targets -> score maps [K, S, S]."""
        return target_filter.apply(features.contiguous()[None], filters)[0]

    def modulation(self, maps: Pair, boxes: Tensor) -> Pair:
        """Target vectors of the box regressor, two [K, C, 1, 1]."""
        return self._boxes.modulation(*maps, boxes)

    def box_maps(self, maps: Pair) -> Pair:
        """What boxes are pooled from."""
        return self._box_maps(*maps)
