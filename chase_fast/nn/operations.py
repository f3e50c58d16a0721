"""The operations of a search space by name: the eight of DARTS, and those of users. Free of torch."""

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from chase_fast import imports
from chase_fast.errors import ChaseError, NeedsImport
from chase_fast.fields import short

from .space import OPS

if TYPE_CHECKING:
    from torch import nn

_registered: dict[str, "Callable[[int], nn.Module]"] = {}
_files: dict[str, str] = {}  # name -> the file that registered it, where that came by --import


def register_operation(name: str, factory: "Callable[[int], nn.Module]") -> None:
    """Adds an operation that cells may then use by name.

    Args:
        name: an identifier, none of OPS, no attribute of nn.Module; registering it again replaces it.
        factory: `factory(channels)` makes one module [N, C, h, w] -> [N, C, h, w]. Every edge gets its own;
            the search cell multiplies its output by the mixing weight as it is, so end it in a batch norm if
            it has weights.

    Raises:
        ChaseError: the name is taken or not an identifier.
    """
    from torch import nn

    if name in OPS or not name.isidentifier() or hasattr(nn.Module(), name):
        raise ChaseError(
            f"cannot register operation {name!r}: choose an identifier that is neither a built-in operation "
            "nor an attribute of torch modules"
        )
    _registered[name] = factory
    _files.pop(name, None)
    if file := imports.importing():
        _files[name] = file


def known_operations() -> tuple[str, ...]:
    """Names of all operations: OPS, then the registered ones."""
    imports.load()
    return (*OPS, *_registered)


def registered_by(names: Iterable[str]) -> dict[str, str]:
    """Of these operations those that a file registered which a command imported, and its name."""
    return {name: _files[name] for name in sorted(set(names)) if name in _files}


def check_operation(name: object, files: Mapping[str, str] = MappingProxyType({})) -> None:
    """Raises ChaseError if no operation has this name. files: name -> the file that once registered it."""
    if isinstance(name, str) and (name in OPS or name in known_operations()):
        return
    if isinstance(name, str) and name in files:
        file = files[name]
        raise NeedsImport(f"operation {name} was registered by {file}: give {imports.FLAG} {file}")
    known = ", ".join(known_operations())
    raise ChaseError(
        f"unknown operation {short(name)}: use one of {known}, or give the file that registers it, "
        f"{imports.FLAG} FILE.py (in Python call register_operation first)"
    )


def make_registered(name: str, channels: int) -> "nn.Module":
    """A new module of a registered operation."""
    return _registered[name](channels)
