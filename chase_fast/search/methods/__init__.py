"""Search methods, a file each: how alpha is mixed, optimised and read. Free of torch until one is made.

`--method NAME` takes a file of this folder, or a class that `register_method("NAME")` has named.
"""

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

from chase_fast import imports
from chase_fast.errors import ChaseError, NeedsImport
from chase_fast.fields import short
from chase_fast.lazy import front_door

if TYPE_CHECKING:
    from chase_fast.recipes import SearchConfig
    from chase_fast.search.methods.base import Method

__all__ = ["METHODS", "Method", "check_method", "make_method", "register_method", "registered_by"]
front_door(__name__, {"Method": f"{__name__}.base"})

METHODS = tuple(m.name for m in pkgutil.iter_modules(__path__) if m.name != "base")
Kind = TypeVar("Kind", bound="type[Method]")
_registered: "dict[str, type[Method]]" = {}
_files: dict[str, str] = {}  # name -> the file that registered it, where that came by --import


def register_method(name: str) -> Callable[[Kind], Kind]:
    """Decorator: a `Method` class that `--method NAME` may name from then on; again replaces it.

    Raises:
        ChaseError: the name is no identifier, or that of a file of this folder.
    """

    def register(kind: Kind) -> Kind:
        if not name.isidentifier() or (name in METHODS and kind.__module__ != f"{__name__}.{name}"):
            raise ChaseError(
                f"cannot register search method {name!r}: choose an identifier that is not built in "
                f"({', '.join(METHODS)})"
            )
        _registered[name] = kind
        _files.pop(name, None)
        if file := imports.importing():
            _files[name] = file
        return kind

    return register


def registered_by(name: str) -> dict[str, str]:
    """{name: file}, where a file registered the method which a command imported."""
    return {name: _files[name]} if name in _files else {}


def check_method(name: str, files: Mapping[str, str] = MappingProxyType({})) -> None:
    """Raises ChaseError if no method has this name. files: name -> the file that once registered it."""
    if name in METHODS:
        return
    imports.load()
    if name in _registered:
        return
    if name in files:
        raise NeedsImport(
            f"search method {name} was registered by {files[name]}: give {imports.FLAG} {files[name]}"
        )
    known = ", ".join(dict.fromkeys((*METHODS, *_registered)))
    raise ChaseError(
        f"unknown search method {short(name)}: use one of {known}, or give the file that registers it, "
        f"{imports.FLAG} FILE.py (in Python call register_method first)"
    )


def make_method(config: "SearchConfig") -> "Method":
    """The method of a configuration.

    Raises:
        ChaseError: none has this name, or it cannot do what the configuration asks for.
    """
    check_method(config.method)
    if config.method in METHODS:
        importlib.import_module(f"{__name__}.{config.method}")
    return _registered[config.method](config)
