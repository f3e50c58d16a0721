"""`mixed_op` against its definition; the goldens of tests/test_nas_goldens.py pin the definition."""

import os
import subprocess
import sys

import pytest
import torch

from chase_fast.kernels import mixed_op as package
from chase_fast.kernels._layout import channels_last
from chase_fast.kernels.mixed_op import cases, native
from chase_fast.kernels.mixed_op.reference import mixed_op as reference
from tests.kernels.aot import ROOT, check_fits, compile_in_subprocess
from tests.kernels.harness import OpTests, device_of, each, interpreted, outgoing, skip_unless, tensors
from tests.tolerances import KERNEL, assert_close

SMALLEST = ("tiny_mixed_order", "tiny_one_dil", "tiny_pools")
LISTS = ("depthwise", "pointwise", "gamma", "beta", "mean", "var")


def flat(**inputs) -> list[torch.Tensor]:
    branches = package.mixed_op(**inputs)
    return [*branches.maps, *branches.mean, *branches.var]


class TestMixedOp(OpTests):
    op = staticmethod(flat)
    reference = staticmethod(reference)
    can_run = package.CAN_RUN
    cases = cases
    interpreted = tuple(case.name for case in cases.TESTS if case.name.startswith("tiny"))

    def test_matches_reference(self, case, backend, dtype, layout, monkeypatch):
        self.not_slow(case, backend, layout != "contiguous")
        super().test_matches_reference(case, backend, dtype, layout, monkeypatch)

    def test_twice_the_same_bits(self, case, backend):
        self.not_slow(case, backend, True)
        super().test_twice_the_same_bits(case, backend)

    def test_opcheck(self, small, backend):
        super().test_opcheck(self.smaller(small, backend), backend)

    def test_second_derivative_is_refused(self, small, fast):
        super().test_second_derivative_is_refused(self.smaller(small, fast), fast)

    def smaller(self, small, backend: str):
        return next(c for c in cases.TESTS if c.name == SMALLEST[0]) if interpreted(backend) else small

    def not_slow(self, case, backend: str, again: bool) -> None:
        if interpreted(backend) and again and case.name not in SMALLEST:
            pytest.skip("triton: a run of this case in the interpreter takes seconds, one is enough")

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


def gradients(inputs: dict, wanted: tuple[str, ...], backend: str, used=slice(None)) -> dict:
    """Of the arguments `wanted` only, from the maps `used`."""
    inputs = dict(inputs)
    for name in wanted:
        value = inputs[name]
        made = [t.detach().clone().requires_grad_() for t in tensors(value)]
        inputs[name] = made if isinstance(value, list) else made[0]
    maps = package.mixed_op(**inputs, backend=backend).maps[used]
    pairs = [(m, g) for m, g in zip(maps, outgoing(maps, "contiguous")) if m.requires_grad]
    leaves = {f"{name}[{i}]": t for name in wanted for i, t in enumerate(tensors(inputs[name]))}
    outputs, incoming = zip(*pairs)
    got = torch.autograd.grad(outputs, list(leaves.values()), incoming, allow_unused=True)
    return {k: torch.zeros_like(t) if g is None else g for (k, t), g in zip(leaves.items(), got)}


@pytest.mark.parametrize("flavour", package.FLAVOURS)
@pytest.mark.parametrize(
    "wanted",
    [("x",), ("depthwise",), ("pointwise",), ("gamma",), ("beta",), ("x", "gamma"), cases.DIFFERENTIABLE],
    ids="-".join,
)
def test_only_what_is_wanted(wanted, flavour):
    """Every selection of gradients, and gradients of some maps only, one edge of a branch among them."""
    case = cases.Case("wanted", 4, 5, 7, 6, 2, flavour=flavour, groups=2)
    inputs = cases.inputs(case, dtype=torch.float64)
    for used in (slice(None), slice(1, 4), slice(0, 2), slice(7, 9)):
        if used == slice(0, 2) and "x" not in wanted:  # pools have no parameters
            continue
        if used == slice(7, 9) and wanted[0] in ("gamma", "beta"):  # nor do dilated convolutions have norms
            continue
        got, expected = (gradients(inputs, wanted, backend, used) for backend in ("cpu", "reference"))
        for name, value in got.items():
            assert_close(value, expected[name], KERNEL[torch.float64], f"{name} of maps {used}")


