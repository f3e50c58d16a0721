"""Which sequences a network was trained on: for its checkpoint in few bytes, and looked up by an evaluation.

A record is JSON, a list with one object per source:

* role: train or val; or init: a checkpoint that the training began from and that has no record itself
* spec: as on the command line; kind: of the dataset (of packed data: of what was packed)
* root: digest of its resolved folder, in hexadecimal
* count: of sequences; names: their digests, sorted, one after the other, in base64

A digest is 8 bytes of BLAKE2b of the UTF-8 text: 30,000 sequences are 320 kB. Still images and synthetic
video have no names, since nothing evaluates on them.
"""

import base64
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chase_fast.data.packed import PackedSequences
from chase_fast.data.sources import Source
from chase_fast.data.spec import parse_spec
from chase_fast.data.tables import VideoTable
from chase_fast.errors import ChaseError
from chase_fast.fields import Fields
from chase_fast.files import user_path

ROLES = ("train", "val", "init")
_SIZE = 8


@dataclass(frozen=True)
class Known:
    """A sequence that is evaluated: kind of its benchmark, name, and the folder of its frames."""

    kind: str
    name: str
    folder: str


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=_SIZE).digest()


def _root(path: str | Path) -> str:
    return _digest(str(Path(path).resolve())).hex()


def record(role: str, source: Source) -> dict[str, Any]:
    """What a checkpoint keeps of a source; role: train or val."""
    spec, names = parse_spec(source.spec), list[str]()
    if isinstance(source.sequences, PackedSequences):
        spec = parse_spec(source.sequences.source)
    if source.video and isinstance(source.sequences, VideoTable):
        names = source.sequences.names()
    elif source.video and isinstance(source.sequences, PackedSequences) and spec.kind != "synthetic":
        names = [source.sequences[k].name for k in range(len(source.sequences))]
    return {
        "role": role,
        "spec": source.spec,
        "kind": spec.kind,
        "root": "" if not spec.path else _root(user_path(spec.path)),
        "count": len(source.sequences),
        "names": base64.b64encode(b"".join(sorted(set(map(_digest, names))))).decode(),
    }


def begun(path: str, entries: Any) -> list[dict[str, Any]]:
    """What a checkpoint keeps of the one that its training began from, whose own record is `entries`.

    path: of that one; empty: the training began from none.
    """
    if not path or _read(entries) is not None:
        return entries if path else []
    return [{"role": "init", "spec": path, "kind": "", "root": "", "count": 0, "names": ""}]


def seen(entries: Any, sequences: Iterable[Known]) -> dict[str, list[str]] | None:
    """Role -> the names of those sequences that a network was trained or validated on; of the role init, the
    checkpoints of which this is not known.

    A sequence is one of a source if its name is there and either the benchmark is of the same kind, or its
    frames lie in the same folder.

    Args:
        entries: the record of its checkpoint, from a file.

    Returns:
        None where this is not known: there is no record, or it is not one.
    """
    if (sources := _read(entries)) is None:
        return None
    found: dict[str, list[str]] = {role: [] for role in ROLES}
    found["init"] = [s.spec for s in sources if s.role == "init"]
    for sequence in sequences:
        name, folder = _digest(sequence.name), Path(sequence.folder).resolve()
        above = {_root(f) for f in (folder, *folder.parents)}
        for role in dict.fromkeys(
            s.role for s in sources if name in s.names and (s.kind == sequence.kind or s.root in above)
        ):
            found[role].append(sequence.name)
    return found


@dataclass(frozen=True)
class _Source:
    role: str
    spec: str
    kind: str
    root: str
    names: frozenset[bytes]


def _read(entries: Any) -> list[_Source] | None:
    """A record; None if it is none."""
    if not isinstance(entries, list):
        return None
    try:
        return [_source(Fields.of(e, "trained_on")) for e in entries]
    except (ChaseError, ValueError):
        return None


def _source(entry: Fields) -> _Source:
    """Raises ChaseError or ValueError."""
    data = base64.b64decode(entry.text("names"), validate=True)
    names = frozenset(data[k : k + _SIZE] for k in range(0, len(data), _SIZE))
    spec, kind, root = map(entry.text, ("spec", "kind", "root"))
    return _Source(entry.choice("role", ROLES), spec, kind, root, names)
