"""LaSOT: ROOT/CLASS/CLASS-N/{img/00000001.jpg, groundtruth.txt, full_occlusion.txt, out_of_view.txt}.

The official evaluation's own annotation is taken where ROOT has it: annos/NAME.txt, annos/absent/NAME.txt
(1 = absent) and annos/att/NAME.txt (or ROOT/absent, ROOT/att); it may end before groundtruth.txt. Without it
`absent` is full occlusion or out of view, which is how those files were made.
"""

from pathlib import Path

import numpy as np

from chase_fast.data.evaluation.listing import (
    folders_in,
    is_file,
    lines,
    list_file,
    open_root,
    quoted,
)
from chase_fast.data.evaluation.types import (
    EvaluationSequence,
    Listing,
    annotation,
    flags,
    image_files,
    make,
    named_flags,
)
from chase_fast.data.readers import lasot_split
from chase_fast.errors import ChaseError
from chase_fast.files import read_bytes
from chase_fast.remarks import Notes, Remark

LISTS = {"test": ("testing_set.txt", "test.txt", "list.txt"), "train": ("training_set.txt",)}
# the order of the columns in att/NAME.txt of the official evaluation toolkit
ATTRIBUTES = (
    "Illumination Variation", "Partial Occlusion", "Deformation", "Motion Blur", "Camera Motion", "Rotation",
    "Background Clutter", "Viewpoint Change", "Scale Variation", "Full Occlusion", "Fast Motion",
    "Out-of-View", "Low Resolution", "Aspect Ratio Change",
)  # fmt: skip


def _home(root: Path, name: str) -> Path | None:
    """ROOT/CLASS/CLASS-N, or ROOT/CLASS-N."""
    places = (root / name.rsplit("-", 1)[0] / name, root / name)
    return next((p for p in places if is_file(p / "groundtruth.txt")), None)


def _everything(root: Path) -> list[str]:
    top = folders_in(root)
    inner = [n for c in top if not _home(root, c) for n in folders_in(root / c)]
    return [n for n in [*top, *inner] if _home(root, n)]


def _official(split: str, root: Path, spec: str) -> tuple[list[str], list[Remark]]:
    """The sequences of `train` or `test` by the official division that are there, and how many are not."""
    every = [f"{kind}-{n}" for kind in lasot_split.TEST for n in range(1, 21)]
    names = [n for n in every if lasot_split.is_training(n) == (split == "train")]
    there = [n for n in names if _home(root, n)]
    if not there:
        raise ChaseError(
            f"{spec}: none of the {len(names)} {split} sequences of the official division is under {root},"
            f" nor a list file {root / LISTS[split][0]}; name a list of sequences, or say `all`"
        )
    lost = [n for n in names if n not in set(there)]
    what = f"sequences of the official {split} set are not there"
    return there, [Remark(what, n) for n in lost]


def lasot(path: str, split: str | None, spec: str) -> Listing:
    """Split: test (default) or train, all (every sequence found), or a list file.

    test and train are what testing_set.txt and training_set.txt under ROOT say, else those sequences of the
    official division that are there.
    """
    root, remarks = open_root(path, spec), []
    split = split or "test"
    file = next((f for w in LISTS.get(split, (split,)) if (f := list_file(root, w))), None)
    if split == "all":
        names = _everything(root)
    elif file is not None:
        names = lines(file)
    elif split in LISTS:
        names, remarks = _official(split, root, spec)
    else:
        raise ChaseError(f"{spec}: split {quoted(split)} is neither test, train, all nor a list file")
    homes = {n: _home(root, n) for n in names}
    if lost := [n for n, home in homes.items() if home is None]:
        raise ChaseError(
            f"{spec}: sequence {quoted(lost[0])} has no folder with groundtruth.txt under {root}"
            + (f" (and {len(lost) - 1} more)" if len(lost) > 1 else "")
        )
    return Listing({n: lambda n=n: _read(root, homes[n], n) for n in names}, remarks)


def _read(root: Path, home: Path, name: str) -> EvaluationSequence:
    remarks: list[Remark] = []
    note = Notes(name, remarks)
    boxes, file = annotation(home / "groundtruth.txt"), home / "groundtruth.txt"
    absent = _own_absence(home, len(boxes))
    official = root / "annos" / f"{name}.txt"
    if is_file(official):
        ours, boxes, file = boxes, annotation(official), official
        _note_differences(ours, boxes, note)
    flagged = _official_absence(root, name)
    absent = absent if flagged is None else flagged
    if absent is not None and len(absent) != len(boxes):
        both = min(len(absent), len(boxes))
        note("absence flags and annotation differ in length: both are cut to the shorter one",
             max(len(absent), len(boxes)) - both)  # fmt: skip
        absent, boxes = absent[:both], boxes[:both]
    attributes: dict[str, bool] = {}
    for folder in (root / "att", root / "annos" / "att"):
        attributes = attributes or named_flags(folder / f"{name}.txt", ATTRIBUTES, note)
    return make(name, image_files(home), boxes, file, remarks, absent=absent, attributes=attributes)


def _own_absence(home: Path, length: int) -> np.ndarray | None:
    """[T] bool: fully occluded or out of view; None if the sequence's folder does not say."""
    parts = [flags(home / f"{label}.txt", length) for label in ("full_occlusion", "out_of_view")]
    parts = [p > 0 for p in parts if p is not None]
    return np.logical_or.reduce(parts) if parts else None


def _official_absence(root: Path, name: str) -> np.ndarray | None:
    """[T'] bool of absent/NAME.txt, which may be shorter than groundtruth.txt; None without such a file."""
    for folder in (root / "absent", root / "annos" / "absent"):
        file = folder / f"{name}.txt"
        if is_file(file):
            count = len(read_bytes(file).replace(b",", b" ").split())
            return flags(file, max(count, 1)) == 1
    return None


def _note_differences(ours: np.ndarray, official: np.ndarray, note: Notes) -> None:
    """Notes in what annos/NAME.txt differs from groundtruth.txt."""
    both = min(len(ours), len(official))
    note("the official annos/NAME.txt, which is scored, is shorter than groundtruth.txt", len(ours) - both)
    note("the official annos/NAME.txt, which is scored, is longer than groundtruth.txt", len(official) - both)
    other = (np.abs(ours[:both] - official[:both]) > 0).any(1)
    note(
        "the official annos/NAME.txt, which is scored, differs from groundtruth.txt",
        np.count_nonzero(other),
        "box",
    )
