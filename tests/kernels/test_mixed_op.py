"""`mixed_op` against its definition; the goldens of tests/test_nas_goldens.py pin the definition."""

import pytest
import torch

from chase_fast.kernels import mixed_op as package
from chase_fast.kernels.mixed_op import cases
from chase_fast.kernels.mixed_op.reference import mixed_op as reference
from tests.kernels.harness import OpTests

LISTS = ("depthwise", "pointwise", "gamma", "beta", "mean", "var")


def flat(**inputs) -> list[torch.Tensor]:
    branches = package.mixed_op(**inputs)
    return [*branches.maps, *branches.mean, *branches.var]


class TestMixedOp(OpTests):
    op = staticmethod(flat)
    reference = staticmethod(reference)
    can_run = package.CAN_RUN
    cases = cases

    def op_call(self, inputs, backend):
        options = (inputs["flavour"], inputs["groups"], inputs["training"], 1e-5, 0.01, True, backend)
        return package._mixed_op, (
            inputs["x"],
            ",".join(inputs["ops"]),
            *(inputs[k] for k in LISTS),
            *options,
        )


def test_shapes():
    case = next(c for c in cases.TESTS if c.name == "tiny")  # 2 groups, 2 edges
    maps, mean, var = package.mixed_op(**cases.inputs(case))
    assert len(maps) == 2 + 4 * case.edges
    assert {tuple(m.shape) for m in maps} == {(4, 3, 5, 4)}
    assert (
        [tuple(m.shape) for m in mean] == [tuple(v.shape) for v in var] == [(1, 2, 3)] * 2 + [(2, 2, 3)] * 2
    )
    assert not any(t.requires_grad for t in (*mean, *var))


def test_groups_do_not_see_each_other():
    """Two groups in one call are two calls."""
    inputs = cases.inputs(cases.TESTS[0], dtype=torch.float64)
    both = package.mixed_op(**inputs)
    halves = [package.mixed_op(**(inputs | {"x": x, "groups": 1})) for x in inputs["x"].chunk(2)]
    for i, y in enumerate(both.maps):
        assert torch.equal(y, torch.cat([h.maps[i] for h in halves]))
    for i, mean in enumerate(both.mean):
        assert torch.equal(mean, torch.cat([h.mean[i] for h in halves], dim=1))


def test_registered_op_equals_reference_call():
    """The custom op (what fast backends go through) gives the gradients of the direct call."""
    inputs = cases.inputs(cases.TESTS[0], dtype=torch.float64)
    for name in cases.DIFFERENTIABLE:
        for t in inputs[name] if isinstance(inputs[name], list) else [inputs[name]]:
            t.requires_grad_()
    leaves = [inputs["x"], *(t for name in cases.DIFFERENTIABLE[1:] for t in inputs[name])]
    function, arguments = TestMixedOp().op_call(inputs, "reference")
    got, expected = function(*arguments), flat(**inputs, backend="reference")
    for a, b in zip(got, expected):
        assert torch.equal(a, b) and a.requires_grad == b.requires_grad
    gradients = [
        torch.autograd.grad([y.square().sum() for y in ys if y.requires_grad], leaves)
        for ys in (got, expected)
    ]
    assert all(torch.equal(a, b) for a, b in zip(*gradients))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"ops": ("max_pool_3x3", "conv")}, "different names"),
        ({"ops": ()}, "different names"),
        ({"depthwise": [torch.zeros(2, 3, 3, 3)]}, "depthwise has shapes"),
        ({"pointwise": []}, "pointwise has shapes"),
        ({"gamma": []}, "gamma has shapes"),
        ({"training": False, "mean": []}, "mean has shapes"),
        ({"flavour": "vgg"}, "unknown flavour"),
        ({"groups": 3}, "multiple of groups"),
        ({"backend": "triton"}, "not written yet"),
    ],
)
def test_wrong_input(change, text):
    inputs = cases.inputs(cases.TESTS[0]) | change
    with pytest.raises((ValueError, RuntimeError), match=text):
        package.mixed_op(**inputs)
