"""Rebuilt modules for inference against the modules they replace."""

import pytest
import torch
from torch import nn

from chase_fast.nn.backbone import freeze
from chase_fast.nn.box_regressor import AtomIoUNet
from chase_fast.nn.inference import Convolution, FastBackbone, FastBoxMaps, FastPlainNeck, fold
from chase_fast.nn.neck import PlainNeck
from chase_fast.nn.tracker_net import build_tracker
from tests.tolerances import KERNEL, assert_close

CLOSE = 10 * KERNEL[torch.float32]  # of a whole network in float32


def normal(*shape: int) -> torch.Tensor:
    values = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    return values.contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("kernel, stride, padding", [(1, 1, 0), (1, 2, 0), (3, 1, 1), (3, 2, 1), (7, 2, 3)])
@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize("relu", [False, True])
@torch.no_grad()
def test_convolution(kernel, stride, padding, images, relu):
    conv = nn.Conv2d(12, 20, kernel, stride, padding)
    x = normal(images, 12, 18, 22)
    y = conv(x)
    residual = normal(*y.shape)
    kept = x.clone(), residual.clone()
    convolution = Convolution(conv, relu)
    for got, wanted in ((convolution(x), y), (convolution(x, residual), y + residual)):
        assert_close(got, wanted.relu() if relu else wanted, KERNEL[torch.float32])
    assert torch.equal(x, kept[0]) and torch.equal(residual, kept[1])
    double = Convolution(conv.double(), relu)(x.double(), residual.double())
    wanted = conv(x.double()) + residual.double()
    assert_close(double, wanted.relu() if relu else wanted, KERNEL[torch.float64])


@pytest.mark.parametrize("kernel", [1, 3])
@torch.no_grad()
def test_nan_survives_the_relu(kernel):
    """A damaged network must not look like a sound one."""
    conv = nn.Conv2d(12, 20, kernel, padding=kernel // 2)
    conv.weight.fill_(torch.nan)
    x = normal(1, 12, 18, 22)
    assert Convolution(conv, relu=True)(x).isnan().all()


@pytest.mark.parametrize("depth", [18, 50])
@torch.no_grad()
def test_backbone_and_neck(depth):
    net = build_tracker(depth=depth, backbone_weights="random").eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    images = normal(2, 3, 96, 80)
    frozen = freeze(net.feature_extractor)
    expected = frozen(images)
    for got, wanted in zip(FastBackbone(frozen)(images), expected):
        assert_close(got, wanted, CLOSE)
    assert isinstance(net.neck, PlainNeck)
    before = {k: v.clone() for k, v in net.neck.state_dict().items()}
    assert_close(FastPlainNeck(net.neck)(*expected), net.neck(*expected), CLOSE)
    assert all(torch.equal(v, before[k]) for k, v in net.neck.state_dict().items())


@torch.no_grad()
def test_box_maps():
    folded = fold(AtomIoUNet((12, 20)).eval())
    maps = normal(2, 12, 18, 22), normal(2, 20, 9, 11)
    for got, wanted in zip(FastBoxMaps(folded)(*maps), folded.features(*maps)):
        assert_close(got, wanted, CLOSE)
