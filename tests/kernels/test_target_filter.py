"""target_filter: every backend against the reference, and the matrix form against a plain convolution."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from chase_fast.kernels import target_filter
from chase_fast.kernels.target_filter import cases, reference
from tests.kernels.harness import OpTests
from tests.tolerances import KERNEL, assert_close


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


@pytest.mark.parametrize("function", ["solve_prdimp", "solve_dimp"])
def test_clamps(function):
    """Denominator and regulariser at their lower bounds: no gradient passes there."""
    inputs = cases.inputs(function, cases.TESTS[0], dtype=torch.float64)
    inputs |= {"features": 1e-6 * inputs["features"], "filter_reg": torch.tensor([1e-6], dtype=torch.float64)}
    inputs |= {"min_filter_reg": 1e-5, "alpha_eps": 0.0}
    names, found = cases.ARGUMENTS[function], []
    for backend in ("reference", "cpu"):
        leaves = [inputs[name].detach().requires_grad_() for name in names]
        outputs = getattr(target_filter, function)(**(inputs | dict(zip(names, leaves))), backend=backend)
        found.append(torch.autograd.grad([o.square().sum() for o in outputs], leaves))
    for name, a, b in zip(names, *found):
        assert_close(b, a, KERNEL[torch.float64], name)


def test_score_maps_of_any_height():
    """Softmax of scores far below and above what exp can take."""
    inputs = cases.inputs("solve_prdimp", cases.TESTS[0])
    inputs["features"] = 300 * inputs["features"]
    wanted = target_filter.solve_prdimp(
        **{k: v.double() if isinstance(v, torch.Tensor) else v for k, v in inputs.items()},
        backend="reference",
    )
    for a, b in zip(target_filter.solve_prdimp(**inputs, backend="cpu"), wanted):
        assert_close(a, b, KERNEL[torch.float32])


def test_weight_shared_by_the_sequences():
    """sample_weight [n, 1] gets the sum of the sequences' gradients."""
    found = []
    for backend in ("reference", "cpu"):
        inputs = cases.inputs("solve_prdimp", cases.TESTS[0], dtype=torch.float64)
        weight = inputs["sample_weight"] = inputs["sample_weight"][:, :1].clone().requires_grad_()
        iterates, losses = target_filter.solve_prdimp(**inputs, backend=backend)
        found += torch.autograd.grad(iterates.square().sum() + losses.sum(), [weight])
    assert_close(found[1], found[0], KERNEL[torch.float64])
