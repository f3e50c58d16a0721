"""The operations of the search space: the eight of DARTS by name, and those a user registers."""

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor, nn

from chase_fast import imports
from chase_fast.errors import ChaseError, NeedsImport
from chase_fast.fields import short
from chase_fast.kernels.mixed_op import KERNEL, POOLS

from .space import OPS

CONVOLUTIONS = tuple(KERNEL)
WEIGHT_FREE = ("none", *POOLS, "skip_connect")

_registered: dict[str, Callable[[int], nn.Module]] = {}
_files: dict[str, str] = {}  # name -> the file that registered it, where that came by --import


def register_operation(name: str, factory: Callable[[int], nn.Module]) -> None:
    """Adds an operation that cells may then use by name.

    Args:
        name: an identifier, none of OPS, no attribute of nn.Module; registering it again replaces it.
        factory: `factory(channels)` makes one module [N, C, h, w] -> [N, C, h, w]. Every edge gets its own;
            the search cell multiplies its output by the mixing weight as it is, so end it in a batch norm if
            it has weights.

    Raises:
        ChaseError: the name is taken or not an identifier.
    """
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


def make_registered(name: str, channels: int) -> nn.Module:
    """A new module of a registered operation."""
    return _registered[name](channels)


def run_registered(module: nn.Module, x: Tensor, groups: int, update_stats: bool) -> Tensor:
    """Runs a user's module on each group of the batch by itself: its batch norms see one group at a time.

    Raises:
        ChaseError: the module changes the shape.
    """
    batch_norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    norms = [m for m in batch_norms if m.track_running_stats]
    for norm in norms:  # in training, batch norm without tracking leaves its buffers alone
        norm.track_running_stats = update_stats or not module.training
    try:
        parts = [module(part) for part in x.chunk(groups if module.training else 1)]
    finally:
        for norm in norms:
            norm.track_running_stats = True
    y = parts[0] if len(parts) == 1 else torch.cat(parts)
    if y.shape != x.shape:
        raise ChaseError(
            f"{type(module).__name__} maps {list(x.shape)} to {list(y.shape)}: it must keep the shape"
        )
    return y
