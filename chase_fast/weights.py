"""State dicts in the files of any training code: which dictionary of a file holds them, under which prefix.

A network is known by its marks, a few of its keys. They are looked for in the file's dictionary and up to two
levels below it ({"state_dict": ...}, {"model": {"net": ...}}), and behind a prefix (`model.`, `net.`). What
wrappers put into names (torch.compile's `_orig_mod`, DataParallel's `module`, ...) is taken out first. What
was done is said in one line; two places that both have the marks are refused.
"""

import logging
import struct
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from chase_fast.errors import ChaseError
from chase_fast.files import check_file
from chase_fast.unpickle import TensorRecord, open_checkpoint

WRAPPERS = ("_orig_mod", "module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
COUNTER = "n_averaged"  # that torch's AveragedModel keeps beside the network
DEPTH = 2  # levels of dictionaries below the file's own

log = logging.getLogger("chase_fast")


@dataclass(frozen=True)
class Found:
    """One place in a file that has the marks: the dictionaries on the way to it, the prefix of its names, its
    tensors without prefix and wrappers, and how many others stand beside them."""

    path: tuple[str, ...]
    prefix: str
    state: dict[str, Any]
    others: int

    @property
    def place(self) -> str:
        return f"{'/'.join(self.path) or 'the file'}{f', names behind {self.prefix}' if self.prefix else ''}"


def is_safetensors(path: Path) -> bool:
    """By its content (the length of a JSON header, and the header), else by its ending."""
    with open(path, "rb") as f:
        head = f.read(9)
    if len(head) == 9 and head[8:] == b"{" and struct.unpack("<Q", head[:8])[0] <= path.stat().st_size:
        return True
    return path.suffix == ".safetensors" and not head.startswith((b"PK", b"\x80"))


def read_safetensors(path: Path, what: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata; raises ChaseError if the file is damaged."""
    from safetensors import safe_open

    try:
        with safe_open(path, "pt") as f:
            return {name: f.get_tensor(name) for name in f.keys()}, f.metadata() or {}  # noqa: SIM118
    except Exception as e:  # types that this torch or safetensors does not know fail in their own ways
        reason = (str(e).strip() or type(e).__name__).splitlines()[0][:100]
        raise ChaseError(f"{what} {path}: cannot be read ({reason}): damaged or incomplete") from None


@contextmanager
def open_weights(path: Path, what: str) -> Iterator[Any]:
    """What a file of torch.save or safetensors holds; tensors, or records with `tensor()` that works within.

    Raises:
        ChaseError: no such file, or damaged.
    """
    check_file(path, what)
    if is_safetensors(path):
        yield read_safetensors(path, what)[0]
        return
    with open_checkpoint(path, what) as content:
        yield content


def find(content: Any, marks: Sequence[str], where: str, usual: Collection[str] = ()) -> Found | None:
    """The place in `content` that has all the marks; None if there is none.

    Args:
        usual: names under which the weights may stand without a word.

    Raises:
        ChaseError: there are several.
    """
    found: list[Found] = []
    seen: list[dict[str, Any]] = []
    for path, table in _tables(content, ()):
        if any(table is other or _same(table, other) for other in seen):  # one dictionary under two names
            continue
        seen.append(table)
        found += _places(path, table, marks, where)
    if len(found) > 1:
        raise ChaseError(
            f"{where}: holds several sets of weights ({'; '.join(f.place for f in found[:4])}): save the one "
            "that you want alone, with torch.save"
        )
    if found and ({*found[0].path} - {*usual} or found[0].prefix or found[0].others):
        others = f", {found[0].others} others left out" if found[0].others else ""
        log.warning("%s: took the %d tensors of %s%s", where, len(found[0].state), found[0].place, others)
    return found[0] if found else None


def _same(one: Mapping[str, Any], two: Mapping[str, Any]) -> bool:
    return one.keys() == two.keys() and all(one[key] is two[key] for key in one)


def _tables(content: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Every dictionary with tensors under names, and where it is."""
    if not isinstance(content, Mapping):
        return
    named = {k: v for k, v in content.items() if isinstance(k, str)}
    tensors = {k: v for k, v in named.items() if isinstance(v, Tensor | TensorRecord)}
    if tensors:
        yield path, tensors
    if len(path) < DEPTH:
        for key, value in named.items():
            yield from _tables(value, (*path, key))


def _places(path: tuple[str, ...], table: dict[str, Any], marks: Sequence[str], where: str) -> list[Found]:
    clean: dict[str, Any] = {}
    for key, value in table.items():
        if key.endswith(COUNTER):
            continue
        name = ".".join(part for part in key.split(".") if part not in WRAPPERS)
        if name in clean and clean[name] is not value:
            raise ChaseError(f"{where}: has two tensors {name}, but for {', '.join(WRAPPERS)} in their names")
        clean[name] = value
    first = marks[0]
    prefixes = [name.removesuffix(first) for name in clean if name == first or name.endswith(f".{first}")]
    found = []
    for prefix in prefixes:
        if all(prefix + mark in clean for mark in marks):
            state = {k.removeprefix(prefix): v for k, v in clean.items() if k.startswith(prefix)}
            found.append(Found(path, prefix, state, len(clean) - len(state)))
    return found


def tensors_of(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Tensors of a place; records are read from their file, inside `open_weights`."""
    return {k: v.tensor() if isinstance(v, TensorRecord) else v for k, v in state.items()}


def check_types(own: Mapping[str, Tensor], state: Mapping[str, Tensor], where: str) -> None:
    """Raises ChaseError unless tensors of equal shapes can be the weights `own`: finite floats."""
    for key, like in own.items():
        if key not in state or not like.is_floating_point():
            continue
        value = state[key]
        if not value.is_floating_point():
            raise ChaseError(f"{where}: {key} holds {value.dtype}, not floating point numbers")
        if not value.to(like.dtype).isfinite().all():
            raise ChaseError(f"{where}: {key} holds NaN or infinity, the file is damaged")
