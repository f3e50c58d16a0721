"""What was read of a dataset, kept on disk: opening it again reads no annotation and lists no folder.

An index is one .npz file (arrays and JSON text, no pickle) under $CHASE_FAST_CACHE, else the user's cache
folder. It holds the stamp (modification time, size) of every annotation file, list and frame folder that was
read; opening compares them all, which opens none of them and costs a few microseconds each: a tenth of a
second for GOT-10k. A change of any of them, or another version of the readers, and the dataset is read again.

A frame that is overwritten in place changes no folder: that is noticed when it is decoded, and by doctor
--data, which reads everything anew. Frames that were found broken are stamped themselves, so that repairing
one is noticed.
"""

import hashlib
import io
import json
import logging
import os
import zipfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from chase_fast.data.readers.layout import Seen, Stamp, stamp
from chase_fast.data.sequences import Problem
from chase_fast.data.tables import TABLES, Table
from chase_fast.errors import ChaseError
from chase_fast.files import cache_folder, user_path, write_atomic

VERSION = 1  # counts changes of what readers find and of this file's format
FRESH_S = 2.0  # a file younger than this may change again within its time stamp's resolution: not kept
_THREADS = 8
_CHUNK = 1000

log = logging.getLogger("chase_fast.data")
_said: set[str] = set()


@dataclass(frozen=True)
class Found:
    """All that reading a dataset gives."""

    table: Table
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()


def index_file(kind: str, path: str, split: str | None) -> Path:
    """Where the index of a dataset lies."""
    root = os.path.abspath(user_path(path))
    if split and os.path.isfile(user_path(split)):
        split = os.path.abspath(user_path(split))
    digest = hashlib.sha256(json.dumps([VERSION, kind, root, split]).encode()).hexdigest()
    return cache_folder() / "index" / f"{kind}-{digest[:24]}.npz"


def _say_once(about: Path, text: str) -> None:
    if str(about) not in _said:
        _said.add(str(about))
        log.warning(text)


def _unchanged(stamps: Mapping[str, Stamp]) -> bool:
    items = list(stamps.items())
    chunks = [items[i : i + _CHUNK] for i in range(0, len(items), _CHUNK)]
    with ThreadPoolExecutor(_THREADS) as pool:  # on a network disk every look waits for the server
        return all(pool.map(lambda chunk: all(stamp(name) == was for name, was in chunk), chunks))


def load(file: Path) -> Found | None:
    """What was kept, if it is whole and nothing has changed since; never raises."""
    try:
        with np.load(file, allow_pickle=False) as archive:
            arrays = dict(archive)
        about = json.loads(arrays.pop("index").tobytes().decode())
        times = arrays.pop("stamps")
        stamps = {name: (int(t), int(s)) for name, (t, s) in zip(about["seen"], times, strict=True)}
        table = TABLES[about["table"]].from_arrays(arrays)
        problems = tuple(Problem(**p) for p in about["problems"])
        found = Found(table, problems, tuple(about["notes"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as e:
        _say_once(file, f"the index {file} cannot be used ({type(e).__name__}): the dataset is read again")
        return None
    return found if _unchanged(stamps) else None


def save(file: Path, found: Found, seen: Seen, started: float) -> None:
    """Keeps what was read; a folder that cannot be written to is said once and is no error.

    Args:
        started: time.time() before the first file was read.
    """
    for problem in found.problems:
        if problem.file:
            seen.add(problem.file)
    newest = max((t for t, _ in seen.stamps.values()), default=0)
    if newest > (started - FRESH_S) * 1e9:
        return
    stamps = dict(sorted(seen.stamps.items()))  # threads saw them in any order
    about = {
        "table": found.table.kind,
        "seen": list(stamps),
        "problems": [asdict(p) for p in found.problems],
        "notes": found.notes,
    }
    buffer = io.BytesIO()
    np.savez(
        buffer,
        index=np.frombuffer(json.dumps(about).encode(), np.uint8),
        stamps=np.array(list(stamps.values()), np.int64).reshape(-1, 2),
        **found.table.arrays(),
    )
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(file, buffer.getvalue())
    except (OSError, ChaseError) as e:
        _say_once(file.parent, f"the index of the dataset is not kept: {getattr(e, 'strerror', None) or e}")
