"""Choice of a backend, forcing one, and the helpers that every op's autograd uses."""

import pytest
import torch

from chase_fast.kernels import _dispatch
from chase_fast.kernels._autograd import recompute

X = torch.zeros(2)


def can(*names: str) -> dict:
    """Table in which only these backends run."""
    return {
        b: (lambda d, t, b=b: None if b in names else f"{b} is broken")
        for b in ("reference", "cpu", "triton")
    }


def test_fastest_that_can_run_is_chosen():
    assert _dispatch.resolve("op", can("reference", "cpu"), X) == "cpu"
    assert _dispatch.resolve("op", can("reference"), X) == "reference"
    assert (
        _dispatch.resolve("op", can("reference", "triton"), X) == "reference"
    )  # triton only when forced on a CPU


def test_forced_backend_runs_or_says_why(monkeypatch):
    assert _dispatch.resolve("op", can("reference", "cpu"), X, "reference") == "reference"
    with pytest.raises(RuntimeError, match="op: backend cpu cannot run: cpu is broken"):
        _dispatch.resolve("op", can("reference"), X, "cpu")
    with pytest.raises(RuntimeError, match="not written yet, it has reference, cpu, triton"):
        _dispatch.resolve("op", can("reference"), X, "cuda")
    with pytest.raises(ValueError, match="unknown backend 'fast'"):
        _dispatch.resolve("op", can("reference"), X, "fast")


def test_environment_forces_one_backend_or_one_per_op(monkeypatch):
    table = can("reference", "cpu")
    monkeypatch.setenv("CHASE_FAST_BACKEND", "reference")
    assert _dispatch.resolve("op", table, X) == "reference"
    assert _dispatch.resolve("op", table, X, "cpu") == "cpu"  # an argument is nearer than the environment
    monkeypatch.setenv("CHASE_FAST_BACKEND", "other=reference,op=cpu")
    assert _dispatch.resolve("op", table, X) == "cpu"
    assert _dispatch.resolve("third", table, X) == "cpu"


def test_nothing_can_run():
    with pytest.raises(
        RuntimeError, match="no backend can run: cpu: cpu is broken; reference: reference is broken"
    ):
        _dispatch.resolve("op", can(), X)


def test_stale_native_module_is_refused(monkeypatch):
    _dispatch.native.cache_clear()
    monkeypatch.setattr(_dispatch, "__version__", "9.9.9")
    try:
        with pytest.raises(ImportError, match=r"the sources are 9\.9\.9; run `pip install"):
            _dispatch.native()
        assert "9.9.9" in _dispatch.native_cpu(torch.float32)(X.device, X.dtype)
    finally:
        _dispatch.native.cache_clear()


def test_native_checks_shapes():
    native = _dispatch.native()
    with pytest.raises(ValueError, match=r"expected shape \[2, 3, 1, 1\], got \[2, 4, 1, 1\]"):
        native.cpu_prroi_pool(torch.zeros(1, 3, 1, 1), torch.zeros(2, 5), torch.zeros(2, 4, 1, 1), 1.0, 1)


@pytest.mark.parametrize("wrong", [None, 1.0, "text"])
def test_native_functions_take_tensors_only(wrong):
    x = torch.zeros(1, 3, 1, 1)
    with pytest.raises(TypeError, match="incompatible function arguments"):
        _dispatch.native().cpu_prroi_pool(x, wrong, x, 1.0, 1)


def test_native_functions_refuse_other_dtypes():
    x = torch.zeros(1, 3, 1, 1)
    with pytest.raises(TypeError, match=r"no native kernel takes torch\.float16"):
        _dispatch.native().cpu_prroi_pool(x, x.half(), x, 1.0, 1)


def function(xs, y, power):
    return (xs[0] * y) ** power + xs[1], y * 2


def test_recompute_returns_what_backward_needs():
    xs, y = [torch.tensor([2.0]), torch.tensor([3.0])], torch.tensor([5.0])
    inputs, needed = (xs, y, 2), ([True, False], True, False)
    with torch.no_grad():
        (first, second), to_y, rest = recompute(function, inputs, needed, (torch.ones(1), None))
    assert second is None and rest is None
    assert first == 2 * 2 * 5**2 and to_y == 2 * 5 * 2**2
    assert not first.requires_grad


def test_recompute_is_differentiable_again():
    x = torch.tensor([2.0], requires_grad=True)
    grad, *_ = recompute(lambda x: x**3, (x,), (True,), (torch.ones(1),))
    assert torch.autograd.grad(grad, x)[0] == 6 * 2


def test_recompute_without_path_gives_none():
    assert recompute(lambda x, y: y, (X, X), (True, False), (X,)) == (None, None)
