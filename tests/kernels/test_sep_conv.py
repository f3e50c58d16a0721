"""`sep_conv` against its definition, and the definition against torch.nn modules."""

import pytest
import torch
from torch import nn

from chase_fast.kernels import sep_conv as package
from chase_fast.kernels.sep_conv import cases
from chase_fast.kernels.sep_conv.reference import sep_conv as reference
from tests.kernels.harness import OpTests
from tests.tolerances import KERNEL, assert_close

ORDER = ("x", "depthwise", "pointwise", "gamma", "beta", "mean", "var")


class TestSepConv(OpTests):
    op = staticmethod(package.sep_conv)
    reference = staticmethod(reference)
    can_run = package.CAN_RUN
    cases = cases

    def op_call(self, inputs, backend):
        options = (inputs[k] for k in ("stride", "dilation", "flavour", "groups", "training"))
        return package._sep_conv, (*(inputs[k] for k in ORDER), *options, 1e-5, 0.01, True, backend)


@pytest.mark.parametrize("flavour", package.FLAVOURS)
@pytest.mark.parametrize("training", (True, False))
def test_equals_torch_modules(flavour, training):
    torch.manual_seed(0)
    layers = [nn.Conv2d(6, 6, 5, padding=4, dilation=2, groups=6, bias=False), nn.Conv2d(6, 6, 1, bias=False)]
    norm = nn.BatchNorm2d(6)
    modules = [nn.ReLU(), *layers, norm] if flavour == "darts" else [*layers, norm, nn.LeakyReLU(0.01)]
    module = nn.Sequential(*modules).double().train(training)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.running_mean)
    x = torch.randn(2, 6, 7, 10, dtype=torch.float64)
    dw, pw = layers[0].weight[:, 0], layers[1].weight[:, :, 0, 0]
    statistics = () if training else (norm.running_mean, norm.running_var)
    y, mean, var = package.sep_conv(
        x, dw, pw, norm.weight, norm.bias, *statistics, dilation=2, flavour=flavour, training=training
    )
    assert_close(y, module(x), KERNEL[torch.float64])
    assert mean.shape == var.shape == (1, 6)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"depthwise": torch.zeros(5, 3, 3)}, "depthwise"),
        ({"depthwise": torch.zeros(4, 2, 2)}, "odd size"),
        ({"pointwise": torch.zeros(4, 5)}, "pointwise"),
        ({"flavour": "vgg"}, "unknown flavour"),
        ({"groups": 3}, "3 groups"),
        ({"training": False, "mean": None}, "running mean"),
        ({"backend": "triton"}, "not written yet"),
    ],
)
def test_wrong_input(change, text):
    inputs = cases.inputs(cases.TESTS[0]) | change
    with pytest.raises((ValueError, RuntimeError), match=text):
        package.sep_conv(**inputs)
