"""Reads torch checkpoint files of unknown origin without running anything they contain.

A pickle names classes and functions and says what to call with what. Here dictionaries, storages and tensors
become inert records, every other name becomes a stand-in that keeps nothing and does nothing. Real code is
thus never within reach of the file. Memory stays within a small multiple of the file's size: the unpickler is
Python's, not C's, whose memo can be made to grow without limit; reads end at the end of the file; archives
are uncompressed. Both formats of torch.save are read: the zip archive (since torch 1.6) and the stream of
pickles before it. (torch.load(weights_only=True) takes neither classes that do not exist here nor functions.)
"""

import io
import pickle
import struct
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import torch

from chase_fast.errors import ChaseError

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # at the head of the older format
_COUNT = struct.Struct("<q")  # elements, in front of every storage of the older format
_DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
}


class Inert:
    """Stands for any class, function or object: takes every call and every content, keeps nothing."""

    __slots__ = ()

    def __new__(cls, *args: Any, **kwargs: Any) -> "Inert":
        return object.__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any):
        pass

    def __call__(self, *args: Any, **kwargs: Any) -> "Inert":
        return self

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, value: Any) -> None:
        pass

    extend = add = append


Key = str | int | float | bool | None


class Mapping(dict):
    """Stands for a dictionary. Attributes that a file sets on it (torch's `_metadata`) are dropped, and keys
    that are no plain values: to hash nested tuples can take for ever."""

    __slots__ = ()

    def __setitem__(self, key: Any, value: Any) -> None:
        if isinstance(key, Key):
            super().__setitem__(key, value)

    def __setstate__(self, state: Any) -> None:
        pass


class StorageType(Inert):
    """Stands for torch.FloatStorage and the like."""

    __slots__ = ("dtype",)

    def __init__(self, dtype: torch.dtype):
        self.dtype = dtype


class Storage(Inert):
    """A storage whose data is read from the file when it is asked for."""

    __slots__ = ("_data", "_read", "count", "dtype", "key")

    def __init__(self, key: str, dtype: torch.dtype, count: int, read: "Callable[[Storage], bytes]"):
        self.key, self.dtype, self.count, self._read = key, dtype, count, read
        self._data: torch.Tensor | None = None

    @property
    def nbytes(self) -> int:
        return self.count * self.dtype.itemsize

    def data(self) -> torch.Tensor:
        """[count], on the CPU."""
        if self._data is None:
            content = bytearray(self._read(self))
            self._data = torch.frombuffer(content, dtype=self.dtype) if content else torch.empty(0)
        return self._data


class TensorRecord(Inert):
    """What torch's function that rebuilds a tensor is called with; sizes in elements."""

    __slots__ = ("offset", "size", "storage", "stride")

    def __init__(self, storage: Any, offset: Any, size: Any, stride: Any, *rest: Any):
        self.storage, self.offset, self.size, self.stride = storage, offset, size, stride

    def tensor(self) -> torch.Tensor:
        """The tensor on the CPU.

        Raises:
            ValueError, TypeError, RuntimeError: the record is senseless, or the file lacks its data.
        """
        if not isinstance(self.storage, Storage):
            raise ValueError("a tensor without storage")
        return self.storage.data().as_strided(self.size, self.stride, self.offset)  # checks the bounds


class Parameter(Inert):
    """torch.nn.Parameter(data, ...) is its data."""

    __slots__ = ()

    def __new__(cls, data: Any, *rest: Any) -> Any:
        return data


class FromType(Inert):
    """A tensor of a subclass, or one with attributes, is the plain tensor."""

    __slots__ = ()

    def __new__(cls, function: Any, kind: Any, arguments: Any, *rest: Any) -> Any:
        return function(*arguments) if function in (TensorRecord, Parameter) else Inert()


_KNOWN: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): Mapping,
    ("torch._utils", "_rebuild_tensor"): TensorRecord,
    ("torch._utils", "_rebuild_tensor_v2"): TensorRecord,
    ("torch._utils", "_rebuild_parameter"): Parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): Parameter,
    ("torch._tensor", "_rebuild_from_type_v2"): FromType,
    ("torch.nn.parameter", "Parameter"): Parameter,
    **{("torch", name): StorageType(dtype) for name, dtype in _DTYPES.items()},
}


class _Bounded:
    """A file whose reads ask for no more than is left of it."""

    def __init__(self, file: io.BufferedIOBase, size: int):
        self._file, self._size = file, size
        self.readline = file.readline

    def read(self, count: int) -> bytes:
        return self._file.read(min(count, max(self._size - self._file.tell(), 0)))

    def readinto(self, buffer: bytearray) -> int:
        return self._file.readinto(buffer)


