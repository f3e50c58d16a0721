"""`sep_conv` against its definition, and the definition against torch.nn modules."""

import pytest
import torch
from torch import nn

from chase_fast.kernels import sep_conv as package
from chase_fast.kernels._dispatch import native
from chase_fast.kernels.sep_conv import cases
from chase_fast.kernels.sep_conv.reference import sep_conv as reference
from tests.kernels.aot import check_fits, compile_in_subprocess
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


WANTED = [(backend, case) for backend in BACKENDS for case in ("tiny_darts", "odd_eval")]


@pytest.mark.parametrize(("backend", "case"), [pair for pair in WANTED if pair != ("triton", "odd_eval")])
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


def check_gradients(inputs, backend, tolerance=KERNEL[torch.float32]):
    """y, its statistics and all gradients against the reference in float64; returns the gradients."""
    leaves = [inputs[name].requires_grad_() for name in cases.DIFFERENTIABLE]
    wide = double({k: v.detach() if isinstance(v, torch.Tensor) else v for k, v in inputs.items()})
    exact = [wide[name].requires_grad_() for name in cases.DIFFERENTIABLE]
    got, expected = package.sep_conv(**inputs, backend=backend), reference(**wide)
    for name, a, b in zip(("y", "mean", "var"), got, expected):
        assert_close(a, b, tolerance, name)
    (grad,) = outgoing(got[:1], "contiguous")
    gradients = torch.autograd.grad(got[0], leaves, grad)
    for name, a, b in zip(
        cases.DIFFERENTIABLE, gradients, torch.autograd.grad(expected[0], exact, grad.double())
    ):
        assert_close(a, b, tolerance, name)
    return gradients


OTHER_SIZES = [("cpu", kernel, stride) for kernel in (1, 3, 5, 7) for stride in (1, 2, 3)]


@pytest.mark.parametrize(("backend", "kernel", "stride"), (*OTHER_SIZES, ("triton", 1, 3), ("triton", 7, 2)))
def test_kernels_and_strides(backend, kernel, stride):
    """Sizes that the cell does not use, maps smaller than a kernel, and a mean far from zero."""
    case = cases.Case("other", 2, 19, 3, 8, kernel, 2, stride, 7, "darts", training=False)
    skip_unless(package.CAN_RUN, backend, torch.float32)
    inputs = cases.inputs(case, device_of(backend))
    inputs["x"] = inputs["x"] + 3
    check_gradients(inputs, backend)


@pytest.mark.parametrize("backend", ("triton",))
def test_many_tiles(backend, monkeypatch):
    """Blocks smaller than the map: several tiles of rows (none straddles two groups) and of channels, several
    parts of the joined sums, both tiles of inference."""
    skip_unless(package.CAN_RUN, backend, torch.float32)
    from chase_fast.kernels.sep_conv import triton_impl

    sizes = dict.fromkeys(
        ("BLOCK_K", "BLOCK_N", "FRAME_K", "REDUCE_C", "DEPTHWISE_C", "WEIGHT_C", "JOIN_C"), 16
    )
    sizes |= {"BLOCK_M": 32, "REDUCE_M": 16, "DEPTHWISE_M": 16, "WEIGHT_M": 32, "JOIN_T": 2, "PROGRAMS": 8}
    for name, size in sizes.items():
        monkeypatch.setattr(triton_impl, name, size)
    inputs = cases.inputs(cases.Case("tiles", 4, 20, 5, 7, groups=2), device_of(backend))
    check_gradients(inputs, backend)
    inputs = {k: v.detach() if isinstance(v, torch.Tensor) else v for k, v in inputs.items()}
    for images in (4, 1):
        some = inputs | {"x": inputs["x"][:images], "training": False, "groups": 1}
        for a, b in zip(package.sep_conv(**some, backend=backend), reference(**double(some))):
            assert_close(a, b, KERNEL[torch.float32])


@pytest.mark.parametrize("backend", ("triton",))
@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16))
def test_tiles_of_the_paper(backend, dtype):
    """256 channels: other instructions of the GPU than those of the tiny cases."""
    skip_unless(package.CAN_RUN, backend, dtype)
    device = device_of(backend)
    if device.type != "cuda":
        pytest.skip("needs a GPU; the interpreter runs the tiny cases")
    inputs = cases.inputs(cases.Case("paper", 8, 256, 18, 18, 5, groups=2), device, dtype)
    # away from the kink of the leaky ReLU, where rounding decides on the derivative
    inputs["gamma"], inputs["beta"] = 0.1 * inputs["gamma"], inputs["beta"].sign() + inputs["beta"]
    check_gradients(inputs, backend, KERNEL[dtype])
    frame = cases.inputs(cases.Case("frame", 1, 256, 22, 22, 5, training=False), device, dtype)
    for a, b in zip(package.sep_conv(**frame, backend=backend), reference(**double(frame))):
        assert_close(a, b, KERNEL[dtype])


