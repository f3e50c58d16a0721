"""Parameters and multiply-accumulates of the networks against published sizes and formulas."""

import pytest
import torch

from chase_fast.errors import ChaseError
from chase_fast.nn.cost import BOXES, cost
from chase_fast.nn.genotype import CHASE, Genotype
from chase_fast.nn.neck import DerivedNeck
from chase_fast.nn.operations import register_operation
from chase_fast.nn.spec import TrackerSpec
from chase_fast.nn.tracker_net import TrackerNet, dimp18, prdimp18, prdimp50

PARTS = ["backbone", "neck", "classifier", "box", "total"]


@pytest.fixture(scope="module")
def net50():
    with torch.device("meta"):
        return prdimp50(backbone_weights="random")


def test_prdimp50_has_its_published_size_and_work(net50):
    """Giga-multiply-accumulates to the printed digits: backbone, classification convolution, box features."""
    found = cost(net50)
    assert list(found["parameters"]) == list(found["macs"]) == PARTS
    assert found["parameters"] == {
        "backbone": 8_543_296,
        "neck": 4_718_592,
        "classifier": 2_359_808 + 2,
        "box": 10_461_569,
        "total": 26_083_267,
    }
    macs = found["macs"]
    head = BOXES * ((6400 + 2304) * 256 + 512)
    assert round(macs["backbone"] / 1e9, 2) == 5.42 and round(macs["neck"] / 1e9, 2) == 1.53
    assert round((macs["box"] - head) / 1e9, 2) == 3.25 and round(head / 1e9, 3) == 0.022
    assert macs["classifier"] == 18 * 18 * 4 * 4 * 512
    assert macs["total"] == sum(macs[part] for part in PARTS[:-1])
    large = cost(net50, 352)["macs"]
    assert round(large["backbone"] / 1e9, 2) == 8.09 and round(large["neck"] / 1e9, 2) == 2.28
    assert round((large["box"] - head) / 1e9, 2) == 4.85


def test_the_18_layer_nets():
    """19,645,611 and 19,645,911 parameters with layer4 (8,393,728) and fc (513,000), which never run."""
    unused = 8_393_728 + 513_000
    assert cost(prdimp18(backbone_weights="random"))["parameters"]["total"] == 19_645_611 - unused
    assert cost(dimp18(backbone_weights="random"))["parameters"]["total"] == 19_645_911 - unused


def test_the_work_inside_a_searched_cell_is_counted(net50):
    """CHASE: two sep_conv, of two blocks, and one dil_conv; 354,048 parameters, 1.80 M with the inputs."""
    neck = DerivedNeck((512, 1024), CHASE)
    net = TrackerNet(net50.feature_extractor, neck, net50.classifier)
    found = cost(net)
    assert sum(p.numel() for p in neck.cell.parameters()) == 354_048
    assert round(found["parameters"]["neck"] / 1e6, 2) == 1.80
    c, pixels = 256, 18 * 18
    depthwise = c * (2 * 25 + 2 * 9 + 25)
    assert found["macs"]["neck"] == pixels * (5 * c * c + depthwise + 9 * 512 * c + 1024 * c)
    assert found["parameters"]["box"] == found["macs"]["box"] == 0


@pytest.mark.parametrize("flavour", ["chase", "darts"])
def test_any_cell(flavour):
    """Own operations, an empty node; the network is left alone."""
    register_operation("cost_test", lambda channels: torch.nn.Conv2d(channels, channels, 1, bias=False))
    cell = Genotype(((("cost_test", 0), ("max_pool_3x3", 1)), (("none", 1),)))
    net = TrackerSpec(backbone="resnet18", cell=cell, flavour=flavour, channels=8).build("random")
    before = {k: v.clone() for k, v in net.state_dict().items()}
    inputs = {"chase": 9 * 128 * 8 + 256 * 8, "darts": 128 * 8 + 256 * 8}[flavour]
    assert cost(net, 64)["macs"]["neck"] == 4 * 4 * (inputs + 8 * 8)
    assert net.training and all(torch.equal(before[k], v) for k, v in net.state_dict().items())


def test_image_size(net50):
    with pytest.raises(ChaseError, match="multiple of 16"):
        cost(net50, 300)
