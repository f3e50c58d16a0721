"""target_filter: every backend against the reference, and the matrix form against a plain convolution."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from chase_fast.kernels import target_filter
from chase_fast.kernels.target_filter import cases, reference
from tests.kernels.aot import check_fits, compile_in_subprocess
from tests.kernels.harness import OpTests, device_of, skip_unless
from tests.tolerances import KERNEL, assert_close

SOLVERS = ("solve_prdimp", "solve_dimp")


def prepared(function, backend, case=cases.TESTS[0], dtype=torch.float32, **changes):
    skip_unless(target_filter.CAN_RUN, backend, dtype)
    return cases.inputs(function, case, device_of(backend), dtype) | changes


def results(function, inputs, backend, exact=False):
    """Outputs and gradients of the sum of their squares; `exact`: in float64."""
    inputs = {k: v.double() if exact and isinstance(v, torch.Tensor) else v for k, v in inputs.items()}
    leaves = [inputs[name].detach().requires_grad_() for name in cases.ARGUMENTS[function]]
    inputs |= dict(zip(cases.ARGUMENTS[function], leaves))
    outputs = getattr(target_filter, function)(**inputs, backend=backend)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    gradients = torch.autograd.grad([o.square().sum() for o in outputs], leaves, materialize_grads=True)
    return [o.detach() for o in outputs] + list(gradients)


def assert_agrees(function, inputs, backend, dtype=torch.float32):
    """Outputs and gradients against the reference in float64."""
    expected = results(function, inputs, "reference", exact=True)
    names = ("out",) * (len(expected) - len(cases.ARGUMENTS[function])) + cases.ARGUMENTS[function]
    for name, a, b in zip(names, results(function, inputs, backend), expected):
        assert_close(a, b, KERNEL[dtype], f"{backend} {name}")


class _Function(OpTests):
    can_run = target_filter.CAN_RUN

    def __init_subclass__(cls):
        name = cls.function
        cls.op = staticmethod(getattr(target_filter, name))
        cls.reference = staticmethod(getattr(reference, name))
        cls.cases = SimpleNamespace(
            TESTS=cases.TESTS, DIFFERENTIABLE=cases.ARGUMENTS[name], inputs=partial(cases.inputs, name)
        )

    def op_call(self, inputs, backend):
        return getattr(torch.ops.chase_fast, f"target_filter_{self.function}"), (*inputs.values(), backend)


class TestApply(_Function):
    function = "apply"


class TestApplyTranspose(_Function):
    function = "apply_transpose"


class TestSolvePrDiMP(_Function):
    function = "solve_prdimp"


class TestSolveDiMP(_Function):
    function = "solve_dimp"


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5])
def test_equals_grouped_convolution(k):
    rng = torch.Generator().manual_seed(k)
    features = torch.randn(2, 3, 4, 7, 6, generator=rng, dtype=torch.float64)
    filters = torch.randn(3, 4, k, k, generator=rng, dtype=torch.float64)
    expected = F.conv2d(features.flatten(1, 2), filters, padding=k // 2, groups=3)
    scores = target_filter.apply(features, filters)
    assert_close(scores, expected, KERNEL[torch.float64])
    assert scores.shape[-2:] == target_filter.score_size(features, k)

    residual = torch.randn(scores.shape, generator=rng, dtype=torch.float64)
    adjoint = target_filter.apply_transpose(features, residual, k)
    torch.testing.assert_close((scores * residual).sum(), (adjoint * filters).sum())


def test_sample_weight_defaults_to_the_mean():
    inputs = cases.inputs("solve_dimp", cases.TESTS[0], dtype=torch.float64)
    n = inputs["features"].shape[0]
    inputs["sample_weight"] = None
    given = inputs | {"sample_weight": torch.full((n, 1), 1 / n, dtype=torch.float64)}
    for a, b in zip(target_filter.solve_dimp(**inputs), target_filter.solve_dimp(**given)):
        assert torch.equal(a, b)


def test_no_iteration_returns_the_start():
    inputs = cases.inputs("solve_prdimp", cases.TESTS[0], dtype=torch.float64) | {"iterations": 0}
    iterates, losses = target_filter.solve_prdimp(**inputs)
    assert torch.equal(iterates[0], inputs["filter"]) and iterates.shape[0] == losses.shape[0] == 1


def test_bad_input():
    inputs = cases.inputs("solve_prdimp", cases.TESTS[0])
    for change, text in (
        ({"features": inputs["features"][0]}, "features must be"),
        ({"filter": inputs["filter"][:, :1]}, "filters must be"),
        ({"label_density": inputs["label_density"][..., :-1]}, "label_density must be"),
        ({"filter_reg": torch.ones(())}, "must have shape"),
        ({"sample_weight": torch.ones(3)}, "sample_weight must be"),
        ({"iterations": -1}, "iterations must be"),
    ):
        with pytest.raises(ValueError, match=text):
            target_filter.solve_prdimp(**(inputs | change))


@pytest.mark.parametrize("function", cases.FUNCTIONS)
def test_result_does_not_depend_on_the_threads(function):
    """Big enough for three threads. The gradient of the features is a product of BLAS, which may."""
    case = cases.Case("threads", 3, 2, 130, 9, 8, 4, 2, channels_last=True)
    names, threads, results = cases.ARGUMENTS[function], torch.get_num_threads(), []
    try:
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            inputs = cases.inputs(function, case)
            leaves = [inputs[name].requires_grad_() for name in names]
            outputs = getattr(target_filter, function)(**inputs, backend="cpu")
            outputs = outputs if isinstance(outputs, tuple) else (outputs,)
            results.append((*outputs, *torch.autograd.grad([o.sum() for o in outputs], leaves)))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        for name, a, b in zip(("out", "out", *names), results[0], other):
            assert name == "features" or torch.equal(a, b), name


FAST = (("cpu", torch.float64), ("triton", torch.float32))


@pytest.mark.parametrize("backend, dtype", FAST)
@pytest.mark.parametrize("function", SOLVERS)
def test_clamps(function, backend, dtype):
    """Denominator and regulariser at their lower bounds: no gradient passes there."""
    inputs = prepared(function, backend, dtype=dtype)
    inputs |= {"features": 1e-6 * inputs["features"], "filter_reg": 0 * inputs["filter_reg"] + 1e-6}
    assert_agrees(function, inputs | {"min_filter_reg": 1e-5, "alpha_eps": 0.0}, backend, dtype)


@pytest.mark.parametrize("backend", ("cpu", "triton"))
def test_score_maps_of_any_height(backend):
    """Softmax of scores far below and above what exp can take."""
    inputs = prepared("solve_prdimp", backend)
    inputs["features"] = 300 * inputs["features"]
    wanted = target_filter.solve_prdimp(
        **{k: v.double() if isinstance(v, torch.Tensor) else v for k, v in inputs.items()},
        backend="reference",
    )
    for a, b in zip(target_filter.solve_prdimp(**inputs, backend=backend), wanted):
        assert_close(a, b, KERNEL[torch.float32])


@pytest.mark.parametrize("backend, dtype", FAST)
def test_weight_shared_by_the_sequences(backend, dtype):
    """sample_weight [n, 1] gets the sum of the sequences' gradients."""
    inputs = prepared("solve_prdimp", backend, dtype=dtype)
    inputs["sample_weight"] = inputs["sample_weight"][:, :1].clone()
    assert_agrees("solve_prdimp", inputs, backend, dtype)


