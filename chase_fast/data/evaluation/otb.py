"""OTB-100: ROOT/NAME/img/0001.jpg and groundtruth_rect.txt; some folders hold two targets.

Frame ranges of five sequences: as the benchmark's page states them (and the toolkits use them).
"""

from collections.abc import Iterator
from pathlib import Path

from chase_fast.data.evaluation.listing import chosen, folders_in, open_root, subfolders, unannotated
from chase_fast.data.evaluation.types import (
    EvaluationSequence,
    Listing,
    annotation,
    image_files,
    make,
    numbered,
)
from chase_fast.errors import ChaseError
from chase_fast.files import read_bytes

RANGES = {
    "David": (300, 770),
    "Diving": (1, 215),
    "Football1": (1, 74),
    "Freeman3": (1, 460),
    "Freeman4": (1, 283),
}


def _targets(root: Path, folders: list[str]) -> Iterator[tuple[str, Path]]:
    """(name, annotation); two annotations make NAME.1 and NAME.2; empty files do not count (Human4)."""
    for folder in folders:
        files = sorted((root / folder).glob("groundtruth_rect*.txt"))
        files = [f for f in files if f.stat().st_size > 100 or read_bytes(f).strip()]
        for number, file in enumerate(files, 1):
            yield (folder if len(files) == 1 else f"{folder}.{number}"), file


def otb(path: str, split: str | None, spec: str) -> Listing:
    """All sequences, or those of a list file (names as Jogging.1)."""
    root = open_root(path, spec)
    targets = dict(_targets(root, subfolders(root, spec) if split is None else folders_in(root)))
    if not targets:
        raise ChaseError(f"{spec}: no folder with img/ and groundtruth_rect.txt under {root}")
    names = chosen(list(targets), root, split, spec)
    remarks = unannotated(root, [f.parent.name for f in targets.values()]) if split is None else []
    return Listing({n: lambda n=n: _read(n, targets[n]) for n in names}, remarks)


def _read(name: str, file: Path) -> EvaluationSequence:
    boxes, frames = annotation(file), image_files(file.parent)
    if len(frames) != len(boxes) and file.parent.name in RANGES:
        frames = numbered(frames, *RANGES[file.parent.name])
    number = file.stem.removeprefix("groundtruth_rect.")  # Human4's only annotation is that of target 2
    also = (f"{name}.{number}",) if number.isdecimal() and name == file.parent.name else ()
    return make(name, frames, boxes, file, also=also)
