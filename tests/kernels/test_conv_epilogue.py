"""conv_epilogue on the skeleton (harness.py), mixed types, and in the network that a GPU runs."""

import pytest
import torch

from chase_fast.kernels.conv_epilogue import CAN_RUN, cases, conv_epilogue, reference
from chase_fast.nn.inference import Convolution
from tests.kernels.aot import check_fits, compile_in_subprocess
from tests.kernels.harness import OpTests, device_of, skip_unless
from tests.tolerances import KERNEL, assert_close

FAST = [b for b in CAN_RUN if b != "reference"]


class TestConvEpilogue(OpTests):
    op = staticmethod(conv_epilogue)
    reference = staticmethod(reference.conv_epilogue)
    can_run = CAN_RUN
    cases = cases
    dtypes = (torch.float32, torch.float64, torch.bfloat16)
    interpreted = ("tiny", "tiny_linear", "wide")

    def op_call(self, inputs, backend):
        return torch.ops.chase_fast.conv_epilogue.default, (*inputs.values(), backend)

    def test_second_derivative_is_refused(self):
        """Not here: backward recomputes through the reference, which is differentiable again."""


@pytest.mark.parametrize("fast", FAST)
def test_without_residual_and_in_channels_last(fast):
    skip_unless(CAN_RUN, fast, torch.float32)
    inputs = cases.inputs(cases.TESTS[0], device_of(fast)) | {"residual": None}
    got = conv_epilogue(**inputs, backend=fast)
    assert got.is_contiguous(memory_format=torch.channels_last)
    wide = {k: v.double() if isinstance(v, torch.Tensor) else v for k, v in inputs.items()}
    assert_close(got, reference.conv_epilogue(**wide), KERNEL[torch.float32])


@pytest.mark.parametrize("fast", FAST)
def test_wide_maps_mixed_types_and_nan(fast):
    skip_unless(CAN_RUN, fast, torch.bfloat16)
    y, bias, residual, _ = cases.inputs(cases.TESTS[3], device_of(fast)).values()
    y[0, 7, 1, 2] = float("nan")
    got = conv_epilogue(y.bfloat16(), bias, residual.bfloat16(), True, backend=fast)
    assert got.dtype == torch.bfloat16
    assert got[0, 7, 1, 2].isnan() and got.isnan().sum() == 1
    maps = y.bfloat16().double(), bias.double(), residual.bfloat16().double()
    expected = reference.conv_epilogue(*maps, True)
    assert_close(got.nan_to_num(), expected.nan_to_num(), KERNEL[torch.bfloat16])
    assert conv_epilogue(y[:0], bias, None, True, backend=fast).shape == (0, 300, 3, 4)


@pytest.mark.gpu
@pytest.mark.parametrize("kernel, stride", [(3, 1), (1, 2)])
def test_a_convolution_on_a_gpu(kernel, stride):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(16, 24, kernel, stride, kernel // 2)
    x, residual = torch.randn(2, 16, 8, 8), torch.randn(2, 24, 8 // stride, 8 // stride)
    block = Convolution(conv, relu=True)
    block.packed = None
    with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        expected = (conv.double()(x.double()) + residual).relu()
        got = block.cuda()(x.cuda(), residual.cuda())
    assert_close(got, expected, KERNEL[torch.float32])


def test_wrong_input_is_named():
    inputs = cases.inputs(cases.TESTS[0])
    for name in ("bias", "residual"):
        with pytest.raises(ValueError, match=name):
            conv_epilogue(**(inputs | {name: inputs[name][:1]}))


def test_triton_compiles_for_sm_90():
    pytest.importorskip("triton")
    usage = compile_in_subprocess("tests.kernels.aot_conv_epilogue", "compile_all")
    assert len(usage) == 4
    for kernel in usage.values():
        check_fits(kernel)
