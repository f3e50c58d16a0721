"""UAV123 and UAV20L: ROOT/data_seq/UAV123/FOLDER/000001.jpg, ROOT/anno/{UAV123,UAV20L}/NAME.txt."""

from collections.abc import Callable
from pathlib import Path

from chase_fast.data.evaluation.listing import chosen, open_root, stems
from chase_fast.data.evaluation.types import (
    EvaluationSequence,
    Unusable,
    annotation,
    image_files,
    make,
    named_flags,
    numbered,
)
from chase_fast.errors import ChaseError

SETS = ("UAV123", "UAV20L")
# the order of the columns in anno/UAV123/att/NAME.txt
ATTRIBUTES = (
    "Scale Variation", "Aspect Ratio Change", "Low Resolution", "Fast Motion", "Full Occlusion",
    "Partial Occlusion", "Out-of-View", "Background Clutter", "Illumination Variation", "Viewpoint Change",
    "Camera Motion", "Similar Object",
)  # fmt: skip
# First and last frame of the parts of long videos (official table, as in uav123.json of the got10k toolkit,
# MIT licence). Part k of FOLDER is sequence FOLDER_k. Every other sequence is a whole folder from frame 1.
_PARTS = """
bird1 1-253 775-1477 1573-2437
car1 1-751 751-1627 1627-2629
car6 1-487 487-1807 1807-2953 2953-3925 3925-4861
car8 1-1357 1357-2575
car16 1-415 415-1993
group1 1-1333 1333-2515 2515-3925 3925-4873
group2 1-907 907-1771 1771-2683
group3 1-1567 1567-2827 2827-4369 4369-5527
person2 1-1189 1189-2623
person4 1-1501 1501-2743
person5 1-877 877-2101
person7 1-1249 1249-2065
person8 1-1075 1075-1525
person12 1-601 601-1621
person14 1-847 847-1813 1813-2923
person17 1-1501 1501-2347
person19 1-1243 1243-2791 2791-4357
truck4 1-577 577-1261
uav1 1-1555 1555-2377 2473-3469
"""
PARTS: dict[str, tuple[str, int, int]] = {
    f"{folder}_{k}": (folder, *map(int, part.split("-")))
    for folder, *parts in map(str.split, _PARTS.strip().splitlines())
    for k, part in enumerate(parts, 1)
}


def uav123(path: str, split: str | None, spec: str) -> dict[str, Callable[[], EvaluationSequence]]:
    """Split UAV123 (default), UAV20L, or a list file of names of UAV123."""
    root = open_root(path, spec)
    version = split if split in SETS else SETS[0]
    annotations = root / "anno" / version
    known = stems(annotations, spec)
    if not known:
        raise ChaseError(f"{spec}: no annotations NAME.txt in {annotations}")
    names = chosen(known, root, None if split in SETS else split, spec, f" and none of {', '.join(SETS)}")
    return {n: lambda n=n: _read(root, annotations, n, version == SETS[0]) for n in names}


def _read(root: Path, annotations: Path, name: str, parts: bool) -> EvaluationSequence:
    file = annotations / f"{name}.txt"
    boxes = annotation(file)
    folder, first, last = PARTS[name] if parts and name in PARTS else (name, 1, len(boxes))
    if last - first + 1 != len(boxes):
        raise Unusable(f"{file} has {len(boxes)} boxes, frames {first} to {last} are {last - first + 1}")
    frames = numbered(image_files(root / "data_seq" / "UAV123" / folder), first, last)
    attributes = named_flags(annotations / "att" / f"{name}.txt", ATTRIBUTES)
    return make(name, frames, boxes, file, attributes=attributes)