class _Unpickler(pickle._Unpickler):
    """`read(storage)` gives the bytes of a storage, later."""

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(pickle._Unpickler.dispatch)
    # of the base, unknown to its stubs: the stack, what is on it above the last mark, and bytes of the file
    append: Callable[[Any], None]
    pop_mark: Callable[[], list[Any]]
    read: Callable[[int], bytes]

    def __init__(self, file: io.BufferedIOBase, size: int, read: Callable[[Storage], bytes] | None = None):
        super().__init__(_Bounded(file, size), encoding="latin1")
        self._read, self._size = read, size
        self.storages: dict[str, Storage] = {}

    def load_empty_dictionary(self) -> None:
        self.append(Mapping())

    def load_dict(self) -> None:
        items, made = self.pop_mark(), Mapping()
        for key, value in zip(items[::2], items[1::2], strict=True):
            made[key] = value
        self.append(made)

    def load_empty_set(self) -> None:
        self.append(Inert())

    def load_frozenset(self) -> None:
        self.pop_mark()
        self.append(Inert())

    def load_bytearray8(self) -> None:
        (count,) = struct.unpack("<Q", self.read(8))
        self.append(self.read(count))

    dispatch |= {
        pickle.EMPTY_DICT[0]: load_empty_dictionary,
        pickle.DICT[0]: load_dict,
        pickle.EMPTY_SET[0]: load_empty_set,
        pickle.FROZENSET[0]: load_frozenset,
        pickle.BYTEARRAY8[0]: load_bytearray8,
    }

    def find_class(self, module: str, name: str) -> Any:
        return _KNOWN.get((module, name), Inert)

    def persistent_load(self, pid: Any) -> Any:
        """('storage', type, key, device, count), with None behind in the older format; or a class."""
        if type(pid) is not tuple or not pid or pid[0] != "storage":
            return Inert
        _, kind, key, _, count, *view = pid
        if not isinstance(kind, StorageType):  # of a type that no network here has
            return Inert()
        if type(key) is not str or type(count) is not int or count < 0:
            raise ValueError("a storage without a key or a size")
        if view not in ([], [None]):
            raise ValueError("a storage that is part of another one")
        if self._read is None:
            raise ValueError("a storage where there can be none")
        made = self.storages.setdefault(key, Storage(key, kind.dtype, count, self._read))
        if (made.dtype, made.count) != (kind.dtype, count):
            raise ValueError(f"storage {key} has two kinds")
        return made


@contextmanager
def open_checkpoint(path: Path, what: str = "checkpoint") -> Iterator[Any]:
    """What a file of torch.save holds, with records for tensors; `TensorRecord.tensor()` works inside the
    `with` block.

    Args:
        what: name of the file in messages.

    Raises:
        ChaseError: it is no such file, or damaged; errors inside the block that damage explains, too.
    """
    try:
        with open(path, "rb") as file:
            size, head = path.stat().st_size, file.read(64)
            file.seek(0)
            if head.startswith(b"PK"):
                with zipfile.ZipFile(file) as archive:
                    yield _load_archive(archive, size)
            elif kind := _other_kind(head):
                raise ChaseError(f"{what} {path}: is {kind}")
            else:
                yield _load_stream(file, size)
    except ChaseError:
        raise
    except Exception as e:  # damaged pickles and archives fail in a dozen ways
        reason = (str(e).strip() or type(e).__name__).splitlines()[0][:100]
        raise ChaseError(
            f"{what} {path}: cannot be read ({reason}): it is no file of torch.save, or incomplete; get "
            "it again"
        ) from None


def _other_kind(head: bytes) -> str | None:
    """What else is called a checkpoint by mistake."""
    text = head.lstrip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page: the download has failed; get the file again"
    if text.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS, not the file: run git lfs pull"
    if head.startswith(b"\x89HDF"):
        return "an HDF5 file (Keras), no checkpoint of torch"
    if b"onnx" in head or (head[:1] == b"\x08" and b"pytorch" in head):
        return "an ONNX file, no checkpoint of torch: give the checkpoint that it was exported from"
    if head.startswith(b"\x1f\x8b"):
        return "compressed by gzip: unpack it first"
    return None


def _load_archive(archive: zipfile.ZipFile, size: int) -> Any:
    entries = archive.infolist()
    if any(e.filename.endswith("constants.pkl") for e in entries):
        raise ValueError("a TorchScript archive; save the state_dict() of the network instead")
    stored = all(e.compress_type == zipfile.ZIP_STORED for e in entries)
    if not stored or sum(e.file_size for e in entries) > size:
        raise ValueError("its entries are compressed or overlap; torch stores them plainly")
    pickles = [name for name in archive.namelist() if name.rpartition("/")[2] == "data.pkl"]
    if len(pickles) != 1:
        raise ValueError("an archive without data.pkl")
    root = pickles[0].removesuffix("data.pkl")
    if f"{root}byteorder" in archive.namelist():
        _check_byte_order(archive.read(f"{root}byteorder") == b"little")

    def read(storage: Storage) -> bytes:
        entry = archive.getinfo(f"{root}data/{storage.key}")
        if entry.file_size != storage.nbytes:
            raise ValueError(f"storage {storage.key} has another size")
        return archive.read(entry)

    content = archive.read(pickles[0])
    return _Unpickler(io.BytesIO(content), len(content), read).load()


def _load_stream(file: io.BufferedIOBase, size: int) -> Any:
    if _Unpickler(file, size).load() != _MAGIC or _Unpickler(file, size).load() != _PROTOCOL:
        raise ValueError("no header of torch")
    _check_byte_order(_Unpickler(file, size).load()["little_endian"])
    offsets: dict[str, int] = {}

    def read(storage: Storage) -> bytes:
        file.seek(offsets[storage.key])
        return file.read(storage.nbytes)

    unpickler = _Unpickler(file, size, read)
    content = unpickler.load()
    keys = _Unpickler(file, size).load()
    start = file.tell()
    for key in keys:
        storage = unpickler.storages[key]
        file.seek(start)
        (count,) = _COUNT.unpack(file.read(_COUNT.size))
        offsets[key], start = start + _COUNT.size, start + _COUNT.size + storage.nbytes
        if count != storage.count or start > size:
            raise ValueError(f"the data of storage {key} is cut off")
    return content


def _check_byte_order(little: bool) -> None:
    if little != (sys.byteorder == "little"):
        raise ValueError("written on a machine of the other byte order")
