"""Data from files, before it is trusted: JSON and npz, every value checked where it is taken.

A damaged file, or one of somebody else, ends in a ChaseError of one line that names the file and the field:

    about = load_object(file.read_bytes(), str(file))
    epoch = about.integer("epoch", low=0)
    boxes = [entry.numbers("bbox", 4) for entry in about.many("annotations")]
"""

import difflib
import json
import math
import os
import sys
import typing
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np

from chase_fast.errors import ChaseError
from chase_fast.files import read_bytes

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T")
Flags = TypeVar("Flags", bound="DataclassInstance")
_REQUIRED: Any = object()
_DAMAGED = (OSError, ValueError, KeyError, EOFError, NotImplementedError, MemoryError, OverflowError)
_DAMAGED_ZIP = (*_DAMAGED, RecursionError, zipfile.BadZipFile, zlib.error)


def short(value: Any) -> str:
    """A value for a message: one line of at most 60 characters, whatever it holds."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10**25:
        return f"an integer of more than 25 digits ({sys.getsizeof(value)} bytes)"
    if isinstance(value, list | dict) and len(value) > 8:
        return f"a {'list' if isinstance(value, list) else 'mapping'} of {len(value)} entries"
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # deeply nested; integers of thousands of digits in a list
        return f"a {type(value).__name__}"
    text = " ".join(text.split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def load_json(data: bytes | str, where: str, object_hook: Callable[[dict], Any] | None = None) -> Any:
    """JSON -> Python. where: the file, for the message.

    Raises:
        ChaseError: not JSON, not UTF-8, or nested deeper than Python can read.
    """
    try:
        text = data.decode("utf-8-sig") if isinstance(data, bytes) else data
        return json.loads(text, object_hook=object_hook)
    except RecursionError:
        raise ChaseError(f"{where} is nested too deeply to be a file of this kind") from None
    except ValueError as e:
        raise ChaseError(f"{where} is no complete JSON ({short(str(e))[1:-1]})") from None


def load_object(data: bytes | str, where: str) -> "Fields":
    """A JSON object; raises ChaseError where it is something else."""
    return Fields.of(load_json(data, where), where)


def read_object(file: Path) -> "Fields":
    """A file that holds a JSON object; raises FileNotFoundError where there is none, else ChaseError."""
    try:
        data = read_bytes(file)
    except FileNotFoundError:
        raise
    except OSError as e:
        raise ChaseError(f"{file} cannot be read: {e.strerror or e}") from None
    return load_object(data, str(file))


class Fields(Mapping[str, Any]):
    """An object of a JSON file. Plain access gives values as they are; the methods check them.

    Every method takes the field's name and `default`, what it gives where the field is missing; without one a
    missing field is an error. where: file (and place in it) for messages.
    """

    def __init__(self, values: Mapping[str, Any], where: str):
        self.values_, self.where = values, where

    @classmethod
    def of(cls, value: Any, where: str) -> "Fields":
        """Raises ChaseError unless `value` is an object."""
        if not isinstance(value, dict):
            raise ChaseError(f"{where} holds {short(value)}, expected an object {{...}}")
        return cls(value, where)

    def __getitem__(self, name: str) -> Any:
        return self.values_[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.values_)

    def __len__(self) -> int:
        return len(self.values_)

    def wrong(self, name: str, expected: str) -> ChaseError:
        """The error of a field that is there and not as expected."""
        return ChaseError(f"{self.where}: {name} is {short(self.values_.get(name))}, expected {expected}")

    def _take(self, name: str, default: T, expected: str, good: Callable[[Any], bool]) -> Any:
        if name not in self.values_:
            if default is _REQUIRED:
                raise ChaseError(f"{self.where}: {name} is missing, expected {expected}")
            return default
        value = self.values_[name]
        if not good(value):
            raise self.wrong(name, expected)
        return value

    def text(self, name: str, default: Any = _REQUIRED) -> str:
        return self._take(name, default, "a text", lambda v: isinstance(v, str))

    def choice(self, name: str, options: Collection[str], default: Any = _REQUIRED) -> str:
        expected = f"one of {', '.join(options)}"
        return self._take(name, default, expected, lambda v: isinstance(v, str) and v in options)

    def flag(self, name: str, default: Any = _REQUIRED) -> bool:
        return self._take(name, default, "true or false", lambda v: isinstance(v, bool))

    def integer(self, name: str, low: int = -(2**63), high: int = 2**63 - 1, default: Any = _REQUIRED) -> int:
        """An integer in low..high; without limits one of 64 bits."""
        bounds = f" of at least {low}" if high == 2**63 - 1 else f" from {low} to {high}"
        expected = "an integer" + ("" if low == -(2**63) else bounds)
        return self._take(name, default, expected, lambda v: type(v) is int and low <= v <= high)

    def number(
        self, name: str, low: float = -math.inf, high: float = math.inf, default: Any = _REQUIRED
    ) -> float:
        """A finite number in low..high."""
        bounds = "" if low == -math.inf and high == math.inf else f" from {low:g} to {high:g}"
        value = self._take(name, default, f"a number{bounds}", lambda v: is_number(v) and low <= v <= high)
        return value if value is default else float(value)

    def entries(self, name: str, default: Any = _REQUIRED) -> list[Any]:
        return self._take(name, default, "a list", lambda v: isinstance(v, list))

    def texts(self, name: str, default: Any = _REQUIRED) -> list[str]:
        expected = "a list of texts"
        return self._take(
            name, default, expected, lambda v: isinstance(v, list) and all(isinstance(t, str) for t in v)
        )

    def numbers(self, name: str, count: int | None = None, default: Any = _REQUIRED) -> list[float]:
        """Finite numbers, `count` of them."""
        expected = f"a list of {'' if count is None else f'{count} '}numbers"
        values = self._take(
            name,
            default,
            expected,
            lambda v: isinstance(v, list) and len(v) in (count, len(v) if count is None else count)
            and all(map(is_number, v)),
        )  # fmt: skip
        return values if values is default else [float(v) for v in values]

    def inner(self, name: str, default: Any = _REQUIRED) -> "Fields":
        """An object in this one."""
        value = self._take(name, default, "an object {...}", lambda v: isinstance(v, dict))
        return Fields(value, f"{self.where}: {name}") if isinstance(value, dict) else value

    def typed(self, name: str, hint: Any) -> Any:
        """A value for a field of a dataclass with this annotation: text, number, flag, Path, Literal, texts,
        and each of them or None; lists become tuples."""
        inner = [t for t in typing.get_args(hint) if t is not type(None)]
        if type(None) in typing.get_args(hint):
            return None if self.values_.get(name, self) is None else self.typed(name, inner[0])
        if typing.get_origin(hint) is Literal:
            if self.values_.get(name) not in inner or type(self.values_[name]) is not type(inner[0]):
                raise self.wrong(name, f"one of {', '.join(map(str, inner))}")
            return self.values_[name]
        if hint == tuple[str, ...]:
            return tuple(self.texts(name))
        if hint is Path:
            return Path(self.text(name))
        take: dict[Any, Callable[[str], Any]]
        take = {str: self.text, bool: self.flag, int: self.integer, float: self.number}
        return take[hint](name)

    def many(self, name: str, default: Any = _REQUIRED) -> list["Fields"]:
        """A list of objects."""
        return [Fields.of(v, f"{self.where}: {name}[{k}]") for k, v in enumerate(self.entries(name, default))]


def changed(values: Flags, others: Mapping[str, Any]) -> Flags:
    """A dataclass of flags with other values, each of the type of its flag: a text stands for a tuple of
    one, a list for a tuple, a path for a text.

    Raises:
        ChaseError: names the first value that is unknown or of another type.
    """
    kind = type(values)
    hints = typing.get_type_hints(kind)
    if unknown := [name for name in others if name not in hints]:
        near = difflib.get_close_matches(unknown[0], hints) or sorted(hints)
        raise ChaseError(f"{kind.__name__} has no value {unknown[0]}, but {', '.join(near)}")
    plain = {name: os.fspath(v) if isinstance(v, os.PathLike) else v for name, v in others.items()}
    for name, value in plain.items():
        if hints[name] == tuple[str, ...] and isinstance(value, str | tuple):
            plain[name] = [value] if isinstance(value, str) else list(value)
    fields = Fields(plain, kind.__name__)
    return replace(values, **{name: fields.typed(name, hints[name]) for name in plain})


def is_number(value: Any) -> bool:
    """A finite int or float that float() takes; no bool."""
    if type(value) is int:
        return -(10**308) < value < 10**308
    return isinstance(value, float) and math.isfinite(value)


def load_arrays(file: Path, kinds: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Arrays of an npz that this package wrote.

    kinds: name -> allowed dtype kinds (`"f"`, `"iu"`, `"V"`; see numpy.dtype.kind). Further arrays are kept.
    np.savez stores without compression, so no array can be larger than the file.

    Raises:
        FileNotFoundError: there is no such file.
        ChaseError: it is damaged, compressed, or lacks an array of these.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise ValueError("its arrays are compressed")
        with np.load(file, allow_pickle=False) as archive:
            arrays = dict(archive)
        if any(not isinstance(a, np.ndarray) for a in arrays.values()):  # numpy gives bytes where no array is
            raise ValueError("it holds something else than arrays")
    except FileNotFoundError:
        raise
    except _DAMAGED_ZIP as e:
        reason = short(str(getattr(e, "strerror", None) or e))[1:-1] or type(e).__name__
        raise ChaseError(f"{file} is damaged ({reason})") from None
    for name, kind in kinds.items():
        if name not in arrays:
            raise ChaseError(f"{file} is damaged (the array {name} is missing)")
        if arrays[name].dtype.kind not in kind:
            raise ChaseError(f"{file} is damaged (the array {name} holds {arrays[name].dtype})")
    return arrays
