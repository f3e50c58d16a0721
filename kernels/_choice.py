"""Which backend the user asks for: CHASE_FAST_BACKEND, and `using` inside a program. Imports no torch.

    CHASE_FAST_BACKEND=reference                     every op that has this backend; the others by default
    CHASE_FAST_BACKEND=sep_conv=cpu,node_sum=triton  these ops
    CHASE_FAST_BACKEND=triton,keep_mask=reference    both: an op's own name is nearer

The variable is read at every call, so a change of os.environ counts from the next call on; what it says is
parsed once for each value. `using` is nearer than the variable, an op's argument `backend=` nearer than both.
"""

import difflib
import functools
import logging
import multiprocessing
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

VARIABLE = "CHASE_FAST_BACKEND"
BACKENDS = ("reference", "cpu", "triton", "cuda")
# name of an op in VARIABLE -> its backends: those of its CAN_RUN
OPS: Mapping[str, tuple[str, ...]] = {
    "box_ascent": ("reference", "triton"),
    "conv3x3": ("reference", "cpu"),
    "conv_epilogue": ("reference", "triton"),
    "crop": ("reference", "cpu"),
    "crop_windows": ("reference", "triton"),
    "keep_mask": ("reference", "triton"),
    "kl_loss": ("reference", "cpu", "triton"),
    "localize": ("reference", "triton"),
    "mixed_op": ("reference", "cpu", "triton"),
    "node_sum": BACKENDS,
    "pooled_linear": ("reference", "cpu"),
    "prroi_pool": BACKENDS,
    "sep_conv": ("reference", "cpu", "triton"),
    "skip_drop": ("reference", "triton"),
    "target_filter": ("reference", "cpu", "triton"),
}

log = logging.getLogger("chase_fast.kernels")


class BackendError(RuntimeError, ValueError):
    """No such backend or op, or the backend that was asked for cannot run; the text, one line, says why."""


@dataclass(frozen=True)
class Choice:
    """Backends that were asked for: of every op that has it, and of single ops."""

    every: str | None = None
    single: Mapping[str, str] = field(default_factory=dict)

    def of(self, op: str, has: Collection[str]) -> str | None:
        """The backend asked for an op with these backends; None: its default."""
        name = self.single.get(op)
        if name is None and self.every is not None and self.every in has:
            return self.every
        return name


_within: ContextVar[Choice | None] = ContextVar("chase_fast_backend", default=None)


def choice_of(op: str, has: Collection[str]) -> str | None:
    """The backend that `using` or VARIABLE asks for, of an op with these backends; None: its default.

    Raises:
        BackendError: VARIABLE names no backend or no op.
    """
    inner = _within.get()
    if inner is not None and (name := inner.of(op, has)):
        return name
    text = os.environ.get(VARIABLE)
    return parse(text).of(op, has) if text else None


@contextmanager
def using(backend: str) -> Iterator[None]:
    """Within, in this thread: every op that has this backend runs it, the others take their default.

    Raises:
        BackendError: there is no such backend.
    """
    token = _within.set(Choice(_known(backend, BACKENDS, "using", "backend")))
    try:
        yield
    finally:
        _within.reset(token)


def check_variable() -> None:
    """Raises BackendError if VARIABLE names no backend or no op."""
    parse(os.environ.get(VARIABLE, ""))


@functools.lru_cache(maxsize=16)
def parse(text: str) -> Choice:
    """`NAME`, `OP=NAME,OP=NAME,...` or both; spaces, capitals and empty parts count for nothing.

    The first process says which ops lack the backend that was asked for all.

    Raises:
        BackendError: an unknown name, an op that lacks its backend, or two names for the same.
    """
    where = f"{VARIABLE}={text}"
    every: str | None = None
    single: dict[str, str] = {}
    for part in text.lower().split(","):
        op, sign, name = (word.strip() for word in part.partition("="))
        if not sign and not op:
            continue
        if not sign:
            if every not in (None, op):
                raise BackendError(f"{where}: names two backends for all ops, {every} and {op}; name one")
            every = _known(op, BACKENDS, where, "backend")
            continue
        op, name = _known(op, OPS, where, "op"), _known(name, BACKENDS, where, "backend")
        if name not in OPS[op]:
            raise BackendError(f"{where}: {op} has no backend {name}, only {', '.join(OPS[op])}")
        if single.get(op, name) != name:
            raise BackendError(f"{where}: names two backends for {op}, {single[op]} and {name}; name one")
        single[op] = name
    without = [op for op, has in OPS.items() if every is not None and every not in has and op not in single]
    if without and multiprocessing.parent_process() is None and os.environ.get("RANK", "0") == "0":
        log.warning("%s: %s have no such backend and run by default", where, ", ".join(without))
    return Choice(every, single)


def _known(name: str, names: Collection[str], where: str, what: str) -> str:
    if name in names:
        return name
    near = difflib.get_close_matches(name, names, 1)
    hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(names)}"
    raise BackendError(f"{where}: no {what} is called {name!r}; {hint}")
