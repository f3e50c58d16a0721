"""conv3x3: backend against reference; gradients come from the reference."""

import pytest
import torch

from chase_fast.kernels import conv3x3 as folder
from chase_fast.kernels.conv3x3 import cases, conv3x3, reference, transform
from tests.kernels.harness import OpTests
from tests.tolerances import KERNEL, assert_close


class TestConv3x3(OpTests):
    op = staticmethod(conv3x3)
    reference = staticmethod(lambda x, weight, bias, transformed: reference.conv3x3(x, weight, bias))
    can_run = folder.CAN_RUN
    cases = cases

    def op_call(self, inputs, backend):
        return torch.ops.chase_fast.conv3x3, (*inputs.values(), backend)

    def smooth(self, inputs, backend):
        """The transformed weights follow the weights."""
        return conv3x3(**inputs | {"transformed": transform(inputs["weight"])}, backend=backend)

    def test_second_derivative_is_refused(self):
        """Not refused: the gradient is the reference's."""


def test_transforms_by_itself():
    inputs = cases.inputs(cases.TESTS[1])
    expected = reference.conv3x3(inputs["x"], inputs["weight"], inputs["bias"])
    got = conv3x3(inputs["x"], inputs["weight"], inputs["bias"], backend="cpu")
    assert_close(got, expected, KERNEL[torch.float32])


def test_does_not_depend_on_the_threads():
    inputs, threads = cases.inputs(cases.PAPER[2]), torch.get_num_threads()
    try:
        results = []
        for count in (1, 2):
            torch.set_num_threads(count)
            results.append(conv3x3(**inputs, backend="cpu"))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*results)


def test_bad_input():
    inputs = cases.inputs(cases.TESTS[0])
    with pytest.raises(ValueError, match="do not fit"):
        conv3x3(inputs["x"], inputs["weight"][:, :2], inputs["bias"])
    with pytest.raises(ValueError, match="transformed weights must be"):
        conv3x3(**inputs | {"transformed": inputs["transformed"][:35]})
