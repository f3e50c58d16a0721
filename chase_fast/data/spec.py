"""Names of datasets on the command line: `kind:path[:split][:A-B%][*weight]`."""

import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from chase_fast.data.share import Share
from chase_fast.datasets import KINDS, Kind
from chase_fast.errors import ChaseError, MissingFile
from chase_fast.files import user_path


@dataclass(frozen=True)
class Spec:
    """A parsed dataset name; synthetic video has no path (empty)."""

    text: str
    kind: str
    path: str
    split: str | None
    weight: float
    share: Share | None = None


def parse_spec(text: str, kinds: Mapping[str, Kind] = KINDS, weighted: bool = True) -> Spec:
    """`kind:path[:split][:A-B%][*weight]` -> Spec.

    Args:
        kinds: those that may be named. weighted: whether there may be a weight.

    Raises:
        ChaseError: unknown kind, a missing path, too many colons, a share that is none or a weight that is no
            positive number.
    """
    name, weight = text.strip(), 1.0
    if weighted and (match := re.fullmatch(r"(.*)\*([^*:/]*)", name)):
        name = match[1]
        try:
            weight = float(match[2])
        except ValueError:
            weight = math.nan
        if not (math.isfinite(weight) and weight > 0):
            raise ChaseError(f"{text}: the weight after '*' must be a positive number, not {match[2]!r}")
    kind, *parts = name.split(":")
    if kind not in kinds:
        known = "; ".join(k.usage for k in kinds.values())
        raise ChaseError(f"{text}: unknown dataset kind {kind!r}; known are {known}")
    share = Share.parse(parts[-1], text) if parts else None
    if share:
        parts.pop()
    if kind == "synthetic":
        if share:
            raise ChaseError(f"{text}: synthetic video has no end to be shared; every NAME is another set")
        if len(parts) > 1:
            raise ChaseError(f"{text}: synthetic takes at most a name: synthetic[:NAME]")
        return Spec(text, kind, "", (parts[0] if parts else "") or "train", weight)
    if not parts or not parts[0]:
        raise ChaseError(f"{text}: the path is missing: {kinds[kind].usage}")
    if len(parts) > 2:
        raise ChaseError(
            f"{text}: more than kind:path:split; a path with ':' in it cannot be named, link to it"
        )
    return Spec(text, kind, parts[0], (parts[1] if len(parts) > 1 else "") or None, weight, share)


def root_of(path: str, spec: str) -> Path:
    """The dataset's folder; raises ChaseError where there is none."""
    root = user_path(path)
    if not os.path.isdir(root):
        raise MissingFile(f"{spec}: there is no folder {root}")
    return root


def check_sources(texts: Iterable[str]) -> None:
    """Raises ChaseError for the first dataset whose name is none, or whose folder is missing."""
    for text in texts:
        if path := parse_spec(text).path:
            root_of(path, text)
