"""LaSOT: ROOT/CLASS/CLASS-N/{img/00000001.jpg, groundtruth.txt, full_occlusion.txt, out_of_view.txt}; the
class folders may be missing.

The official evaluation's own annotation is scored where ROOT has it: annos/NAME.txt, annos/absent/NAME.txt
(1 = absent) and annos/att/NAME.txt (or ROOT/absent, ROOT/att); it may end before groundtruth.txt. Without it
`absent` is full occlusion or out of view, which is how those files were made.
"""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from chase_fast.data.layouts import Layout, Listing, Place, Video, lasot_split, read_video
from chase_fast.data.layouts.files import (
    boxes_of,
    flags_of,
    folders_in,
    is_file,
    is_folder,
    lines,
    list_file,
    named_flags,
    wrong_layout,
)
from chase_fast.data.seen import looked_at
from chase_fast.errors import ChaseError
from chase_fast.fields import short
from chase_fast.files import read_bytes
from chase_fast.remarks import Notes, Remark

TRUTH = "groundtruth.txt"
FLAGS = ("full_occlusion.txt", "out_of_view.txt")
LISTS = {"test": ("testing_set.txt", "test.txt", "list.txt"), "train": ("training_set.txt",)}
EXPECTED = "<class>/<class>-<number>/ with img/00000001.jpg, groundtruth.txt"
# the order of the columns in att/NAME.txt of the official evaluation toolkit
ATTRIBUTES = (
    "Illumination Variation", "Partial Occlusion", "Deformation", "Motion Blur", "Camera Motion", "Rotation",
    "Background Clutter", "Viewpoint Change", "Scale Variation", "Full Occlusion", "Fast Motion",
    "Out-of-View", "Low Resolution", "Aspect Ratio Change",
)  # fmt: skip


def _is_sequence(folder: Path) -> bool:
    if re.fullmatch(r".+-\d+", folder.name):
        return True
    looked_at(folder / TRUTH)
    return is_file(folder / TRUTH)


def _order(name: str) -> tuple[str, int, str]:
    kind, _, number = name.rpartition("-")
    return (kind, int(number), name) if number.isdecimal() else (name, 0, name)


def _places(root: Path) -> dict[str, Place]:
    """Name -> place of every sequence, by class and number."""
    found: list[Path] = []
    for folder in (root / name for name in folders_in(root)):
        within = [folder] if _is_sequence(folder) else [folder / n for n in folders_in(folder)]
        found += filter(_is_sequence, within)
    return {f.name: _place(f, root) for f in sorted(found, key=lambda f: _order(f.name))}


def _place(home: Path, root: Path) -> Place:
    frames = home / "img" if is_folder(home / "img") else home
    return Place(home.name, frames, home / TRUTH, root, is_file(home / TRUTH))


def find(root: Path, split: str | None, spec: str) -> Listing:
    """split: `train`, `test` (default), `all` (every sequence found), or a list file of names.

    train and test are what training_set.txt and testing_set.txt under ROOT say, else those sequences of the
    official division that are there; train is also what testing_set.txt leaves.
    """
    split, known = split or "test", _places(root)
    if not known:
        raise wrong_layout(spec, root, [EXPECTED])
    file = next((f for w in LISTS.get(split, (split,)) if (f := list_file(root, w))), None)
    if split == "all":
        return Listing(list(known.values()))
    if file is None and split == "train" and (test := list_file(root, LISTS["test"][0])):
        left_out = set(lines(test))
        return Listing([known[n] for n in sorted(known) if n not in left_out])
    if file is None:
        return _official(known, split, root, spec)
    names = lines(file)
    if lost := [n for n in names if n not in known]:
        raise ChaseError(
            f"{spec}: {len(lost)} of {len(names)} sequences of {file} are missing under {root}, first"
            f" {short(lost[0])}: download them, or name a list file of those that are there"
        )
    return Listing([replace(known[n], annotated=True) for n in names])  # named: to be read or refused


def _official(known: dict[str, Place], split: str, root: Path, spec: str) -> Listing:
    """The sequences of `train` or `test` by the official division that are there, and which are not."""
    if split not in LISTS:
        raise ChaseError(f"{spec}: split {short(split)} is neither train, test, all nor a list file")
    names = lasot_split.training_names() if split == "train" else lasot_split.testing_names()
    places = [known[n] for n in names if n in known]
    if not places:
        raise ChaseError(
            f"{spec}: none of the {len(names)} {split} sequences of the official division is under {root},"
            f" nor a list file {root / LISTS[split][0]}; name a list of sequences, or say `all`"
        )
    what = f"sequences of the official {split} set are not there"
    return Listing(places, [Remark(what, n) for n in names if n not in known])


def read(place: Place) -> Video:
    """Frames, boxes, and what is fully occluded or out of view."""
    video = read_video(place)
    files = [place.truth.with_name(name) for name in FLAGS]
    flags = [flags_of(file, len(video.boxes)) for file in files]
    absent = [f != 0 for f in flags if f is not None]
    return replace(
        video,
        absent=np.logical_or.reduce(absent) if absent else None,
        unflagged=next((file for file, f in zip(files, flags) if f is None), None),
    )


def describe(place: Place, video: Video) -> Video:
    """The official annotation, absence and attributes instead of the sequence's own, where they are."""
    remarks: list[Remark] = []
    note = Notes(place.name, remarks)
    boxes, absent, official = video.boxes, video.absent, place.root / "annos" / f"{place.name}.txt"
    if is_file(official):
        boxes = boxes_of(official)
        _note_differences(video.boxes, boxes, note)
    flagged = _official_absence(place)
    absent = absent if flagged is None else flagged
    if absent is not None and len(absent) != len(boxes):
        both = min(len(absent), len(boxes))
        note("absence flags and annotation differ in length: both are cut to the shorter one",
             max(len(absent), len(boxes)) - both)  # fmt: skip
        absent, boxes = absent[:both], boxes[:both]
    attributes: dict[str, bool] = {}
    for folder in (place.root / "att", place.root / "annos" / "att"):
        attributes = attributes or named_flags(folder / f"{place.name}.txt", ATTRIBUTES, note)
    truth = official if is_file(official) else video.truth
    return replace(
        video, truth=truth, boxes=boxes, absent=absent, attributes=attributes, remarks=tuple(remarks)
    )


def _official_absence(place: Place) -> np.ndarray | None:
    """[T'] bool of absent/NAME.txt, which may be shorter than groundtruth.txt; None without such a file."""
    for folder in (place.root / "absent", place.root / "annos" / "absent"):
        file = folder / f"{place.name}.txt"
        if is_file(file):
            count = len(read_bytes(file).replace(b",", b" ").split())
            flags = flags_of(file, max(count, 1))
            return None if flags is None else flags == 1
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


LAYOUT = Layout(find, read, describe, train_split="train")
