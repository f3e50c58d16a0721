"""TrackingNet: ROOT/TRAIN_k/frames/<sequence>/0.jpg, 1.jpg, ... and ROOT/TRAIN_k/anno/<sequence>.txt,
k = 0 to 11."""

import os
import re
from pathlib import Path

from chase_fast.data.annotations import has_size, read_boxes
from chase_fast.data.frame_files import frames_in
from chase_fast.data.readers.layout import Seen, open_root, wrong_layout
from chase_fast.data.sequences import FileSequence, Problem, length_problem
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


def find(path: str, split: str | None, spec: str, seen: Seen) -> list[Path]:
    """Frame folders TRAIN_k/frames/<sequence> of all sequences that have frames or an annotation."""
    root, found = open_root(path, spec, seen), []
    for number in sets_of(split, spec):
        home = root / f"TRAIN_{number}"
        if not home.is_dir():
            raise wrong_layout(spec, root, [f"a folder TRAIN_{number}"])
        frames, anno = home / "frames", home / "anno"
        if not (frames.is_dir() and anno.is_dir()):
            raise wrong_layout(spec, home, ["frames/<sequence>/0.jpg", "anno/<sequence>.txt"])
        for place in (frames, anno):
            seen.add(place)
        names = {e.name for e in os.scandir(frames) if e.is_dir()}
        names |= {n.removesuffix(".txt") for n in os.listdir(anno) if n.endswith(".txt")}
        found += [frames / name for name in sorted(names) if not name.startswith(".")]
    return found


def read(folder: Path, seen: Seen) -> tuple[FileSequence | None, list[Problem]]:
    """One sequence, from its frame folder: visible where the box has a size."""
    name, truth = folder.name, folder.parents[1] / "anno" / f"{folder.name}.txt"
    for path in (folder, truth):
        seen.add(path)
    try:
        boxes = read_boxes(truth)
    except OSError as e:
        return None, [Problem(name, f"cannot be read: {e.strerror}", file=str(truth))]
    except ValueError as e:
        return None, [Problem(name, str(e), file=str(truth))]
    try:
        found = frames_in(folder)
    except OSError as e:
        what = f"{len(boxes)} boxes, but the folder of the frames cannot be read: {e.strerror}"
        return None, [Problem(name, what, file=str(folder))]
    except ValueError as e:
        return None, [Problem(name, str(e), file=str(folder))]
    if problem := length_problem(name, boxes, found.names, truth, folder):
        return None, [problem]
    return FileSequence(name, str(folder), found.names, boxes, has_size(boxes), notes=found.notes), []
