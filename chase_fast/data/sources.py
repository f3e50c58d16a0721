"""Dataset names on the command line, `kind:path[:split][*weight]`, opened as sources of sequences.

Opening is cheap: annotations are parsed and frames counted; no frame is decoded. `doctor.check` decodes them
all.
"""

import math
import re
from collections.abc import Iterable
from collections.abc import Sequence as Many
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from chase_fast.data import readers
from chase_fast.data.decode import probe
from chase_fast.data.sequences import FileSequence, Problem, Sequence, read_sequence
from chase_fast.data.synthetic import SyntheticSequences
from chase_fast.errors import ChaseError

KINDS = {
    "got10k": "got10k:ROOT:SPLIT (train, val, test or a list file)",
    "folder": "folder:PATH[:SPLIT] (sequences with frames and groundtruth.txt)",
    "synthetic": "synthetic[:NAME] (procedural video, no files; every NAME is another set)",
}
THREADS = 8
# opening every file of a larger set takes minutes on a slow disk; doctor --data does it on request
PROBE_LIMIT = 20_000


@dataclass(frozen=True)
class Spec:
    """A parsed dataset name."""

    text: str
    kind: str
    path: str | None
    split: str | None
    weight: float


@dataclass(frozen=True)
class Source:
    """A dataset: `sequences` (indexable; synthetic ones are made on demand) and the weight it is drawn with.

    `video` is False for a set of still images, whose one frame stands for all frames of a sample.
    """

    spec: str
    kind: str
    weight: float
    sequences: Many[Sequence]
    video: bool = True
    problems: tuple[Problem, ...] = field(default=(), repr=False)
    skip_bad: bool = False

    def summary(self) -> str:
        """One line: size, and what was left out."""
        if self.kind == "synthetic":
            return f"{self.spec}: {len(self.sequences)} synthetic sequences"
        frames = sum(len(s.visible) for s in self.sequences)
        text = f"{self.spec}: {len(self.sequences)} sequences, {frames} frames"
        if self.problems:
            sequences = sum(p.frame is None for p in self.problems)
            text += f"; left out {sequences} sequences and {len(self.problems) - sequences} frames"
        return text


def parse_spec(text: str) -> Spec:
    """`kind:path[:split][*weight]` -> Spec.

    Raises:
        ChaseError: unknown kind, a missing path, too many colons or a weight that is no positive number.
    """
    name, weight = text.strip(), 1.0
    if match := re.fullmatch(r"(.*)\*([^*:/]*)", name):
        name = match[1]
        try:
            weight = float(match[2])
        except ValueError:
            weight = math.nan
        if not (math.isfinite(weight) and weight > 0):
            raise ChaseError(f"{text}: the weight after '*' must be a positive number, not {match[2]!r}")
    kind, *parts = name.split(":")
    if kind not in KINDS:
        raise ChaseError(f"{text}: unknown dataset kind {kind!r}; known are {'; '.join(KINDS.values())}")
    if kind == "synthetic":
        if len(parts) > 1:
            raise ChaseError(f"{text}: synthetic takes at most a name: synthetic[:NAME]")
        return Spec(text, kind, None, (parts[0] if parts else "") or "train", weight)
    if not parts or not parts[0]:
        raise ChaseError(f"{text}: the path is missing: {KINDS[kind]}")
    if len(parts) > 2:
        raise ChaseError(
            f"{text}: more than kind:path:split; a path with ':' in it cannot be named, link to it"
        )
    return Spec(text, kind, parts[0], (parts[1] if len(parts) > 1 else "") or None, weight)


def _probe(sequence: FileSequence) -> tuple[FileSequence, list[Problem]]:
    """Frames whose file cannot be a whole image become problems and invisible."""
    problems, visible = [], sequence.visible.copy()
    for i in range(len(visible)):
        if why := probe(sequence.path(i)):
            problems.append(Problem(sequence.name, why, i + 1, sequence.path(i)))
            visible[i] = False
    if not problems:
        return sequence, []
    return FileSequence(sequence.name, sequence.folder, sequence.files, sequence.boxes, visible), problems


def read_source(spec: Spec, skip_bad: bool = False) -> Source:
    """Opens a dataset and collects everything that is wrong with it in `problems`.

    Raises:
        ChaseError: the dataset or its split does not exist, or holds no sequence at all.
    """
    if spec.kind == "synthetic":
        return Source(spec.text, spec.kind, spec.weight, SyntheticSequences(spec.split))
    layout = {"got10k": readers.got10k, "folder": readers.folder}[spec.kind]
    folders = layout(spec.path, spec.split, spec.text)
    if not folders:
        raise ChaseError(f"{spec.text}: no sequence folders found; the dataset or its list is empty")
    with ThreadPoolExecutor(THREADS) as pool:
        read = list(pool.map(lambda f: read_sequence(f, f.name), folders))
        problems = [p for _, found in read for p in found]
        sequences = [s for s, _ in read if s is not None]
        if sum(len(s.visible) for s in sequences) <= PROBE_LIMIT:
            probed = list(pool.map(_probe, sequences))
            sequences = [s for s, _ in probed]
            problems += [p for _, found in probed for p in found]
    video = any(len(s.visible) > 1 for s in sequences)
    return Source(spec.text, spec.kind, spec.weight, sequences, video, tuple(problems), skip_bad)


def open_sources(specs: str | Iterable[str], skip_bad: bool = False) -> list[Source]:
    """Opens the datasets that training draws from.

    Args:
        specs: one or several `kind:path[:split][*weight]`.
        skip_bad: leave out unusable sequences and frames (Source.summary() counts them) instead of raising.

    Raises:
        ChaseError: a dataset is unknown, missing or empty; without skip_bad also its first broken sequence,
            frame or file.
    """
    sources = []
    for text in [specs] if isinstance(specs, str) else specs:
        source = read_source(parse_spec(text), skip_bad)
        if source.problems and not skip_bad:
            more = len(source.problems) - 1
            others = f" (and {more} more)" if more else ""
            raise ChaseError(
                f"{text}: {source.problems[0]}{others};"
                f" `doctor --data {text}` lists all, --skip-bad leaves them out"
            )
        if len(source.sequences) == 0:
            raise ChaseError(
                f"{text}: no usable sequence is left, {len(source.problems)} problems; run doctor --data"
            )
        sources.append(source)
    if not sources:
        raise ChaseError("no dataset given; name one as kind:path[:split], or synthetic")
    return sources


def visible_count(sequence: Sequence) -> int:
    return int(np.count_nonzero(sequence.visible))
