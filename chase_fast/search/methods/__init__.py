"""Search methods, a file each: how alpha is mixed, optimised and read.

`--method NAME` takes a file of this folder, or a class that `register_method("NAME")` has named.
"""

import importlib
import pkgutil
from collections.abc import Callable
from typing import TypeVar

from chase_fast.errors import ChaseError
from chase_fast.fields import short
from chase_fast.recipes import SearchConfig
from chase_fast.search.methods.base import Method

__all__ = ["Method", "make_method", "method_names", "register_method"]

Kind = TypeVar("Kind", bound=type[Method])
_OWN = tuple(m.name for m in pkgutil.iter_modules(__path__) if m.name != "base")
_registered: dict[str, type[Method]] = {}


def register_method(name: str) -> Callable[[Kind], Kind]:
    """Decorator: a `Method` class that `--method NAME` may name from then on; again replaces it."""

    def register(kind: Kind) -> Kind:
        _registered[name] = kind
        return kind

    return register


def method_names() -> tuple[str, ...]:
    """Those of this folder, then the others that are registered."""
    return tuple(dict.fromkeys((*_OWN, *_registered)))


def make_method(config: SearchConfig) -> Method:
    """The method of a configuration.

    Raises:
        ChaseError: none has this name, or it cannot do what the configuration asks for.
    """
    name = config.method
    if name not in _registered and name in _OWN:
        importlib.import_module(f"{__name__}.{name}")
    if name not in _registered:
        raise ChaseError(
            f"unknown search method {short(name)}: use one of {', '.join(method_names())}, or call "
            "register_method first"
        )
    return _registered[name](config)
