"""The pass behind a convolution: Triton against plain torch, and in the network that a GPU runs."""

import pytest
import torch

from chase_fast.kernels.conv3x3 import epilogue as op
from chase_fast.kernels.conv3x3.epilogue import epilogue, reference
from chase_fast.nn.inference import Convolution
from tests.kernels.aot import check_fits, compile_in_subprocess
from tests.kernels.harness import LAYOUTS, device_of, poison, relayout, skip_unless
from tests.tolerances import KERNEL, assert_close

FAST = [b for b in op.CAN_RUN if b != "reference"]


def inputs(dtype, backend, shape=(2, 20, 5, 7), layout="contiguous"):
    rng = torch.Generator().manual_seed(0)
    made = (torch.randn(s, generator=rng, dtype=torch.float64) for s in (shape, shape[1:2], shape))
    return [relayout(t.to(device_of(backend), dtype), layout) for t in made]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("fast", FAST)
def test_backend_equals_reference(fast, dtype, relu, layout, monkeypatch):
    skip_unless(op.CAN_RUN, fast, dtype)
    y, bias, residual = inputs(dtype, fast, layout=layout)
    before = [t.clone() for t in (y, bias, residual)]
    for more in (residual, None):
        expected = reference(y.double(), bias.double(), None if more is None else more.double(), relu)
        with monkeypatch.context() as patch:
            poison(patch)
            got = epilogue(y, bias, more, relu, backend=fast)
        assert got.dtype == dtype and got.is_contiguous(memory_format=torch.channels_last)
        assert_close(got, expected, KERNEL[dtype])
    assert all(torch.equal(a, b) for a, b in zip(before, (y, bias, residual))), "inputs changed"


@pytest.mark.parametrize("fast", FAST)
def test_wide_maps_mixed_types_and_nan(fast):
    skip_unless(op.CAN_RUN, fast, torch.bfloat16)
    y, bias, residual = inputs(torch.float32, fast, (1, 300, 3, 4))
    y[0, 7, 1, 2] = float("nan")
    got = epilogue(y.bfloat16(), bias, residual.bfloat16(), True, backend=fast)
    assert got[0, 7, 1, 2].isnan() and got.isnan().sum() == 1
    expected = reference(y.bfloat16().double(), bias.double(), residual.bfloat16().double(), True)
    assert_close(got.nan_to_num(), expected.nan_to_num(), KERNEL[torch.bfloat16])
    assert epilogue(y[:0], bias, None, True, backend=fast).shape == (0, 300, 3, 4)


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
    y, bias, residual = inputs(torch.float32, "reference")
    with pytest.raises(ValueError, match="bias"):
        epilogue(y, bias[:3])
    with pytest.raises(ValueError, match="residual"):
        epilogue(y, bias, residual[:1])


def test_triton_compiles_for_sm_90():
    pytest.importorskip("triton")
    usage = compile_in_subprocess("tests.kernels.aot_conv3x3_epilogue", "compile_all")
    assert len(usage) == 4
    for kernel in usage.values():
        check_fits(kernel)
