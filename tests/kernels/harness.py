"""The one skeleton of tests/kernels/test_OP.py: a test file subclasses `OpTests` and names its op.

    class TestPrroiPool(OpTests):
        op = staticmethod(prroi_pool)            # public function
        reference = staticmethod(reference)      # kernels/OP/reference.py, called with the same arguments
        can_run = CAN_RUN                        # backends with their why-not
        cases = cases                            # kernels/OP/cases.py

`cases` offers TESTS (small cases with a `.name`), DIFFERENTIABLE (names of arguments with a gradient; a
list of tensors counts) and `inputs(case, device, dtype, seed) -> keyword arguments`. Every backend gets every
test; one that cannot run here skips with its own reason. Triton runs in its interpreter where there is no
CUDA device (conftest.py). Backends that an op does not have yet are not in its `can_run` and make no tests.
"""

from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.tolerances import KERNEL, assert_close

LAYOUTS = ("contiguous", "channels_last", "strided")


def device_of(backend: str) -> torch.device:
    on_gpu = backend == "cuda" or (backend in ("triton", "reference") and torch.cuda.is_available())
    return torch.device("cuda" if on_gpu else "cpu")


def interpreted(backend: str) -> bool:
    return backend == "triton" and device_of(backend).type == "cpu"


def skip_unless(can_run: dict, backend: str, dtype: torch.dtype) -> None:
    """Skips with the backend's own why-not."""
    if why := can_run[backend](device_of(backend), dtype):
        pytest.skip(f"{backend}: {why}")


def each(fn, value: Any) -> Any:
    """fn on a tensor, or on the tensors of a list; anything else unchanged."""
    if isinstance(value, Tensor):
        return fn(value)
    if isinstance(value, (list, tuple)) and value and isinstance(value[0], Tensor):
        return [fn(v) for v in value]
    return value


def tensors(value: Any) -> list[Tensor]:
    return [value] if isinstance(value, Tensor) else list(value)


def relayout(t: Tensor, layout: str) -> Tensor:
    """Same values in another memory layout; `strided`: every second element of an array with NaN in
    between."""
    if layout == "channels_last":
        if t.dim() == 5:  # [frames, sequences, C, H, W]
            return relayout(t.flatten(0, 1), layout).unflatten(0, t.shape[:2])
        return t.contiguous(memory_format=torch.channels_last) if t.dim() == 4 else t
    if layout == "strided" and t.is_floating_point() and t.dim() > 0:
        wide = torch.full((*t.shape, 2), float("nan"), dtype=t.dtype, device=t.device).flatten(-2)
        wide[..., ::2] = t
        return wide[..., ::2]
    return t.contiguous()


