"""pooled_linear on the skeleton, and its table: kept, left, not there."""

import pytest
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from chase_fast.kernels._dispatch import native
from chase_fast.kernels.pooled_linear import CAN_RUN, PooledLinear, cases, reference, worthwhile
from tests.kernels.harness import OpTests, poison, skip_unless
from tests.tolerances import KERNEL, assert_close


class Node(torch.autograd.Function):
    """Values and gradient of a `PooledLinear` as a function of the boxes."""

    @staticmethod
    def forward(ctx, rois, layer):
        ctx.layer = layer
        ctx.save_for_backward(rois)
        return layer.values(rois)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        return ctx.layer.rois_gradient(*ctx.saved_tensors, grad), None


def pooled_linear(features: Tensor, weight: Tensor, rois: Tensor, scale: float, backend: str) -> Tensor:
    return Node.apply(rois, PooledLinear(features, weight, scale, backend))


class TestPooledLinear(OpTests):
    op = staticmethod(pooled_linear)
    reference = staticmethod(reference.pooled_linear)
    can_run = CAN_RUN
    cases = cases
    double_backward = False

    def test_opcheck(self):
        """Not here: a class, which keeps a table."""

    def test_second_derivative_is_refused(self):
        """Not here: no autograd."""

    def smooth(self, inputs, backend):
        """Only boxes with an area, in whose neighbourhood every box has one."""
        keep = [0, 1, 5]
        return pooled_linear(**(inputs | {"rois": inputs["rois"][keep]}), backend=backend)


def prepared(dtype=torch.float32, case=cases.TESTS[2]) -> tuple[PooledLinear, dict, Tensor]:
    """The cpu layer, its inputs, gradients of the values."""
    skip_unless(CAN_RUN, "cpu", dtype)
    inputs = cases.inputs(case, dtype=dtype)
    rng = torch.Generator().manual_seed(1)
    grad = torch.randn(len(cases.BOXES), case.outputs, generator=rng, dtype=torch.float64).to(dtype)
    return PooledLinear(inputs["features"], inputs["weight"], inputs["scale"], "cpu"), inputs, grad


def expected(inputs: dict, rois: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    rois = rois.double().requires_grad_()
    values = reference.pooled_linear(
        inputs["features"].double(), inputs["weight"].double(), rois, inputs["scale"]
    )
    return values.detach(), torch.autograd.grad(values, rois, grad.double())[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("case", cases.TESTS, ids=lambda c: c.name)
@pytest.mark.parametrize("threads", [1, 2])
def test_boxes_that_move(dtype, case, threads, monkeypatch):
    """By less than the margin, and out of the table."""
    layer, inputs, grad = prepared(dtype, case)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with monkeypatch.context() as patch:
            poison(patch)
            for shift in (0.0, 3.0, 25.0):
                rois = inputs["rois"].clone()
                rois[:, 1:] += shift
                got = layer.values(rois), layer.rois_gradient(rois, grad)
                for value, wanted in zip(got, expected(inputs, rois, grad)):
                    assert_close(value, wanted, KERNEL[dtype])
    finally:
        torch.set_num_threads(before)


def test_a_table_is_kept_while_boxes_stay_near():
    layer, inputs, _ = prepared()
    rois = inputs["rois"][:1]
    layer.values(rois)
    values = layer._table._values
    layer.values(rois + torch.tensor([0.0, 3.0, 3.0, 3.0, 3.0]))
    assert layer._table._values is values
    layer.values(rois + torch.tensor([0.0, 30.0, 30.0, 30.0, 30.0]))
    assert layer._table._values is not values


def test_nan_boxes_give_nan_and_do_not_disturb_others():
    layer, inputs, grad = prepared()
    rois = inputs["rois"].clone()
    rois[1, 3] = float("nan")
    values, gradient = layer.values(rois), layer.rois_gradient(rois, grad)
    assert values[1].isnan().all() and gradient[1, 1:].isnan().all()
    others = [0, 2, 3, 4, 5]
    for value, exact in zip((values, gradient), expected(inputs, inputs["rois"], grad)):
        assert_close(value[others], exact[others], KERNEL[torch.float32])


def test_nothing_but_empty_boxes():
    layer, inputs, grad = prepared()
    rois = inputs["rois"][2:5]
    assert not layer.values(rois).any() and not layer.rois_gradient(rois, grad[:3]).any()


def test_a_native_call_without_the_cells_it_needs_raises():
    layer, inputs, _ = prepared()
    table = layer._table._cover(inputs["rois"][:1])
    with pytest.raises(ValueError, match="not in the table"):
        native().cpu_pooled_linear(*table, inputs["rois"][1:2], 1 / 8, torch.empty(1, 33), 1)


@pytest.mark.parametrize(
    "change, text",
    [
        ({"features": torch.zeros(1, 20, 17, 19)}, "features must be"),
        ({"features": torch.zeros(20, 17, 19, dtype=torch.int32)}, "features must be"),
        ({"weight": torch.zeros(8, 20, 33)}, "weight must be"),
        ({"weight": torch.zeros(9, 19, 33)}, "weight must be"),
        ({"weight": torch.zeros(9, 20, 33, dtype=torch.float64)}, "weight must be"),
    ],
)
def test_wrong_input_is_named(change, text):
    inputs = cases.inputs(cases.TESTS[2])
    del inputs["rois"]
    with pytest.raises(ValueError, match=text):
        PooledLinear(**(inputs | change))


def test_the_reference_is_not_worth_a_table(monkeypatch):
    features = torch.zeros(1, 2, 2)
    assert worthwhile(features) == (CAN_RUN["cpu"](features.device, features.dtype) is None)
    assert not worthwhile(features.bfloat16())
    monkeypatch.setenv("CHASE_FAST_BACKEND", "pooled_linear=reference")
    assert not worthwhile(features)
