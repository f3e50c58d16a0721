"""node_sum on every backend: the shared checks (harness.py), and what is special about a node of the cell."""

import pytest
import torch

from chase_fast.kernels.node_sum import CAN_RUN, IDENTITY, NORM, NORM_LRELU, cases, node_sum, reference
from tests.kernels.aot import check_fits, compile_in_subprocess
from tests.kernels.harness import OpTests, device_of, each, skip_unless, tensors
from tests.tolerances import KERNEL, assert_close

BACKENDS = ("reference", "cpu", "triton", "cuda")
TINY = cases.TESTS[0]


class TestNodeSum(OpTests):
    op = staticmethod(node_sum)
    reference = staticmethod(reference.node_sum)
    can_run = CAN_RUN
    cases = cases
    interpreted = ("tiny", "tiny_eval", "identity_only")

    def op_call(self, inputs, backend):
        arguments = (*inputs.values(), 1e-5, 0.01, backend)
        return torch.ops.chase_fast.node_sum.default, arguments


def prepared(backend, case=TINY, dtype=torch.float32, **changes):
    skip_unless(CAN_RUN, backend, dtype)
    return cases.inputs(case, device_of(backend), dtype) | changes


def gradients(inputs, backend, of=("branches", "weights", "gamma", "beta")):
    """Gradients of the sum of squares of the node."""
    leaves = [t.requires_grad_() for name in of for t in tensors(inputs[name])]
    out = node_sum(**inputs, backend=backend)[0]
    return torch.autograd.grad(out.float().square().sum(), leaves)