def poison(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every `empty` array that Python allocates is full of NaN: a kernel that forgets to write is caught."""

    def poisoned(allocate):
        def wrapper(*args, **kwargs):
            t = allocate(*args, **kwargs)
            return t.fill_(float("nan")) if t.is_floating_point() else t

        return wrapper

    for owner, names in ((torch, ("empty", "empty_like", "empty_strided")), (Tensor, ("new_empty",))):
        for name in names:
            monkeypatch.setattr(owner, name, poisoned(getattr(owner, name)))


def outgoing(outputs: list[Tensor], layout: str) -> list[Tensor]:
    """Random gradients of the outputs; in `strided` layout expanded along the last axis, as sum(-1) makes
    them (not along all: behind a batch norm the gradient of a plain sum is zero)."""
    rng = torch.Generator().manual_seed(7)
    made = []
    for o in outputs:
        g = torch.randn(o.shape, generator=rng, dtype=torch.float64).to(o.device, o.dtype)
        made.append(g[..., :1].expand(o.shape) if layout == "strided" and o.dim() else relayout(g, layout))
    return made


class OpTests:
    """Checks for every op and backend. `interpreted` names the cases that Triton's interpreter runs."""

    op: Any
    reference: Any
    can_run: dict
    cases: ModuleType
    dtypes: tuple[torch.dtype, ...] = (torch.float32, torch.float64)
    layouts: tuple[str, ...] = LAYOUTS
    interpreted: tuple[str, ...] = ("tiny",)
    double_backward = True

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        tests = list(self.cases.TESTS)
        choices = {
            "case": (tests, [c.name for c in tests]),
            "small": (tests[:1], [tests[0].name]),
            "backend": (list(self.can_run), None),
            "fast": ([b for b in self.can_run if b != "reference"], None),
            "exact": ([b for b in self.can_run if b in ("reference", "cpu")], None),
            "dtype": (self.dtypes, [str(d).removeprefix("torch.") for d in self.dtypes]),
            "layout": (self.layouts, None),
        }
        for name, (values, ids) in choices.items():
            if name in metafunc.fixturenames:
                metafunc.parametrize(name, values, ids=ids)

    def make(
        self, case, backend: str, dtype: torch.dtype, layout: str = "contiguous", grad: bool = True
    ) -> dict:
        """Inputs on the backend's device in this layout; the differentiable ones are leaves."""
        skip_unless(self.can_run, backend, dtype)
        if interpreted(backend) and case.name not in self.interpreted:
            pytest.skip("triton: the interpreter runs the smallest cases only")
        inputs = self.cases.inputs(case, device=device_of(backend), dtype=dtype, seed=0)
        inputs = {k: each(lambda t: relayout(t, layout).detach(), v) for k, v in inputs.items()}
        if grad:
            for name in self.cases.DIFFERENTIABLE:
                each(lambda t: t.requires_grad_(), inputs[name])
        return inputs

    def run(
        self, inputs: dict, backend: str | None, layout: str = "contiguous", fn=None
    ) -> dict[str, Tensor]:
        """Outputs and gradients by name: out0, out1, ..., grad_NAME (or grad_NAME[i] for lists)."""
        outputs = tensors((fn or type(self).op)(**inputs, **({"backend": backend} if backend else {})))
        result = {f"out{i}": o for i, o in enumerate(outputs)}
        active = [o for o in outputs if o.requires_grad]
        leaves = {}
        for name in self.cases.DIFFERENTIABLE:
            if isinstance(inputs[name], Tensor):
                leaves[f"grad_{name}"] = inputs[name]
            else:
                leaves |= {f"grad_{name}[{i}]": t for i, t in enumerate(inputs[name])}
        if active:
            gradients = torch.autograd.grad(
                active, list(leaves.values()), outgoing(active, layout), allow_unused=True
            )
            result |= {
                k: torch.zeros_like(t) if g is None else g for (k, t), g in zip(leaves.items(), gradients)
            }
        return {k: v.detach() for k, v in result.items()}

    def expected(self, inputs: dict, layout: str) -> dict[str, Tensor]:
        """The reference in float64 on the same values."""

        def upcast(t: Tensor) -> Tensor:
            if not t.is_floating_point():
                return t
            return t.detach().double().contiguous().requires_grad_(t.requires_grad)

        return self.run(
            {k: each(upcast, v) for k, v in inputs.items()}, None, layout, fn=type(self).reference
        )

    def test_matches_reference(self, case, backend, dtype, layout, monkeypatch):
        """Forward and every gradient against the float64 reference; outputs poisoned, inputs left
        unchanged."""
        inputs = self.make(case, backend, dtype, layout)
        before = {k: each(lambda t: t.detach().clone(), v) for k, v in inputs.items()}
        expected = self.expected(inputs, layout)
        with monkeypatch.context() as patch:
            poison(patch)
            got = self.run(inputs, backend, layout)
        assert got.keys() == expected.keys()
        for name, value in got.items():
            if value.is_floating_point():
                assert name.startswith("grad_") or value.dtype in (dtype, torch.float32, torch.float64)
                assert_close(value, expected[name], KERNEL[dtype], f"{backend} {name}")
            else:
                assert torch.equal(value.cpu(), expected[name].cpu()), f"{backend} {name}"
        for name, value in before.items():
            for a, b in (
                zip(tensors(value), tensors(inputs[name])) if isinstance(value, (Tensor, list)) else ()
            ):
                assert not isinstance(a, Tensor) or torch.equal(a, b.detach()), f"{backend} changed {name}"

    def test_twice_the_same_bits(self, case, backend):
        first = self.run(self.make(case, backend, torch.float32), backend)
        second = self.run(self.make(case, backend, torch.float32), backend)
        for name, value in first.items():
            assert torch.equal(value, second[name]), name

    def test_opcheck(self, small, backend):
        """Schema, fake, aliasing and autograd registration, called as the public function calls the op."""
        inputs = self.make(small, backend, torch.float32)
        slow = interpreted(backend)
        some = (
            {"test_utils": ("test_schema", "test_faketensor")} if slow else {}
        )  # what may differ between backends
        torch.library.opcheck(*self.op_call(inputs, backend), **some)

    def op_call(self, inputs: dict, backend: str) -> tuple[Any, tuple]:
        """(custom op, positional arguments) for these inputs."""
        raise NotImplementedError

    def test_gradcheck(self, small, exact):
        inputs = self.make(small, exact, torch.float64)
        leaves = [t for name in self.cases.DIFFERENTIABLE for t in tensors(inputs[name])]

        def call(*values):
            rest = iter(values)
            changed = {n: each(lambda _: next(rest), inputs[n]) for n in self.cases.DIFFERENTIABLE}
            outputs = tensors(self.smooth(inputs | changed, exact))
            return tuple(o for o in outputs if o.requires_grad)

        assert torch.autograd.gradcheck(call, leaves, fast_mode=True)
        if exact == "reference" and self.double_backward:
            assert torch.autograd.gradgradcheck(call, leaves, fast_mode=True)

    def smooth(self, inputs: dict, backend: str) -> Any:
        """The op for finite differences: overridden where an argument has a discrete part."""
        return type(self).op(**inputs, backend=backend)

    def test_second_derivative_is_refused(self, small, fast):
        inputs = self.make(small, fast, torch.float32)
        leaves = [t for name in self.cases.DIFFERENTIABLE for t in tensors(inputs[name])]
        outputs = [o for o in tensors(type(self).op(**inputs, backend=fast)) if o.requires_grad]
        gradients = torch.autograd.grad(outputs, leaves, outgoing(outputs, "contiguous"), create_graph=True)
        with pytest.raises(RuntimeError, match="second derivatives need backend='reference'"):
            sum(g.square().sum() for g in gradients if g.requires_grad).backward()
