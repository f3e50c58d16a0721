"""Choice of a backend, forcing one, and the helpers that every op's autograd uses."""

import importlib
import re
import threading
from pathlib import Path

import pytest
import torch

from chase_fast.kernels import _choice, _dispatch, _native
from chase_fast.kernels._autograd import recompute

X = torch.zeros(2)
ROOT = Path(__file__).parents[2]


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
    with pytest.raises(RuntimeError, match="no backend cuda, it has reference, cpu, triton"):
        _dispatch.resolve("op", can("reference"), X, "cuda")
    with pytest.raises(ValueError, match="unknown backend 'fast'"):
        _dispatch.resolve("op", can("reference"), X, "fast")


def test_environment_forces_one_backend_or_one_per_op(monkeypatch):
    table = can("reference", "cpu")
    for text, expected in {
        "reference": "reference",
        " Reference ": "reference",
        "node_sum=reference,sep_conv=cpu": "cpu",
        "sep_conv=reference,": "reference",
        " sep_conv = reference , node_sum=cpu": "reference",
        ",sep_conv=REFERENCE,,": "reference",
        "reference,sep_conv=cpu": "cpu",
        "sep_conv=cpu,reference": "cpu",
        "sep_conv=reference,sep_conv=reference": "reference",
        "cuda": "cpu",  # sep_conv has none: its default
        "cuda,node_sum=triton": "cpu",
        "": "cpu",
        ",": "cpu",
    }.items():
        monkeypatch.setenv(_choice.VARIABLE, text)
        assert _dispatch.resolve("sep_conv", table, X) == expected, text
    monkeypatch.setenv(_choice.VARIABLE, "reference")
    assert _dispatch.resolve("sep_conv", table, X, "cpu") == "cpu", "an argument is nearer"
    monkeypatch.setenv(_choice.VARIABLE, "cpu")  # a change counts from the next call on
    with pytest.raises(_dispatch.BackendError, match="sep_conv: backend cpu cannot run: cpu is broken"):
        _dispatch.resolve("sep_conv", can("reference"), X)


@pytest.mark.parametrize(
    "text, says",
    [
        ("sep_convv=cpu", "no op is called 'sep_convv'; did you mean sep_conv?"),
        ("sep_conv=cpuu", "no backend is called 'cpuu'; did you mean cpu?"),
        ("fast", "no backend is called 'fast'; choose from reference, cpu, triton, cuda"),
        ("foo,sep_conv=cpu", "no backend is called 'foo'"),
        ("sep_conv=", "no backend is called ''"),
        ("=cpu", "no op is called ''"),
        ("sep_conv=cpu=triton", "no backend is called 'cpu=triton'"),
        ("sep_conv:cpu", "no backend is called 'sep_conv:cpu'"),
        ("sep_conv=cpu;node_sum=cpu", "no backend is called 'cpu;node_sum=cpu'"),
        ("keep_mask=cpu", "keep_mask has no backend cpu, only reference, triton"),
        ("sep_conv=cpu,sep_conv=triton", "two backends for sep_conv"),
        ("cpu,triton", "two backends for all ops"),
    ],
)
def test_a_wrong_environment_is_one_line(text, says, monkeypatch):
    monkeypatch.setenv(_choice.VARIABLE, text)
    for call in (_choice.check_variable, lambda: _dispatch.resolve("kl_loss", can("reference"), X)):
        with pytest.raises(_dispatch.BackendError) as caught:
            call()
        assert says in str(caught.value) and "\n" not in str(caught.value)
        assert str(caught.value).startswith("CHASE_FAST_BACKEND=")


def test_ops_without_the_backend_of_all_are_said_once(monkeypatch, caplog):
    _choice.parse.cache_clear()
    monkeypatch.setenv(_choice.VARIABLE, "cuda,crop=reference")
    for _ in range(3):
        _choice.check_variable()
    (record,) = caplog.records
    assert "keep_mask" in record.message and "node_sum" not in record.message
    assert "crop_windows" in record.message and "crop," not in record.message


def test_using_holds_within_and_in_its_thread_only(monkeypatch):
    table, found = can("reference", "cpu"), []
    monkeypatch.setenv(_choice.VARIABLE, "cpu")

    def elsewhere():
        found.append(_dispatch.resolve("sep_conv", table, X))

    with _dispatch.using("reference"):
        assert _dispatch.resolve("sep_conv", table, X) == "reference"
        with _dispatch.using("triton"):
            assert _dispatch.resolve("sep_conv", can("triton"), X) == "triton"
            two = {name: table[name] for name in ("reference", "cpu")}
            assert _dispatch.resolve("conv3x3", two, X) == "cpu"  # it has none: the variable, one step out
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        assert _dispatch.resolve("sep_conv", table, X, "cpu") == "cpu"
        with pytest.raises(RuntimeError), _dispatch.using("reference"):
            raise RuntimeError
        assert _dispatch.resolve("sep_conv", table, X) == "reference"
    assert found == ["cpu"] and _dispatch.resolve("sep_conv", table, X) == "cpu"
    with pytest.raises(_dispatch.BackendError, match="did you mean reference"), _dispatch.using("refrence"):
        pass


def test_the_table_of_names_is_that_of_the_ops():
    """Every name that `resolve` is called with, and the backends of its CAN_RUN."""
    found = {}
    for path in (ROOT / "kernels").rglob("*.py"):
        for op in re.findall(r'resolve\(\s*"(\w+)", CAN_RUN', path.read_text()):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            found[op] = tuple(importlib.import_module(f"chase_fast.{name}").CAN_RUN)
    assert found == dict(_choice.OPS)


def test_nothing_can_run():
    with pytest.raises(
        RuntimeError, match="no backend can run: cpu: cpu is broken; reference: reference is broken"
    ):
        _dispatch.resolve("op", can(), X)


def test_stale_native_module_is_refused(monkeypatch):
    _dispatch.native.cache_clear()
    monkeypatch.setattr(_native, "__version__", "9.9.9")
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
