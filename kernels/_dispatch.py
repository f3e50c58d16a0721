"""Which backend runs an op: `reference | cpu | triton | cuda`, chosen by `resolve`, with the reason why not.

Every op passes a `can_run` table {backend: fn(device, dtype) -> None | "why not"}. Order: CUDA tensors cuda,
triton, reference; CPU tensors cpu, reference (triton on CPU only when forced, under TRITON_INTERPRET=1).
`backend=` forces one; so do `using` and the environment variable CHASE_FAST_BACKEND (_choice.py).
"""

import functools
import importlib
import importlib.util
import logging
import os
from collections.abc import Callable, Mapping
from types import ModuleType

import torch

from ._choice import BACKENDS, BackendError, choice_of, using
from ._native import native

__all__ = ["BACKENDS", "BackendError", "choice_of", "implementation", "native", "resolve", "using"]

ORDER = {"cuda": ("cuda", "triton", "reference"), "cpu": ("cpu", "reference")}
CanRun = Callable[[torch.device, torch.dtype], str | None]

log = logging.getLogger("chase_fast.kernels")


@functools.cache
def implementation(op: str, backend: str) -> ModuleType:
    """The module of a fast backend: kernels/OP/triton_impl.py, or kernels/OP/native.py of `cpu` and `cuda`.

    Imported when it is first asked for: triton takes its time, and need not be installed.
    """
    name = "triton_impl" if backend == "triton" else "native"
    return importlib.import_module(f"chase_fast.kernels.{op}.{name}")


def always(device: torch.device, dtype: torch.dtype) -> None:
    """can_run of every reference."""
    return None


def native_cpu(*dtypes: torch.dtype) -> CanRun:
    """can_run of a C++ backend for these dtypes."""

    def can_run(device: torch.device, dtype: torch.dtype) -> str | None:
        if device.type != "cpu":
            return f"cpu kernels take CPU tensors, not {device.type}"
        if dtype not in dtypes:
            return f"no cpu kernel for {dtype}"
        try:
            native()
        except ImportError as e:
            return str(e)
        return None

    return can_run


def native_cuda(*dtypes: torch.dtype) -> CanRun:
    """can_run of a CUDA C++ backend for these dtypes."""

    def can_run(device: torch.device, dtype: torch.dtype) -> str | None:
        try:
            built = native().build_info()["cuda"]
        except ImportError as e:
            return str(e)
        if built is None:
            return "chase_fast_C was built without CUDA (nvcc not found, or CHASE_FAST_CUDA=off)"
        if not torch.cuda.is_available():
            return "no CUDA device"
        if device.type != "cuda":
            return f"cuda kernels take CUDA tensors, not {device.type}"
        return None if dtype in dtypes else f"no cuda kernel for {dtype}"

    return can_run


def interpreting() -> bool:
    return os.environ.get("TRITON_INTERPRET", "0") == "1"


def triton(*dtypes: torch.dtype) -> CanRun:
    """can_run of a Triton backend for these dtypes."""

    def can_run(device: torch.device, dtype: torch.dtype) -> str | None:
        if importlib.util.find_spec("triton") is None:
            return "triton is not installed"
        if dtype not in dtypes:
            return f"no triton kernel for {dtype}"
        if device.type == "cpu" and not interpreting():
            return "triton runs on CPU tensors only under TRITON_INTERPRET=1 (set before Python starts)"
        if device.type == "cuda" and not torch.cuda.is_available():
            return "no CUDA device"
        return None

    return can_run


@functools.cache
def _log_once(op: str, backend: str, device: str, dtype: torch.dtype, skipped: str) -> None:
    log.info("%s: %s on %s %s%s", op, backend, device, dtype, f" ({skipped})" if skipped else "")


def resolve(
    op: str, can_run: Mapping[str, CanRun], x: torch.Tensor, backend: str | None = None, least: int = 0
) -> str:
    """Name of the backend that will run `op` on tensors like `x`.

    Args:
        least: elements of x on the CPU below which the custom op costs more time than its kernel saves: the
            reference, plain torch calls, is taken unless a backend is forced.

    Raises:
        BackendError: unknown backend name, or the forced backend cannot run; the text says why.
    """
    wanted = backend or (
        None if x.is_meta else choice_of(op, can_run)
    )  # of a meta tensor nothing is computed
    if wanted is not None:
        if wanted not in BACKENDS:
            raise BackendError(f"{op}: unknown backend {wanted!r}, choose from {', '.join(BACKENDS)}")
        if wanted not in can_run:
            raise BackendError(f"{op}: there is no backend {wanted}, it has {', '.join(can_run)}")
        if why := can_run[wanted](x.device, x.dtype):
            raise BackendError(f"{op}: backend {wanted} cannot run: {why}")
        return wanted
    if x.device.type == "cpu" and x.numel() < least:
        return "reference"
    skipped: list[str] = []
    for name in ORDER.get(x.device.type, ("reference",)):
        if name not in can_run:
            continue
        why = can_run[name](x.device, x.dtype)
        if why is None:
            _log_once(op, name, str(x.device), x.dtype, "; ".join(skipped))
            return name
        skipped.append(f"{name}: {why}")
    raise BackendError(f"{op}: no backend can run: {'; '.join(skipped)}")
