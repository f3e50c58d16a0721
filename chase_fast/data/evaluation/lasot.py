"""LaSOT: ROOT/CLASS/CLASS-N/{img/00000001.jpg, groundtruth.txt, full_occlusion.txt, out_of_view.txt}.

`absent` is the official evaluation's file absent/NAME.txt if ROOT or ROOT/annos has it (1 = absent), else
full occlusion or out of view, which is how those files were made.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from chase_fast.data.evaluation.listing import lines, list_file, open_root, subfolders
from chase_fast.data.evaluation.types import (
    EvaluationSequence,
    annotation,
    flags,
    image_files,
    make,
    named_flags,
)
from chase_fast.errors import ChaseError

TEST_LISTS = ("testing_set.txt", "test.txt", "list.txt")
# the order of the columns in att/NAME.txt of the official evaluation toolkit
ATTRIBUTES = (
    "Illumination Variation", "Partial Occlusion", "Deformation", "Motion Blur", "Camera Motion", "Rotation",
    "Background Clutter", "Viewpoint Change", "Scale Variation", "Full Occlusion", "Fast Motion",
    "Out-of-View", "Low Resolution", "Aspect Ratio Change",
)  # fmt: skip


def _home(root: Path, name: str) -> Path | None:
    """ROOT/CLASS/CLASS-N, or ROOT/CLASS-N."""
    places = (root / name.rsplit("-", 1)[0] / name, root / name)
    return next((p for p in places if (p / "groundtruth.txt").is_file()), None)


def _everything(root: Path) -> list[str]:
    inner = [(root / c, subfolders(root / c)) for c in subfolders(root) if not _home(root, c)]
    names = [n for n in subfolders(root) if _home(root, n)]
    return names + [n for folder, found in inner for n in found if (folder / n / "groundtruth.txt").is_file()]


def lasot(path: str, split: str | None, spec: str) -> dict[str, Callable[[], EvaluationSequence]]:
    """Split: test (ROOT/testing_set.txt), all (every sequence found), or a list file; default test."""
    root = open_root(path, spec)
    if split == "all":
        names = _everything(root)
    else:
        wanted = (split,) if split not in (None, "test") else TEST_LISTS
        file = next((f for w in wanted if (f := list_file(root, w))), None)
        if file is None:
            raise ChaseError(
                f"{spec}: there is no list file {root / wanted[0]}; put LaSOT's testing_set.txt there, "
                "name a list of sequences, or say `all`"
            )
        names = lines(file)
    homes = {n: _home(root, n) for n in names}
    if lost := [n for n, home in homes.items() if home is None]:
        raise ChaseError(
            f"{spec}: sequence {lost[0]} has no folder with groundtruth.txt under {root}"
            + (f" (and {len(lost) - 1} more)" if len(lost) > 1 else "")
        )
    return {n: lambda n=n: _read(root, homes[n], n) for n in names}


def _read(root: Path, home: Path, name: str) -> EvaluationSequence:
    file = home / "groundtruth.txt"
    boxes = annotation(file)
    length = len(boxes)
    absent = None
    for folder in (root / "absent", root / "annos" / "absent"):
        if absent is None and (found := flags(folder / f"{name}.txt", length)) is not None:
            absent = found == 1
    if absent is None:
        parts = [flags(home / f"{label}.txt", length) for label in ("full_occlusion", "out_of_view")]
        parts = [p > 0 for p in parts if p is not None]
        absent = np.logical_or.reduce(parts) if parts else None
    attributes = {}
    for folder in (root / "att", root / "annos" / "att"):
        attributes = attributes or named_flags(folder / f"{name}.txt", ATTRIBUTES)
    return make(name, image_files(home), boxes, file, absent=absent, attributes=attributes)
