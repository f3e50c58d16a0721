"""What was read of a dataset, kept on disk: opening it again reads no annotation and lists no folder.

An index is one .npz file (arrays and JSON text, no pickle) under $CHASE_FAST_CACHE, else the user's cache
folder. It holds the stamp (modification time, size) of every annotation file, list and frame folder that
was read, and of the first frame of every video; opening compares them all, which opens none of them and
costs a few microseconds each: a tenth of a second for GOT-10k. A change of any of them, or another
version of the readers, and the dataset is read again.

A frame that is overwritten in place changes no folder: that is noticed when it is decoded, and by doctor
--data, which reads everything anew. Frames that were found broken are stamped themselves, so that repairing
one is noticed.
"""

import hashlib
import io
import json
import logging
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from chase_fast.data.seen import Seen, Stamp, stamp
from chase_fast.data.sequences import Problem, problem_of
from chase_fast.data.share import Share
from chase_fast.data.tables import TABLES, Table
from chase_fast.errors import ChaseError
from chase_fast.fields import load_arrays, load_object
from chase_fast.files import cache_folder, user_path, write_atomic

VERSION = 3  # counts changes of what readers find and of this file's format
FRESH_S = 2.0  # a file younger than this may change again within its time stamp's resolution: not kept
_THREADS = 8
_CHUNK = 1000

log = logging.getLogger("chase_fast.data")
_said: set[str] = set()


@dataclass(frozen=True)
class Found:
    """All that reading a dataset gives; see `sources.Source`."""

    table: Table
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    decisions: tuple[str, ...] = ()


def index_file(kind: str, path: str, split: str | None, share: Share | None = None) -> Path:
    """Where the index of a dataset lies."""
    root = os.path.abspath(user_path(path))
    if split and os.path.isfile(user_path(split)):
        split = os.path.abspath(user_path(split))
    digest = hashlib.sha256(
        json.dumps([VERSION, kind, root, split, share and str(share)]).encode()
    ).hexdigest()
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
        arrays = load_arrays(file, {"index": "u", "stamps": "i"})
        about = load_object(arrays["index"].tobytes(), str(file))
        seen, times = about.texts("seen"), arrays["stamps"]
        if times.shape != (len(seen), 2):
            raise ChaseError(f"{file} is damaged (its stamps)")
        table = TABLES[about.choice("table", TABLES)].from_arrays(arrays, str(file))
        problems = tuple(map(problem_of, about.many("problems")))
        found = Found(table, problems, tuple(about.texts("notes")), tuple(about.texts("decisions")))
    except FileNotFoundError:
        return None
    except ChaseError as e:
        _say_once(file, f"the index of a dataset cannot be used, it is read again: {e}")
        return None
    return found if _unchanged(dict(zip(seen, map(tuple, times.tolist())))) else None


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
        "decisions": found.decisions,
    }
    buffer = io.BytesIO()
    np.savez(
        buffer,
        index=np.frombuffer(json.dumps(about).encode(), np.uint8),
        stamps=np.array(list(stamps.values()), np.int64).reshape(-1, 2),
        **found.table.arrays(),  # type: ignore[arg-type]  # none is called allow_pickle
    )
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(file, buffer.getvalue())
    except (OSError, ChaseError) as e:
        _say_once(file.parent, f"the index of the dataset is not kept: {getattr(e, 'strerror', None) or e}")