def near(backend: str, case: cases.Case, dtype: torch.dtype, **changes) -> dict:
    """Inputs on the backend's device."""
    skip_unless(package.CAN_RUN, backend, dtype)
    return cases.inputs(case, device_of(backend), dtype) | changes


def doubled(inputs: dict) -> dict:
    return {name: each(lambda t: t.detach().double(), value) for name, value in inputs.items()}


PARTS = cases.Case("parts", 2, 3, 4, 7, 2, ("sep_conv_3x3", "dil_conv_3x3", "max_pool_3x3"), groups=2)


@pytest.mark.parametrize(
    ("wanted", "used"),
    [
        (("x",), slice(None)),
        (("depthwise",), slice(1, 3)),  # an edge of either convolution
        (("pointwise",), slice(None)),
        (("gamma",), slice(1, 3)),
        (("beta", "x"), slice(0, 2)),
    ],
)
def test_only_what_is_wanted_on_triton(wanted, used, monkeypatch):
    """The same; weight gradients are not even launched where they are not wanted."""
    inputs = near("triton", PARTS, torch.float32)
    from chase_fast.kernels.mixed_op import triton_backward

    for name in ("depthwise", "pointwise"):
        if name not in wanted:
            monkeypatch.delattr(triton_backward, f"_{name}_weights")
    got = gradients(inputs, wanted, "triton", used)
    expected = gradients(doubled(inputs), wanted, "reference", used)
    for name, value in got.items():
        assert_close(value, expected[name], KERNEL[torch.float32], name)


@pytest.mark.parametrize("backend", ("reference", "triton", "cuda"))
@pytest.mark.parametrize("flavour", package.FLAVOURS)
def test_bfloat16(backend, flavour):
    """bfloat16 maps with float32 weights, statistics and gradients of them."""
    if backend not in package.CAN_RUN:
        pytest.skip(f"mixed_op has no {backend} backend")
    ops = ("avg_pool_3x3", "sep_conv_3x3", "max_pool_3x3", "dil_conv_3x3")
    inputs = near(backend, cases.Case("bf16", 2, 3, 6, 8, 1, ops, flavour, groups=2), torch.bfloat16)
    # inner activations far from their kink, where rounding of the maps would decide on the derivative
    inputs |= {"gamma": [0.3 * g for g in inputs["gamma"]], "beta": [2 * b.sign() for b in inputs["beta"]]}
    wide = doubled(inputs)
    branches, exact = (
        package.mixed_op(**inputs, backend=backend),
        package.mixed_op(**wide, backend="reference"),
    )
    assert {m.dtype for m in branches.maps} == {torch.bfloat16}
    assert {t.dtype for t in (*branches.mean, *branches.var)} == {torch.float32}
    for name, values in branches._asdict().items():
        for value, expected in zip(values, getattr(exact, name)):
            assert_close(value, expected, KERNEL[torch.bfloat16], name)
    got = gradients(inputs, cases.DIFFERENTIABLE, backend)
    expected = gradients(wide, cases.DIFFERENTIABLE, "reference")
    for name, value in got.items():
        assert value.dtype == (torch.bfloat16 if name == "x[0]" else torch.float32)
        assert_close(value, expected[name], KERNEL[torch.bfloat16], name)


@pytest.mark.parametrize("backend", ("triton",))
def test_graph_replay(backend):
    """Captured in a CUDA graph, forward and backward follow their inputs in replay."""
    inputs = near(backend, cases.TESTS[0], torch.float32)
    if inputs["x"].device.type != "cuda":
        pytest.skip("CUDA graphs need a GPU")

    def step():
        made = gradients(inputs, cases.DIFFERENTIABLE, backend)
        return *package.mixed_op(**inputs, backend=backend).maps, *made.values()

    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        step()  # compiles the kernels
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    inputs["x"].copy_(inputs["x"].flip(0) * 1.5)
    graph.replay()
    for a, b in zip(captured, step()):
        assert torch.equal(a, b)


