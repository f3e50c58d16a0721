"""LaSOT: ROOT/<class>/<class>-<n>/ with img/00000001.jpg, ..., groundtruth.txt, full_occlusion.txt and
out_of_view.txt; the class folders may be missing."""

import re
from pathlib import Path

from chase_fast.data.annotations import has_size, read_boxes, read_flags
from chase_fast.data.frame_files import frames_in
from chase_fast.data.readers import lasot_split
from chase_fast.data.readers.layout import Seen, lines, list_file, open_root, subfolders, wrong_layout
from chase_fast.data.sequences import FileSequence, Problem, length_problem
from chase_fast.errors import ChaseError

TRUTH = "groundtruth.txt"
FLAGS = ("full_occlusion.txt", "out_of_view.txt")
LISTS = {"train": "training_set.txt", "test": "testing_set.txt"}
EXPECTED = "<class>/<class>-<number>/ with img/00000001.jpg, groundtruth.txt"


def _numbered(folder: Path) -> bool:
    return re.fullmatch(r".+-\d+", folder.name) is not None


def _sequences(root: Path, seen: Seen) -> dict[str, Path]:
    """Name -> folder of every sequence, by class and number."""
    found = []
    for folder in subfolders(root):
        if _numbered(folder):
            found.append(folder)
        else:
            seen.add(folder)
            found += [f for f in subfolders(folder) if _numbered(f)]
    order = sorted(found, key=lambda f: (f.name.rpartition("-")[0], int(f.name.rpartition("-")[2])))
    return {f.name: f for f in order}


def find(path: str, split: str | None, spec: str, seen: Seen) -> list[Path]:
    """Sequence folders of `train`, `test` or a list file of names.

    train and test are what training_set.txt and testing_set.txt under ROOT say, else the official division;
    without a list, train holds those training sequences that are there.
    """
    root = open_root(path, spec, seen)
    known = _sequences(root, seen)
    if not known:
        raise wrong_layout(spec, root, [EXPECTED])
    split = split or "train"
    file = list_file(root, LISTS.get(split, split), seen)
    if file:
        names, origin = lines(file), str(file)
    elif split == "train" and (test := list_file(root, LISTS["test"], seen)):
        names, origin = sorted(set(known) - set(lines(test))), str(test)
    elif split in LISTS:
        wanted = set(filter(lasot_split.is_training, known))
        if split == "test":
            wanted = set(lasot_split.testing_names()) & set(known)
        names, origin = [n for n in known if n in wanted], "the official division"
        if not names:
            raise ChaseError(f"{spec}: no sequence under {root} belongs to {split} by {origin}")
    else:
        raise ChaseError(f"{spec}: split {split!r} is neither train, test nor a list file of names")
    if missing := [n for n in names if n not in known]:
        raise ChaseError(
            f"{spec}: {len(missing)} of {len(names)} sequences of {origin} are missing under {root}, first"
            f" {missing[0]}: download them, or name a list file of those that are there"
        )
    return [known[n] for n in names]


def read(folder: Path, seen: Seen) -> tuple[FileSequence | None, list[Problem]]:
    """One sequence: visible where it is neither fully occluded nor out of view and the box has a size."""
    name, truth, frames = folder.name, folder / TRUTH, folder / "img"
    for path in (folder, truth, frames):
        seen.add(path)
    path = truth
    try:
        boxes = read_boxes(truth)
        path = frames
        found = frames_in(frames)
        if problem := length_problem(name, boxes, found.names, truth, frames):
            return None, [problem]
        visible = has_size(boxes)
        for path in (folder / flag for flag in FLAGS):
            seen.add(path)
            visible &= read_flags(path, len(boxes)) == 0
    except OSError as e:
        return None, [Problem(name, f"cannot be read: {e.strerror}", file=str(path))]
    except ValueError as e:
        return None, [Problem(name, str(e), file=str(path))]
    return FileSequence(name, str(frames), found.names, boxes, visible, notes=found.notes), []
