"""prroi_pool on every backend: the shared checks (harness.py), the golden arrays, and special boxes."""

import pytest
import torch

from chase_fast.kernels.prroi_pool import CAN_RUN, cases, prroi_pool, prroi_pool_rois_gradient, reference
from tests import golden
from tests.kernels.aot import check_fits, compile_in_subprocess
from tests.kernels.harness import OpTests, device_of, interpreted, skip_unless
from tests.tolerances import GOLDEN, KERNEL, assert_close

BACKENDS = ("reference", "cpu", "triton", "cuda")


class TestPrroiPool(OpTests):
    op = staticmethod(prroi_pool)
    reference = staticmethod(reference.prroi_pool)
    can_run = CAN_RUN
    cases = cases
    interpreted = ("tiny", "one_bin")

    def op_call(self, inputs, backend):
        rows, columns = inputs["output_size"]
        arguments = inputs["features"], inputs["rois"], rows, columns, inputs["scale"], backend
        return torch.ops.chase_fast.prroi_pool.default, arguments

    def smooth(self, inputs, backend):
        rois = inputs["rois"]
        whole = torch.cat([rois[:, :1].detach().round(), rois[:, 1:]], 1)  # the image index does not move
        return prroi_pool(**(inputs | {"rois": whole}), backend=backend)


def box_inputs(backend, boxes, dtype=torch.float32):
    """One 2-channel 6x7 image and boxes in feature cells."""
    skip_unless(CAN_RUN, backend, dtype)
    features = torch.randn(1, 2, 6, 7, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    rois = torch.tensor([[0.0, *box] for box in boxes], dtype=torch.float64)
    device = device_of(backend)
    return features.to(device, dtype).requires_grad_(), rois.to(device, dtype).requires_grad_()


GOLD = golden.load("prdimp/prroi_pool")


@pytest.mark.parametrize("case", sorted({name.split("_")[0] for name in GOLD}))
@pytest.mark.parametrize("backend", BACKENDS)
def test_golden(case, backend):
    """Values and both gradients of the published kernel (float64)."""
    skip_unless(CAN_RUN, backend, torch.float64)
    if interpreted(backend):
        pytest.skip(
            "triton: the interpreter takes minutes here; TestPrroiPool compares it with the reference"
        )
    arrays = {k.removeprefix(f"{case}_"): v for k, v in GOLD.items() if k.startswith(f"{case}_")}
    g = {k: torch.from_numpy(v).to(device_of(backend)) for k, v in arrays.items()}
    features, rois = g["features"].requires_grad_(), g["rois"].requires_grad_()
    size = int(g["pooled_h"]), int(g["pooled_w"])
    out = prroi_pool(features, rois, size, float(g["scale"]), backend=backend)
    out.backward(g["grad_out"])
    assert_close(out, g["out"], GOLDEN["forward"], "out")
    assert_close(features.grad, g["grad_features"], GOLDEN["gradient"], "features")
    assert_close(rois.grad, g["grad_rois"], GOLDEN["gradient"], "rois")


@pytest.mark.parametrize("backend", BACKENDS)
def test_box_without_area(backend):
    features, rois = box_inputs(backend, [(2, 2, 2, 4), (4, 4, 1, 1), (2, 5, 4, 1)])
    out = prroi_pool(features, rois, (1, 2), 1.0, backend=backend)
    out.sum().backward()
    assert not out.any() and not features.grad.any() and not rois.grad.any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_mean_of_whole_cells(backend):
    """A box that a bin covers exactly between grid lines averages the trapezoid rule's corner weights."""
    features, rois = box_inputs(backend, [(1, 2, 3, 4)])
    out = prroi_pool(features, rois, (1, 1), 1.0, backend=backend)
    weights = torch.tensor([0.25, 0.5, 0.25], dtype=features.dtype, device=features.device)
    expected = torch.einsum("cij,i,j->c", features[0, :, 2:5, 1:4], weights, weights)
    assert_close(out.flatten(), expected, 1e-6, "mean")


@pytest.mark.parametrize("backend", BACKENDS)
def test_nan_box_gives_nan_values(backend):
    features, rois = box_inputs(backend, [(1, 1, float("nan"), 3), (1, 1, 3, 3)])
    out = prroi_pool(features, rois, (2, 2), 1.0, backend=backend)
    assert out[0].isnan().all() and not out[1].isnan().any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_boxes(backend):
    features, _ = box_inputs(backend, [])
    rois = features.new_zeros(0, 5).requires_grad_()
    out = prroi_pool(features, rois, (2, 2), 1.0, backend=backend)
    assert out.shape == (0, 2, 2, 2)
    out.sum().backward()
    assert rois.grad.shape == (0, 5) and not features.grad.any()


@pytest.mark.parametrize("backend", ("reference", "cpu"))
def test_unknown_image_is_an_error(backend):
    features, rois = box_inputs(backend, [(1, 1, 3, 3)])
    with pytest.raises(IndexError):
        prroi_pool(
            features, torch.cat([torch.ones_like(rois[:, :1]), rois[:, 1:]], 1), (2, 2), 1.0, backend=backend
        )


def test_sixteen_bit_features_use_float32_boxes():
    features, rois = box_inputs("reference", [(0.5, 1.2, 4.1, 3.9)])
    half = prroi_pool(features.bfloat16(), rois, (2, 2), 1.0)
    assert half.dtype == torch.bfloat16
    assert_close(half, prroi_pool(features.bfloat16().float(), rois, (2, 2), 1.0), 2e-2, "bfloat16")


@pytest.mark.parametrize("fast", ["triton"])
def test_sixteen_bit_features_of_a_fast_backend(fast):
    """Forward and both gradients; sums in float32: only inputs and outputs are rounded."""
    skip_unless(CAN_RUN, fast, torch.bfloat16)
    inputs = cases.inputs(cases.TESTS[0], device_of(fast), torch.bfloat16)
    found = []
    for backend, dtype in ((fast, torch.bfloat16), ("reference", torch.float64)):
        boxes = torch.float32 if dtype == torch.bfloat16 else dtype
        features = inputs["features"].to(dtype).requires_grad_()
        rois = inputs["rois"].to(boxes).requires_grad_()
        out = prroi_pool(features, rois, inputs["output_size"], inputs["scale"], backend=backend)
        grad = torch.linspace(-1, 1, out.numel()).view(out.shape).bfloat16().to(out)
        found.append((out, *torch.autograd.grad(out, (features, rois), grad)))
    assert [t.dtype for t in found[0]] == [torch.bfloat16, torch.bfloat16, torch.float32]
    for got, wanted, name in zip(*found, ("out", "features", "rois")):
        assert_close(got, wanted, KERNEL[torch.bfloat16], name)


def test_threads_do_not_change_a_bit():
    inputs = cases.inputs(cases.TESTS[1])
    threads = torch.get_num_threads()
    outputs = []
    try:
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            features, rois = (
                inputs["features"].clone().requires_grad_(),
                inputs["rois"].clone().requires_grad_(),
            )
            out = prroi_pool(features, rois, inputs["output_size"], inputs["scale"], backend="cpu")
            outputs.append((out, *torch.autograd.grad(out.square().sum(), (features, rois))))
    finally:
        torch.set_num_threads(threads)
    for other in outputs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(outputs[0], other))


