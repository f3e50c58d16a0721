"""TrackingNet: ROOT/TRAIN_k/frames/<sequence>/0.jpg, 1.jpg, ... and ROOT/TRAIN_k/anno/<sequence>.txt,
k = 0 to 11; ROOT/TEST alike, annotated on first frames only."""

import re
from collections.abc import Sequence
from pathlib import Path

from chase_fast.data.layouts import Layout, Listing, Place
from chase_fast.data.layouts.files import chosen, folders_in, is_folder, stems, wrong_layout
from chase_fast.errors import ChaseError

SETS = 12
USAGE = "train (all twelve), TRAIN_k, or a list of sets such as 0-3 or 0,1,2"


def sets_of(split: str | None, spec: str) -> list[int]:
    """`train` -> 0 to 11, `TRAIN_3` -> 3, `0-3` or `0,2,5-7` -> these; raises ChaseError."""
    if split == "TEST":
        raise ChaseError(
            f"{spec}: TEST is annotated on its first frames only and cannot be learned from; name {USAGE}"
        )
    if split == "train":
        return list(range(SETS))
    numbers: list[int] = []
    for part in (split or "").split(","):
        match = re.fullmatch(r"(?:TRAIN_)?(\d+)(?:-(\d+))?", part.strip())
        if not match:
            raise ChaseError(f"{spec}: the split {split!r} is not one of TrackingNet's: name {USAGE}")
        low, high = int(match[1]), int(match[2] or match[1])
        if not low <= high < SETS:
            raise ChaseError(f"{spec}: {part!r} is no range of the sets 0 to {SETS - 1}")
        numbers += range(low, high + 1)
    if len(set(numbers)) < len(numbers):
        raise ChaseError(f"{spec}: the split {split!r} names a set twice")
    return numbers


def find(root: Path, split: str | None, spec: str) -> Listing:
    """split: none (ROOT/TEST, else ROOT itself), sets as in USAGE, a folder, or a list of names of TEST."""
    if split and re.fullmatch(r"train|(TRAIN_)?\d[\d,\s-]*", split):
        return Listing([p for k in sets_of(split, spec) for p in _set(root, f"TRAIN_{k}", spec)])
    if split and is_folder(root / split):
        return Listing(_set(root, split, spec))
    places = _set(root, "TEST" if is_folder(root / "TEST") else "", spec)
    if split is None:
        return Listing(places)
    by_name = {p.name: p for p in places}
    names = chosen(list(by_name), root, split, spec, f" and no folder under {root}")
    return Listing([by_name[n] for n in names])


def _set(root: Path, name: str, spec: str) -> Sequence[Place]:
    """All sequences that have frames or an annotation."""
    home = root / name
    if not is_folder(home):
        raise wrong_layout(spec, root, [f"a folder {name}"])
    frames, anno = home / "frames", home / "anno"
    if not (is_folder(frames) and is_folder(anno)):
        raise wrong_layout(spec, home, ["frames/<sequence>/0.jpg", "anno/<sequence>.txt"])
    known = set(stems(anno, spec))
    every = sorted(known | set(folders_in(frames)))
    return [Place(n, frames / n, anno / f"{n}.txt", root, n in known) for n in every]


LAYOUT = Layout(find, check_train=sets_of)
