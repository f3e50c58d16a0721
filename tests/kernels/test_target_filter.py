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