@pytest.mark.parametrize("backend", target_filter.CAN_RUN)
@pytest.mark.parametrize("function", SOLVERS)
def test_empty_slots_of_the_memory(function, backend):
    """Frames of weight 0 change nothing, whatever their features; a fast backend's gradients stay finite."""
    inputs = prepared(function, backend)
    per_frame = [name for name in cases.ARGUMENTS[function] if inputs[name].shape[:2] == (2, 2)]
    frames = {name: inputs[name] for name in per_frame if name != "filter"}
    padded = {name: torch.cat((v, v.flip(0) + 1, v[:1] - 1)) for name, v in frames.items()}
    padded["sample_weight"][2:] = 0
    if backend == "reference":  # of DiMP: the gradient of sqrt(0) is not finite
        with torch.no_grad():
            for a, b in zip(*(getattr(reference, function)(**(inputs | more)) for more in (padded, {}))):
                assert_close(a, b, KERNEL[torch.float32])
        return
    found, expected = (results(function, inputs | more, backend) for more in (padded, {}))
    for name, a, b in zip(("iterates", "losses", *cases.ARGUMENTS[function]), found, expected):
        assert a.isfinite().all(), name
        if name not in frames:
            assert_close(a, b, KERNEL[torch.float32], name)
    to_features = found[2]
    assert_close(to_features[:2], expected[2], KERNEL[torch.float32], "features")
    assert (to_features[2:] == 0).all()