def test_triton_compiles_for_sm_90():
    pytest.importorskip("triton")
    usage = compile_in_subprocess("tests.kernels.aot_mixed_op", "compile_all")
    assert len(usage) == 37
    for kernel in usage.values():
        check_fits(kernel)


def test_edges_in_blocks(monkeypatch):
    """Edges that do not fit the caches together pass the stages one by one: the same bits."""
    inputs = cases.inputs(cases.Case("blocks", 2, 20, 9, 10, 3))
    whole = gradients(inputs, cases.DIFFERENTIABLE, "cpu")
    monkeypatch.setattr(native, "BLOCK", 2 * inputs["x"].numel())
    parts = gradients(inputs, cases.DIFFERENTIABLE, "cpu")
    assert all(torch.equal(parts[name], whole[name]) for name in whole)


@pytest.mark.parametrize(("backend", "dtype"), [("cpu", torch.float64), ("triton", torch.float32)])
def test_equal_values_in_a_pool(backend, dtype):
    """The gradient of a maximum goes to its first pixel, as torch's does."""
    inputs = near(backend, next(c for c in cases.TESTS if c.name == "tiny_pools"), dtype)
    inputs["x"] = inputs["x"].round()
    got = gradients(inputs, ("x",), backend)["x[0]"]
    assert_close(got, gradients(doubled(inputs), ("x",), "reference")["x[0]"], KERNEL[dtype])


def test_threads_do_not_change_a_bit():
    threads = torch.get_num_threads()
    inputs = cases.inputs(cases.Case("threads", 4, 40, 18, 19, 2, groups=2))
    results = []
    try:
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            results.append(stages(inputs))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other))


def stages(inputs: dict) -> list[torch.Tensor]:
    """What mixed_op makes of these inputs, forward and backward, and each native stage alone."""
    whole = package.mixed_op(**inputs, backend="cpu")
    made = [*whole.maps, *whole.mean, *whole.var, *gradients(inputs, cases.DIFFERENTIABLE, "cpu").values()]
    x = inputs["x"]
    maps = [channels_last(x.roll(shift)) for shift in (1, 2)]
    for d, p, dilation in zip(inputs["depthwise"], inputs["pointwise"], (1, 1, 1, 1, 2, 2)):
        stage = native.Separable(d, p, dilation, 0.0)
        outs, to_x = [native._map(x) for _ in maps], native._map(x)
        moments = [x.new_empty(2, 2, x.shape[1]) for _ in range(2)]
        stage.forward([x], outs, moments)
        to_d, to_p = torch.empty_like(d), torch.empty_like(p)
        stage.backward(maps, [], [x], [to_x], to_d, to_p)
        made += [*outs, *moments, to_x, to_d, to_p]
    return made


@pytest.mark.parametrize("isa", ["avx2", "portable"])
def test_narrower_instruction_sets(isa):
    """The same comparison with narrower vector instructions (the choice is made once per process)."""
    program = "-k", "matches_reference and cpu and float32-contiguous", "-q", "-p", "no:cacheprovider"
    command = [sys.executable, "-m", "pytest", "tests/kernels/test_mixed_op.py", *program]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"CHASE_FAST_ISA": isa}, capture_output=True, text=True
    )
    assert done.returncode == 0 and "passed" in done.stdout, done.stdout[-3000:]


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
        ({"backend": "cuda"}, "there is no backend cuda"),
        ({"gamma": [torch.ones(2, 3, dtype=torch.float64)] * 2}, "must be torch.float32"),
        ({"x": torch.zeros(4, 3, 5, 4, dtype=torch.float64)}, "must be torch.float64"),
    ],
)
def test_wrong_input(change, text):
    inputs = cases.inputs(cases.TESTS[0]) | change
    with pytest.raises((ValueError, RuntimeError), match=text):
        package.mixed_op(**inputs)
