"""What is packed: the options, the sequences of the source, and which frames go into which shard."""

import hashlib
import json
import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from chase_fast.data.annotations import has_size
from chase_fast.data.packed import PackedSequence
from chase_fast.data.reach import Limits
from chase_fast.data.sequences import FileSequence, Sequence
from chase_fast.data.sources import Source, open_sources
from chase_fast.data.spec import parse_spec
from chase_fast.data.synthetic import SyntheticSequence
from chase_fast.errors import ChaseError
from chase_fast.files import user_path

KEEP = 24  # frames of a sequence that `every` leaves at least: a sample wants more than 12 of 3 + 3 frames


@dataclass(frozen=True)
class Options:
    """How a dataset is packed; the same options and the same source give the same bytes.

    `every`: one of so many visible frames is stored, but at least KEEP of each sequence.
    `sequences`: only so many, evenly spread over the source; None: all.
    """

    source: str
    limits: Limits
    detail: float = 1.5
    format: str = "raw"
    quality: int = 95
    every: int = 1
    sequences: int | None = None
    skip_bad: bool = False


@dataclass(frozen=True)
class Table:
    """The sequences to be packed. Frames of all of them lie one after the other.

    `numbers` [N] are their places in the source; `ends` [N]; `boxes` [sum T, 4] float64; `stored` [sum T].
    """

    numbers: np.ndarray
    names: list[str]
    folders: list[str]
    ends: np.ndarray
    boxes: np.ndarray
    stored: np.ndarray
    video: bool

    @property
    def frames(self) -> np.ndarray:
        """Places of the stored frames in the concatenation of all sequences."""
        return np.flatnonzero(self.stored)

    def place(self, flat: int) -> tuple[int, int]:
        """Place of a frame -> number of its sequence in the source, frame in it."""
        row = int(np.searchsorted(self.ends, flat, side="right"))
        return int(self.numbers[row]), flat - (int(self.ends[row - 1]) if row else 0)

    def digest(self) -> str:
        """What tells this table from that of a source that has changed."""
        digest = hashlib.sha256(json.dumps([self.names, self.video]).encode())
        for array in (self.ends.astype("<i8"), self.boxes.astype("<f8"), self.stored):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


def full_source(text: str) -> str:
    """The source with the whole path, as it is written down.

    Raises:
        ChaseError: it has a weight, is packed itself, or is no source.
    """
    spec = parse_spec(text)
    if spec.weight != 1:
        raise ChaseError(f"{text}: a weight is given where the packed dataset is used: packed:DIR*0.5")
    if spec.kind == "packed":
        raise ChaseError(f"{text}: it is packed already; name what it was packed from")
    if spec.kind == "synthetic":
        return f"synthetic:{spec.split}"
    path = os.path.abspath(user_path(spec.path))
    split = spec.split
    if split and os.path.isfile(user_path(split)):
        split = os.path.abspath(user_path(split))
    return ":".join(str(part) for part in (spec.kind, path, split, spec.share) if part)


def open_source(options: Options) -> Source:
    (source,) = open_sources(options.source, options.skip_bad)
    return source


def unpacked(source: Source, number: int) -> FileSequence | SyntheticSequence:
    """A sequence of a source that is not packed: see the check of the command."""
    sequence = source.sequences[number]
    assert not isinstance(sequence, PackedSequence)
    return sequence


def _thinned(sequence: Sequence, every: int) -> np.ndarray:
    usable = np.flatnonzero(sequence.visible & has_size(sequence.boxes))
    stored = np.zeros(len(sequence.visible), bool)
    stored[usable[:: max(1, min(every, len(usable) // KEEP))]] = True
    return stored


def tabulate(source: Source, options: Options) -> Table:
    """Raises ChaseError where no frame is left to pack."""
    total = source.sequences
    count = min(options.sequences or len(total), len(total))
    numbers = np.arange(count) * len(total) // count
    chosen = [total[int(k)] for k in numbers]
    stored = [_thinned(s, options.every) for s in chosen]
    table = Table(
        numbers,
        [s.name for s in chosen],
        [source.spec if isinstance(s, SyntheticSequence) else s.folder for s in chosen],
        np.cumsum([len(s) for s in stored], dtype=np.int64),
        np.concatenate([s.boxes for s in chosen]).astype(np.float64),
        np.concatenate(stored),
        source.video,
    )
    if not table.stored.any():
        raise ChaseError(f"{source.spec}: no frame shows a target, nothing to pack")
    return table


def settings(options: Options) -> dict[str, Any]:
    """The options as pack.json holds them."""
    quality = options.quality if options.format == "jpeg" else None
    return vars(options) | {"limits": vars(options.limits), "quality": quality}


def annotations(table: Table) -> dict[str, Any]:
    """What pack.json holds of the source."""
    return {"video": table.video, "annotations": table.digest()}