BLOCKS = cases.Case("blocks", 3, 1, 70, 5, 6, 4, 2)  # several blocks of channels, a tile with an unused frame


@pytest.mark.parametrize("tile", (0, 2048), ids=("halves", "whole"))
@pytest.mark.parametrize("fewest", (1, 1 << 30), ids=("fused", "parts"))
@pytest.mark.parametrize("function", SOLVERS)
def test_triton_plans(function, fewest, tile, monkeypatch):
    """The launches that sizes choose: frames of a step together or not, features of a sequence or in runs."""
    inputs = prepared(function, "triton", BLOCKS)
    from chase_fast.kernels.target_filter import triton_impl

    monkeypatch.setattr(triton_impl, "FEWEST", fewest)
    monkeypatch.setattr(triton_impl, "FRAME_TILE", tile)
    assert_agrees(function, inputs, "triton")


@pytest.mark.parametrize("backend, dtype", FAST)
@pytest.mark.parametrize("function", SOLVERS)
def test_gradients_without_an_iteration(function, backend, dtype):
    assert_agrees(function, prepared(function, backend, dtype=dtype, iterations=0), backend, dtype)


@pytest.mark.parametrize("backend", ("cpu", "triton"))
@pytest.mark.parametrize("function", SOLVERS)
def test_nan_in_a_feature_reaches_its_sequence(function, backend):
    inputs = prepared(function, backend, iterations=1)
    inputs["features"][1, 0, 2, 3, 1] = float("nan")
    iterates, losses = getattr(target_filter, function)(**inputs, backend=backend)
    assert iterates[1, 0].isnan().all() and iterates[1, 1].isfinite().all() and losses.isnan().all()


@pytest.mark.parametrize("backend", ("cpu", "triton"))
@pytest.mark.parametrize("m, k", ((6, 4), (3, 5)))
def test_many_filters(m, k, backend):
    """More columns than a tile has, which do not end with a filter."""
    case = cases.Case("many", 2, 2, 20, 5, 4, k, 1)
    inputs = prepared("apply", backend, case)
    inputs["filters"] = torch.cat([inputs["filters"] * (j + 1) for j in range(m)])[:m]
    assert_agrees("apply", inputs, backend)


@pytest.mark.parametrize("backend", ("cpu", "triton"))
@pytest.mark.parametrize("size", ((1, 5), (5, 1), (1, 1)))
def test_thin_images(size, backend):
    inputs = prepared("apply", backend, cases.Case("thin", 2, 1, 3, *size, 4, 1, channels_last=True))
    assert_agrees("apply", inputs, backend)


@pytest.mark.parametrize("backend", ("triton",))
@pytest.mark.parametrize("function", cases.FUNCTIONS)
def test_graph_replay(function, backend):
    """Captured in a CUDA graph, forward and backward follow their inputs in replay."""
    if device_of(backend).type != "cuda":
        pytest.skip("CUDA graphs need a GPU")
    inputs = prepared(function, backend)
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        results(function, inputs, backend)  # compiles the kernels
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = results(function, inputs, backend)
    inputs["features"].mul_(-0.5)
    graph.replay()
    for a, b in zip(captured, results(function, inputs, backend)):
        assert torch.equal(a, b)


def test_triton_compiles_for_sm_90():
    pytest.importorskip("triton")
    usage = compile_in_subprocess("tests.kernels.aot_target_filter", "compile_all")
    for name in ("descend", "ascend", "step", "step_grad", "adjoint", "response", "fold", "features_grad"):
        assert any(f"target_filter_{name}_kernel" in key for key in usage), name
    for kernel in usage.values():
        check_fits(kernel)
