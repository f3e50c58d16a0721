"""`sep_conv` against its definition, and the definition against torch.nn modules."""

import pytest
import torch
from torch import nn

from chase_fast.kernels import sep_conv as package
from chase_fast.kernels._dispatch import native, view
from chase_fast.kernels.sep_conv import cases
from chase_fast.kernels.sep_conv.reference import sep_conv as reference
from tests.kernels.harness import OpTests, device_of, outgoing, poison, skip_unless
from tests.tolerances import KERNEL, assert_close

ORDER = ("x", "depthwise", "pointwise", "gamma", "beta", "mean", "var")


class TestSepConv(OpTests):
    op = staticmethod(package.sep_conv)
    reference = staticmethod(reference)
    can_run = package.CAN_RUN
    cases = cases
    interpreted = ("tiny", "tiny_darts", "tiny_eval", "tiny_stride")

    def op_call(self, inputs, backend):
        options = (inputs[k] for k in ("stride", "dilation", "flavour", "groups", "training"))
        return package._sep_conv, (*(inputs[k] for k in ORDER), *options, 1e-5, 0.01, True, backend)


BACKENDS = ("reference", "cpu", "triton")
BY_NAME = {case.name: case for case in cases.TESTS}


def prepared(backend, case, dtype=torch.float32, **changes):
    skip_unless(package.CAN_RUN, backend, dtype)
    return cases.inputs(BY_NAME[case], device_of(backend), dtype) | changes


def double(inputs):
    return {k: v.double() if isinstance(v, torch.Tensor) else v for k, v in inputs.items()}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", BY_NAME)
def test_without_gradient(backend, case, monkeypatch):
    """The path of inference: in eval mode batch norm is folded."""
    inputs = prepared(backend, case)
    expected = reference(**double(inputs))
    with torch.inference_mode(), monkeypatch.context() as patch:
        poison(patch)
        got = package.sep_conv(**inputs, backend=backend)
    for a, b in zip(got, expected):
        assert_close(a, b, KERNEL[torch.float32])
    assert got[0].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", ("tiny_darts", "odd_eval"))
@pytest.mark.parametrize("name", cases.DIFFERENTIABLE)
def test_one_wanted_gradient(backend, case, name, monkeypatch):
    def gradient(inputs, **forced):
        leaf = inputs[name].requires_grad_()
        y = package.sep_conv(**inputs, **forced)[0]
        return torch.autograd.grad(y, leaf, outgoing([y], "contiguous")[0])[0]

    expected = gradient(double(prepared(backend, case)), backend="reference")
    with monkeypatch.context() as patch:
        poison(patch)
        got = gradient(prepared(backend, case), backend=backend)
    assert_close(got, expected, KERNEL[torch.float32])


@pytest.mark.parametrize("kernel", (1, 3, 5, 7))
@pytest.mark.parametrize("stride", (1, 2, 3))
def test_kernels_and_strides(kernel, stride):
    """Sizes that the cell does not use, maps smaller than a kernel, and a mean far from zero."""
    case = cases.Case("other", 2, 19, 3, 8, kernel, 2, stride, 7, "darts", training=False)
    inputs = prepared("cpu", "tiny") | cases.inputs(case)
    inputs["x"] = inputs["x"] + 3
    leaves = [inputs[name].requires_grad_() for name in cases.DIFFERENTIABLE]
    wide = double({k: v.detach() if isinstance(v, torch.Tensor) else v for k, v in inputs.items()})
    exact = [wide[name].requires_grad_() for name in cases.DIFFERENTIABLE]
    got, expected = package.sep_conv(**inputs, backend="cpu")[0], reference(**wide)[0]
    assert_close(got, expected, KERNEL[torch.float32], "y")
    pairs = zip(
        cases.DIFFERENTIABLE,
        torch.autograd.grad(got, leaves, outgoing([got], "contiguous")[0]),
        torch.autograd.grad(expected, exact, outgoing([expected], "contiguous")[0]),
    )
    for name, a, b in pairs:
        assert_close(a, b, KERNEL[torch.float32], name)


@pytest.mark.parametrize(("n", "calls"), ((1, 0), (64, 1)))
def test_small_maps_with_gradient_take_the_reference(n, calls, monkeypatch):
    monkeypatch.delenv("CHASE_FAST_BACKEND", raising=False)
    inputs = prepared("cpu", "tiny") | cases.inputs(cases.Case("size", n, 64, 5, 6))
    inputs["x"].requires_grad_()
    seen = []
    op = package._sep_conv
    monkeypatch.setattr(package, "_sep_conv", lambda *a: seen.append(1) or op(*a))
    package.sep_conv(**inputs)[0].sum().backward()
    assert len(seen) == calls


def test_bits_do_not_depend_on_threads():
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            inputs = prepared("cpu", "odd") | cases.inputs(cases.Case("threads", 4, 80, 17, 19, 5, 2))
            x, weights = inputs["x"], inputs["depthwise"]
            grad_x, grad_weights, y = torch.empty_like(x), torch.empty_like(weights), torch.empty_like(x)
            options = (1, inputs["dilation"], 0.0)
            maps = [view(t) for t in (y, x, weights)]
            native().cpu_depthwise(*maps[1:], *options, maps[0], count)
            native().cpu_depthwise_backward(*maps, *options, view(grad_x), view(grad_weights), count)
            results.append((grad_x, grad_weights))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(*results))


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
        ({"gamma": torch.zeros(3)}, "batch norm tables"),
        ({"beta": torch.zeros(4, dtype=torch.float64)}, "float64"),
        ({"flavour": "vgg"}, "unknown flavour"),
        ({"groups": 3}, "3 groups"),
        ({"training": False, "mean": None}, "running mean"),
        ({"backend": "cuda"}, "not written yet"),
    ],
)
def test_wrong_input(change, text):
    inputs = cases.inputs(cases.TESTS[0]) | change
    with pytest.raises((ValueError, RuntimeError), match=text):
        package.sep_conv(**inputs)
