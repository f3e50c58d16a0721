"""conv3x3 on every backend: the shared checks (harness.py), packed weights, threads, wrong arguments."""

import pytest
import torch

from chase_fast.kernels.conv3x3 import CAN_RUN, cases, conv3x3, pack, reference
from tests.kernels.harness import OpTests, skip_unless
from tests.tolerances import KERNEL, assert_close


class TestConv3x3(OpTests):
    op = staticmethod(conv3x3)
    reference = staticmethod(reference.conv3x3)
    can_run = CAN_RUN
    cases = cases

    def op_call(self, inputs, backend):
        names = ("x", "weight", "bias", "residual", "relu")
        return torch.ops.chase_fast.conv3x3.default, (*(inputs[n] for n in names), None, backend)

    def test_second_derivative_is_refused(self):
        """Not here: backward recomputes through the reference, which is differentiable again."""


@pytest.mark.parametrize("case", cases.TESTS, ids=lambda c: c.name)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("threads", [1, 2])
def test_packed_weights_without_residual(case, dtype, threads):
    skip_unless(CAN_RUN, "cpu", dtype)
    inputs = cases.inputs(case, dtype=dtype) | {"residual": None}
    wide = {k: v.double() if isinstance(v, torch.Tensor) else v for k, v in inputs.items()}
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        got = conv3x3(**inputs, packed=pack(inputs["weight"]), backend="cpu")
    finally:
        torch.set_num_threads(before)
    assert_close(got, reference.conv3x3(**wide), KERNEL[dtype])


def test_many_blocks_of_tiles():
    skip_unless(CAN_RUN, "cpu", torch.float32)
    inputs = cases.inputs(cases.Case("many", 9, 64, 64, 40, 40, True))
    wide = {k: v.double() if isinstance(v, torch.Tensor) else v for k, v in inputs.items()}
    assert_close(conv3x3(**inputs, backend="cpu"), reference.conv3x3(**wide), KERNEL[torch.float32])


def test_nan_stays_and_reaches_its_tile_only():
    skip_unless(CAN_RUN, "cpu", torch.float32)
    inputs = cases.inputs(cases.Case("nan", 1, 4, 4, 16, 16, True))
    inputs["x"][0, 0, 1, 1] = float("nan")
    y = conv3x3(**inputs, backend="cpu")
    assert y[0, :, :3, :3].isnan().all() and not y[0, :, 8:, 8:].isnan().any()


@pytest.mark.parametrize(
    "change, text",
    [
        ({"x": torch.zeros(4, 5, 5)}, "x must be"),
        ({"weight": torch.zeros(3, 2, 3, 3)}, "weight"),
        ({"bias": torch.zeros(4)}, "bias"),
        ({"residual": torch.zeros(1, 3, 5, 4)}, "residual"),
        ({"packed": torch.zeros(16, 4, 3)}, "packed"),
        ({"bias": torch.zeros(3, dtype=torch.float64)}, "the type of x"),
    ],
)
def test_wrong_arguments(change, text):
    good = {"x": torch.zeros(1, 4, 5, 5), "weight": torch.zeros(3, 4, 3, 3), "bias": torch.zeros(3)}
    with pytest.raises(ValueError, match=text):
        conv3x3(**(good | change))


@pytest.mark.parametrize("outputs, inputs", [(1, 3), (32, 4), (33, 5)])
def test_packed_weights_are_panels_of_outputs(outputs, inputs):
    weight = torch.randn(outputs, inputs, 3, 3, generator=torch.Generator().manual_seed(0))
    packed = pack(weight)
    assert packed.shape == (-(-outputs // 32), 36, inputs, 32)
    flat = packed.permute(1, 2, 0, 3).reshape(36, inputs, -1)
    assert not flat[..., outputs:].any()
    torch.testing.assert_close(flat[35, :, :outputs], weight[:, :, 2, 2].T)  # the last point is the last tap


def test_bits_do_not_depend_on_threads_or_batch():
    skip_unless(CAN_RUN, "cpu", torch.float32)
    inputs = cases.inputs(cases.Case("bits", 3, 20, 40, 18, 26, True))
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(conv3x3(**inputs, backend="cpu"))
    finally:
        torch.set_num_threads(before)
    one = inputs | {"x": inputs["x"][2:], "residual": inputs["residual"][2:]}
    assert all(torch.equal(results[0], r) for r in results[1:])
    assert torch.equal(results[0][2:], conv3x3(**one, backend="cpu"))


def test_packed_weights_at_any_address():
    skip_unless(CAN_RUN, "cpu", torch.float32)
    inputs = cases.inputs(cases.TESTS[1])
    packed = pack(inputs["weight"])
    moved = torch.empty(packed.numel() + 1)[1:].view_as(packed).copy_(packed)
    assert torch.equal(
        conv3x3(**inputs, packed=moved, backend="cpu"), conv3x3(**inputs, packed=packed, backend="cpu")
    )


def test_no_images():
    skip_unless(CAN_RUN, "cpu", torch.float32)
    inputs = cases.inputs(cases.Case("none", 0, 4, 4, 8, 8, True))
    assert conv3x3(**inputs, backend="cpu").shape == (0, 4, 8, 8)
