"""skip_drop on the skeleton, and what dropout must do."""

import pytest
import torch

from chase_fast.kernels.skip_drop import CAN_RUN, cases, reference, skip_drop
from tests.kernels.aot import check_fits, compile_in_subprocess
from tests.kernels.harness import OpTests, device_of, interpreted, skip_unless
from tests.tolerances import KERNEL, assert_close

BACKENDS = tuple(CAN_RUN)
TINY = cases.TESTS[0]


class TestSkipDrop(OpTests):
    op = staticmethod(skip_drop)
    reference = staticmethod(reference.skip_drop)
    can_run = CAN_RUN
    cases = cases
    interpreted = ("tiny", "tiny_one", "odd")

    def op_call(self, inputs, backend):
        return torch.ops.chase_fast.skip_drop.default, (*inputs.values(), backend)

    def test_second_derivative_is_refused(self, small, fast):
        """The op is linear: its gradient depends on the outgoing one alone."""
        inputs = self.make(small, fast, torch.float32)
        ys = skip_drop(**inputs, backend=fast)
        outgoing = [torch.ones_like(y, requires_grad=True) for y in ys]
        (gradient,) = torch.autograd.grad(ys, [inputs["x"]], outgoing, create_graph=True)
        with pytest.raises(RuntimeError, match="second derivatives need backend='reference'"):
            gradient.square().sum().backward()


def prepared(backend, case=TINY, dtype=torch.float32):
    skip_unless(CAN_RUN, backend, dtype)
    return cases.inputs(case, device_of(backend), dtype)


@pytest.mark.parametrize("backend", BACKENDS)
def test_drops_and_scales(backend):
    x = prepared(backend)
    for y, k in zip(skip_drop(**x, backend=backend), x["keep"], strict=True):
        assert_close(y[k], x["x"][k] / 0.4, KERNEL[torch.float32], "kept")
        assert not y[~k].any() and y.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("backend", BACKENDS)
def test_bfloat16_is_rounded_once(backend):
    """Products are float32, and the gradient is the sum of float32 products."""
    x = prepared(backend, cases.TESTS[2], torch.bfloat16)
    x["scale"] = torch.full_like(x["scale"], 1 / 0.7)  # no bfloat16 number
    leaf = x["x"].requires_grad_()
    ys = skip_drop(**x, backend=backend)
    for y, k in zip(ys, x["keep"], strict=True):
        expected = leaf.detach().float() * k * (1 / 0.7)
        if interpreted(backend):  # the interpreter cuts digits off, hardware rounds
            assert_close(y, expected, KERNEL[torch.bfloat16], "map")
        else:
            assert torch.equal(y, expected.bfloat16())
    grads = [torch.randn_like(y) for y in ys]
    (got,) = torch.autograd.grad(ys, [leaf], grads)
    expected = sum(g.double() * k for g, k in zip(grads, x["keep"])) / 0.7
    assert_close(got, expected, KERNEL[torch.bfloat16], "gradient")


@pytest.mark.parametrize("backend", BACKENDS)
def test_edges_without_a_gradient(backend):
    """An edge that the loss does not see adds nothing; none at all gives no gradient."""
    x = prepared(backend)
    leaf = x["x"].requires_grad_()
    ys = skip_drop(**x, backend=backend)
    (got,) = torch.autograd.grad(ys[1].sum(), [leaf], retain_graph=True)
    assert_close(got, x["keep"][1] / 0.4, KERNEL[torch.float32], "gradient")
    other = torch.ones((), device=leaf.device, requires_grad=True)
    assert torch.autograd.grad(other * 2, [leaf], allow_unused=True) == (None,)


@pytest.mark.parametrize("backend", BACKENDS)
def test_nan_is_not_dropped(backend):
    """A damaged map goes on being noticed where the mask is 0, as with a product of tensors."""
    x = prepared(backend)
    x["x"][0, 0, 0, 0] = float("nan")
    assert all(y[0, 0, 0, 0].isnan() and y.isnan().sum() == 1 for y in skip_drop(**x, backend=backend))


@pytest.mark.parametrize(
    "change, text",
    [
        ({"x": torch.zeros(2, 8, 5)}, "x must be floating"),
        ({"keep": []}, "at least one"),
        ({"keep": [torch.zeros(2, 8, 5, 7)]}, "masks must be bool"),
        ({"keep": [torch.zeros(2, 8, 5, 6, dtype=torch.bool)]}, "masks must be bool"),
        ({"scale": torch.ones(())}, "scale must be float64"),
    ],
)
def test_wrong_input_is_named(change, text):
    with pytest.raises(ValueError, match=text):
        skip_drop(**(cases.inputs(TINY) | change))


def test_triton_compiles_for_sm_90():
    pytest.importorskip("triton")
    usage = compile_in_subprocess("tests.kernels.aot_skip_drop", "compile_all")
    assert len(usage) == 4
    for kernel in usage.values():
        check_fits(kernel)
