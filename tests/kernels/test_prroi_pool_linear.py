"""PooledLinear against a matrix product on the reference's pooling, values and gradient to boxes."""

import pytest
import torch

from chase_fast.kernels.prroi_pool import linear, reference
from tests.kernels.harness import poison
from tests.tolerances import KERNEL, assert_close

BOXES = [
    [0.0, 10.0, 12.0, 90.0, 70.0],
    [0.0, -30.0, -20.0, 200.0, 160.0],  # overhangs on all sides
    [0.0, 40.0, 40.0, 40.0, 80.0],  # no area
    [0.0, 60.0, 20.0, 30.0, 80.0],  # inverted
    [0.0, 500.0, 500.0, 600.0, 620.0],  # outside
    [0.0, 33.3, 20.1, 39.0, 26.5],  # smaller than a cell
]


def skip_unless_built(dtype):
    if why := linear.CAN_RUN(torch.device("cpu"), dtype):
        pytest.skip(why)


def make(dtype, bins, channels=20, outputs=33):
    rng = torch.Generator().manual_seed(0)
    features = torch.randn(channels, 17, 19, generator=rng, dtype=torch.float64).to(dtype)
    weight = torch.randn(bins * bins, channels, outputs, generator=rng, dtype=torch.float64).to(dtype)
    grad = torch.randn(len(BOXES), outputs, generator=rng, dtype=torch.float64).to(dtype)
    return features, weight, grad


def expected(features, weight, boxes, grad, bins):
    rois = boxes.double().requires_grad_()
    pooled = reference.prroi_pool(features.double()[None], rois, (bins, bins), 1 / 8)
    values = torch.einsum("rcb,bcd->rd", pooled.flatten(2), weight.double())
    (gradient,) = torch.autograd.grad(values, rois, grad.double())
    return values.detach(), gradient


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("bins", [1, 3, 5])
@pytest.mark.parametrize("threads", [1, 2])
def test_values_and_gradient(dtype, bins, threads, monkeypatch):
    """Also after boxes moved: by less than the margin, and out of the table."""
    skip_unless_built(dtype)
    features, weight, grad = make(dtype, bins)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with monkeypatch.context() as patch:
            poison(patch)
            layer = linear.PooledLinear(features, weight, 1 / 8)
            for shift in (0.0, 3.0, 25.0):
                boxes = torch.tensor(BOXES, dtype=dtype)
                boxes[:, 1:] += shift
                got = layer.values(boxes), layer.rois_gradient(boxes, grad)
                for value, wanted in zip(got, expected(features, weight, boxes, grad, bins)):
                    assert_close(value, wanted, KERNEL[dtype])
    finally:
        torch.set_num_threads(before)


def test_a_table_is_kept_while_boxes_stay_near():
    skip_unless_built(torch.float32)
    features, weight, _ = make(torch.float32, 3)
    layer = linear.PooledLinear(features, weight, 1 / 8)
    boxes = torch.tensor(BOXES[:1])
    layer.values(boxes)
    table = layer._table
    layer.values(boxes + torch.tensor([0.0, 3.0, 3.0, 3.0, 3.0]))
    assert layer._table is table
    layer.values(boxes + torch.tensor([0.0, 30.0, 30.0, 30.0, 30.0]))
    assert layer._table is not table


def test_nan_boxes_give_nan_and_do_not_disturb_others():
    skip_unless_built(torch.float32)
    features, weight, grad = make(torch.float32, 3)
    boxes = torch.tensor(BOXES)
    boxes[1, 3] = float("nan")
    layer = linear.PooledLinear(features, weight, 1 / 8)
    values, gradient = layer.values(boxes), layer.rois_gradient(boxes, grad)
    assert values[1].isnan().all() and gradient[1, 1:].isnan().all()
    others = [0, 2, 3, 4, 5]
    wanted = expected(features, weight, torch.tensor(BOXES), grad, 3)
    for value, exact in zip((values, gradient), wanted):
        assert_close(value[others], exact[others], KERNEL[torch.float32])


def test_nothing_but_empty_boxes():
    skip_unless_built(torch.float32)
    features, weight, grad = make(torch.float32, 3)
    layer = linear.PooledLinear(features, weight, 1 / 8)
    boxes = torch.tensor(BOXES[2:5])
    assert not layer.values(boxes).any() and not layer.rois_gradient(boxes, grad[:3]).any()


def test_a_native_call_without_the_cells_it_needs_raises():
    skip_unless_built(torch.float32)
    features, weight, _ = make(torch.float32, 3)
    layer = linear.PooledLinear(features, weight, 1 / 8)
    layer.values(torch.tensor(BOXES[:1]))
    rois, out = torch.tensor(BOXES[1:2]), torch.empty(1, 33)
    with pytest.raises(ValueError, match="not in the table"):
        linear._dispatch.native().cpu_prroi_linear(layer._table, layer._ranges, rois, 1 / 8, out, 1)