@pytest.mark.parametrize("backend", ("reference", "triton"))
@pytest.mark.parametrize("case", ("tiny", "tiny_eval", "tiny_stride"))
def test_bfloat16_maps(backend, case):
    """Weights, tables and their gradients are float32."""
    inputs = prepared(backend, case, torch.bfloat16)
    with torch.no_grad():
        y, mean, var = package.sep_conv(**inputs, backend=backend)
        expected = reference(**double(inputs))
    assert (y.dtype, mean.dtype, var.dtype) == (torch.bfloat16, torch.float32, torch.float32)
    for a, b in zip((y, mean, var), expected):
        assert_close(a, b, KERNEL[torch.bfloat16])
    gradients = check_gradients(inputs, backend, KERNEL[torch.bfloat16])
    assert [g.dtype for g in gradients] == [inputs[name].dtype for name in cases.DIFFERENTIABLE]


@pytest.mark.parametrize("backend", ("reference", "triton"))
def test_autocast_changes_nothing(backend):
    def run(enabled):
        inputs = prepared(backend, "tiny", torch.bfloat16)
        leaves = [inputs[name].requires_grad_() for name in cases.DIFFERENTIABLE]
        with torch.autocast(inputs["x"].device.type, torch.bfloat16, enabled=enabled):
            y = package.sep_conv(**inputs, backend=backend)[0]
        return y, *torch.autograd.grad(y, leaves, outgoing([y], "contiguous")[0])

    assert all(torch.equal(a, b) for a, b in zip(run(True), run(False)))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", ("tiny_eval", "odd_eval"))
def test_inference_equals_the_forward_of_a_gradient(backend, case):
    """Folded, in one kernel, or with everything kept for the backward: the same map and statistics, in new
    memory."""
    inputs = prepared(backend, case)
    folded = package.sep_conv(**inputs, backend=backend)
    inputs["x"].requires_grad_()
    kept = package.sep_conv(**inputs, backend=backend)
    for a, b in zip(folded, kept):
        assert not a.requires_grad
        assert_close(a, b, 1e-6)
    for statistic, given in zip(folded[1:], (inputs["mean"], inputs["var"])):
        assert statistic.data_ptr() != given.data_ptr()


@pytest.mark.parametrize("backend", BACKENDS)
def test_nan_reaches_the_map(backend):
    """Also through the ReLU in front."""
    inputs = prepared(backend, "tiny_stride", training=False)
    inputs["x"][0, 1, 2, 2] = float("nan")
    y = package.sep_conv(**inputs, backend=backend)[0]
    assert y[0, :, 1, 1].isnan().all() and not y[1].isnan().any()


@pytest.mark.parametrize("backend", ("triton",))
@pytest.mark.parametrize("training", (True, False))
def test_graph_replay(backend, training):
    """Captured in a CUDA graph, inference, forward and backward follow their inputs in replay."""
    inputs = prepared(backend, "tiny", training=training)
    if inputs["x"].device.type != "cuda":
        pytest.skip("CUDA graphs need a GPU")
    leaves = [inputs[name].requires_grad_() for name in cases.DIFFERENTIABLE]

    def step():
        with torch.no_grad():
            first = package.sep_conv(**inputs, backend=backend)
        y = package.sep_conv(**inputs, backend=backend)[0]
        return *first, *torch.autograd.grad(y.square().sum(), leaves)

    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        step()  # compiles the kernels
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    with torch.no_grad():
        inputs["x"].copy_(inputs["x"].flip(0) * 1.5)
        inputs["mean"].add_(1)
    graph.replay()
    for a, b in zip(captured, step()):
        assert torch.equal(a, b)


@pytest.mark.parametrize("side", (18, 22))
@pytest.mark.parametrize(("channels", "share"), ((256, 0.6), (512, 0.6), (1024, 1)))
def test_one_frame_fills_the_gpu(side, channels, share):
    """Programs of the inference kernel, as a share of the 132 multiprocessors of sm_90."""
    triton_impl = pytest.importorskip("chase_fast.kernels.sep_conv.triton_impl")
    x = torch.empty(1, channels, side, side)
    tile = triton_impl._inference_tile(x, side * side, channels)
    assert -(-side * side // tile["BM"]) * -(-channels // tile["BN"]) >= share * 132


def test_triton_compiles_for_sm_90():
    pytest.importorskip("triton")
    usage = compile_in_subprocess("tests.kernels.aot_sep_conv", "compile_all")
    assert len(usage) == 40
    for kernel in usage.values():
        check_fits(kernel)


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
            maps = (y, x, weights)
            native().cpu_depthwise(*maps[1:], *options, maps[0], count)
            native().cpu_depthwise_backward(*maps, *options, grad_x, grad_weights, count)
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
        ({"backend": "cuda"}, "there is no backend cuda"),
    ],
)
def test_wrong_input(change, text):
    inputs = cases.inputs(cases.TESTS[0]) | change
    with pytest.raises((ValueError, RuntimeError), match=text):
        package.sep_conv(**inputs)