@pytest.mark.parametrize(
    "change, text",
    [
        ({"features": torch.zeros(3, 4, 5)}, "features must be"),
        ({"features": torch.zeros(1, 3, 4, 5, dtype=torch.int32)}, "features must be"),
        ({"rois": torch.zeros(2, 4)}, "rois must be"),
        ({"rois": torch.zeros(2, 5, dtype=torch.float64)}, "rois must be torch.float32"),
        ({"output_size": (0, 2)}, "must be positive"),
        ({"scale": -1.0}, "must be positive"),
    ],
)
def test_wrong_input_is_named(change, text):
    good = {
        "features": torch.zeros(1, 3, 4, 5),
        "rois": torch.zeros(2, 5),
        "output_size": (2, 2),
        "scale": 1.0,
    }
    with pytest.raises(ValueError, match=text):
        prroi_pool(**(good | change))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", cases.TESTS, ids=lambda c: c.name)
def test_gradient_to_boxes_without_autograd(backend, case):
    """The same as autograd's through the float64 reference."""
    skip_unless(CAN_RUN, backend, torch.float64)
    if interpreted(backend) and case.name == "odd":
        pytest.skip("triton: the interpreter runs the smallest cases only")
    inputs = cases.inputs(case, device_of(backend), torch.float64)
    rois = inputs["rois"].clone().requires_grad_()
    expected_out = reference.prroi_pool(**(inputs | {"rois": rois}))
    grad = torch.randn(expected_out.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (expected,) = torch.autograd.grad(expected_out, rois, grad.to(expected_out.device))
    arguments = inputs["features"], inputs["rois"], expected_out.detach(), inputs["scale"]
    got = prroi_pool_rois_gradient(grad.to(expected_out.device), *arguments, backend=backend)
    assert_close(got, expected, KERNEL[torch.float64])
    with pytest.raises(ValueError, match="grad"):
        prroi_pool_rois_gradient(grad[:, :1], *arguments, backend=backend)


def test_triton_compiles_for_sm_90():
    pytest.importorskip("triton")
    usage = compile_in_subprocess("tests.kernels.aot_prroi_pool", "compile_all")
    assert len(usage) == 9
    for kernel in usage.values():
        check_fits(kernel)