@pytest.mark.parametrize("groups", (1, 2))
def test_agrees_with_batch_norm_modules(groups):
    """The reference against torch.nn.BatchNorm2d, also its running statistics."""
    case = cases.Case("modules", 4, 6, 5, 4, (NORM, NORM_LRELU, IDENTITY), groups=groups)
    x = cases.inputs(case, dtype=torch.float64)
    out, mean, var = node_sum(**x, backend="reference")
    expected = x["weights"][2] * x["branches"][2]
    count = 4 // groups * 5 * 4
    for b, activation in ((0, torch.nn.Identity()), (1, torch.nn.LeakyReLU(0.01))):
        for g in range(groups):
            images = slice(g * (4 // groups), (g + 1) * (4 // groups))
            norm = torch.nn.BatchNorm2d(6, momentum=1.0, dtype=torch.float64)
            norm.weight.data, norm.bias.data = x["gamma"][b], x["beta"][b]
            expected[images] += x["weights"][b] * activation(norm(x["branches"][b][images]))
            assert_close(mean[b, g], norm.running_mean, KERNEL[torch.float64], "mean")
            assert_close(var[b, g] * count / (count - 1), norm.running_var, KERNEL[torch.float64], "variance")
    assert_close(out, expected, KERNEL[torch.float64], "node")


@pytest.mark.parametrize("backend", BACKENDS)
def test_groups_are_separate_calls(backend):
    x = prepared(backend)
    out, mean, _ = node_sum(**x, backend=backend)
    half = TINY.n // 2
    for g, images in enumerate((slice(0, half), slice(half, None))):
        alone = x | {"branches": [y[images] for y in x["branches"]], "groups": 1}
        one, one_mean, _ = node_sum(**alone, backend=backend)
        assert_close(out[images], one, 1e-6, "node")
        assert_close(mean[:, g], one_mean[:, 0], 1e-6, "mean")


@pytest.mark.parametrize("backend", BACKENDS)
def test_mean_far_from_zero(backend):
    """|mean| = 1000 standard deviations: E[y^2] - E[y]^2 in float32 would lose the variance altogether."""
    x = prepared(backend)
    far = [1000 + (y - y.mean()) / y.std() for y in x["branches"]]
    exact = reference.node_sum(**doubled(x | {"branches": far}))
    got = node_sum(**(x | {"branches": far}), backend=backend)
    assert_close(got[2], exact[2], 1e-5, "variance")
    normed = [b for b, kind in enumerate(x["kinds"]) if kind != IDENTITY]
    assert_close(got[1][normed], exact[1][normed], 1e-6, "mean")


def doubled(inputs):
    """The tensors among the inputs in float64."""
    return {name: each(lambda t: t.detach().double(), value) for name, value in inputs.items()}


@pytest.mark.parametrize("backend", BACKENDS)
def test_zero_affine_takes_the_negative_slope(backend):
    """gamma = beta = 0 puts every z on the kink: the derivative there is the slope, as in torch."""
    x = prepared(backend)
    zero = {"gamma": torch.zeros_like(x["gamma"]), "beta": torch.zeros_like(x["beta"])}
    got = gradients(x | zero | {"weights": x["weights"] + 1}, backend)
    expected = gradients(x | zero | {"weights": x["weights"] + 1}, "reference")
    for a, b in zip(got, expected):
        assert_close(a, b, KERNEL[torch.float32], "gradient")


@pytest.mark.parametrize("backend", BACKENDS)
def test_only_wanted_gradients(backend):
    """The alpha-only backward of the finite difference: mixing weights alone, and one branch alone."""
    everything = gradients(prepared(backend), backend)
    (weights,) = gradients(prepared(backend), backend, of=("weights",))
    assert_close(weights, everything[len(TINY.kinds)], 1e-6, "weights")
    x = prepared(backend)
    x["branches"][2].requires_grad_()
    node_sum(**x, backend=backend)[0].square().sum().backward()
    assert_close(x["branches"][2].grad, everything[2], 1e-6, "branch")
    assert x["branches"][0].grad is None


@pytest.mark.parametrize("backend", ("reference", "triton", "cuda"))
def test_bfloat16_branches(backend):
    x = prepared(backend, dtype=torch.bfloat16)
    out, mean, _ = node_sum(**x, backend=backend)
    wide = doubled(x)
    exact = reference.node_sum(**wide)
    assert out.dtype == torch.bfloat16 and mean.dtype == torch.float32
    assert_close(out, exact[0], KERNEL[torch.bfloat16], "node")
    got = gradients(x, backend)
    expected = gradients(wide, "reference")
    for a, b in zip(got, expected):
        assert_close(a, b, KERNEL[torch.bfloat16], "gradient")


@pytest.mark.parametrize("backend", BACKENDS)
def test_nan_in_a_branch_reaches_the_node(backend):
    x = prepared(backend, cases.TESTS[1])
    x["branches"][2][0, 3, 1, 1] = float("nan")
    out = node_sum(**x, backend=backend)[0]
    assert out.isnan().sum() == 1 and out[0, 3, 1, 1].isnan()


@pytest.mark.parametrize("backend", ("triton", "cuda"))
def test_graph_replay(backend):
    """Captured in a CUDA graph, forward and backward follow their inputs in replay."""
    x = prepared(backend)
    if x["weights"].device.type != "cuda":
        pytest.skip("CUDA graphs need a GPU")

    def step():
        return node_sum(**x, backend=backend)[0], *gradients(x, backend)

    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        step()  # compiles the kernels
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    with torch.no_grad():
        for t in x["branches"]:
            t.copy_(t.flip(0) * 1.5)
    graph.replay()
    for a, b in zip(captured, step()):
        assert torch.equal(a, b)


def test_threads_do_not_change_a_bit():
    threads = torch.get_num_threads()
    case = cases.Case("threads", 2, 20, 33, 19, cases.CHASE_EDGE, groups=2)  # more than one chunk of rows
    results = []
    try:
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            results.append(
                (*node_sum(**cases.inputs(case), backend="cpu"), *gradients(cases.inputs(case), "cpu"))
            )
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other))


@pytest.mark.parametrize(
    "change, text",
    [
        ({"branches": []}, "one kind per branch"),
        ({"kinds": [1, 0, 7]}, "kinds must be"),
        (
            {"branches": [torch.zeros(2, 8, 5, 7), torch.zeros(2, 8, 5, 7), torch.zeros(2, 8, 5, 6)]},
            "branch 2 is",
        ),
        ({"branches": [torch.zeros(8, 5, 7)] * 3}, "branches must be"),
        ({"weights": torch.zeros(4)}, "weights must be"),
        ({"gamma": torch.zeros(3, 8, dtype=torch.float64)}, "gamma must be torch.float32"),
        ({"groups": 3}, "3 groups do not divide 2 images"),
    ],
)
def test_wrong_input_is_named(change, text):
    with pytest.raises(ValueError, match=text):
        node_sum(**(cases.inputs(TINY) | change))


def test_triton_compiles_for_sm_90():
    pytest.importorskip("triton")
    usage = compile_in_subprocess("tests.kernels.aot_node_sum", "compile_all")
    assert len(usage) == 14
    for kernel in usage.values():
        check_fits(kernel)
