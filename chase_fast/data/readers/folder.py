"""Plain folders of sequences, and what GOT-10k's layout has in common with them."""

from pathlib import Path

import numpy as np

from chase_fast.data.annotations import has_size, read_boxes, read_flags
from chase_fast.data.frame_files import find_frames
from chase_fast.data.readers.layout import Seen, lines, list_file, open_root, subfolders, wrong_layout
from chase_fast.data.sequences import FileSequence, Problem, length_problem
from chase_fast.errors import ChaseError

TRUTH = "groundtruth.txt"
SPLITS = ("train", "val", "test")  # folders in which a list's names are looked for, and its numbers counted


def listed(folder: Path, seen: Seen) -> list[Path]:
    """Sequence folders of a split folder, in the order of its list.txt, else sorted."""
    seen.add(folder)
    names = folder / "list.txt"
    if names.is_file():
        seen.add(names)
        return [folder / line for line in lines(names)]
    return subfolders(folder)


def from_list(homes: list[Path], file: Path, spec: str, seen: Seen) -> list[Path]:
    """Folders of a list of names under `homes`, or of 0-based positions in the order of the first home."""
    entries = lines(file)
    named = [next((h / e for h in homes if (h / e).is_dir()), None) for e in entries]
    if all(e.isdecimal() for e in entries) and None in named:
        known = listed(homes[0], seen)
        if too_big := [e for e in entries if int(e) >= len(known)]:
            raise ChaseError(
                f"{spec}: {file} asks for number {too_big[0]} (from 0), but {homes[0]} has {len(known)}"
            )
        return [known[int(e)] for e in entries]
    if None in named:
        entry = entries[named.index(None)]
        raise ChaseError(f"{spec}: {file} names {entry!r}, which is no folder under {homes[0]}")
    return named


def select(root: Path, split: str, spec: str, known: str, seen: Seen) -> list[Path]:
    """Sequence folders of a split folder or of a list file."""
    if (root / split).is_dir():
        folders = listed(root / split, seen)
        if missing := [f for f in folders if not f.is_dir()]:
            raise ChaseError(f"{spec}: {root / split / 'list.txt'} names {missing[0].name!r}: no such folder")
        return folders
    if file := list_file(root, split, seen):
        homes = [*(root / s for s in SPLITS if (root / s).is_dir()), root]
        return from_list(homes, file, spec, seen)
    raise ChaseError(f"{spec}: split {split!r} is neither a folder under {root} nor a list file{known}")


def annotated(folders: list[Path], root: Path, spec: str) -> list[Path]:
    """The folders, if any of them looks like a sequence; raises ChaseError if none does."""
    if folders and not any((f / TRUTH).is_file() for f in folders):
        example = folders[0] / TRUTH
        raise wrong_layout(spec, root, [f"folders with frames and {TRUTH}, like {example}"])
    return folders


def find(path: str, split: str | None, spec: str, seen: Seen) -> list[Path]:
    """Plain folder of sequences, or one sequence; split = a subfolder, or a list file of names or numbers."""
    root = open_root(path, spec, seen)
    if split is not None:
        return annotated(select(root, split, spec, "", seen), root, spec)
    return [root] if (root / TRUTH).is_file() else annotated(listed(root, seen), root, spec)


def read(folder: Path, seen: Seen) -> tuple[FileSequence | None, list[Problem]]:
    """A folder with frames and groundtruth.txt, optionally GOT-10k's absence.label and cover.label.

    Visible frames are not absent (label or NaN box), have cover > 0 and a box of positive size. A frame
    marked visible whose box has no size is a problem and counts as not visible.

    Returns:
        the sequence, None if it is unusable; everything wrong with it. Reads no frame.
    """
    sequence, problems = read_labelled(folder, seen)
    if sequence is None:
        return None, problems
    sized = has_size(sequence.boxes)
    problems = [
        Problem(
            sequence.name,
            f"box {sequence.boxes[i].tolist()} has no size; mark an absent target with NaN",
            int(i) + 1,
            str(folder / TRUTH),
        )
        for i in np.flatnonzero(sequence.visible & ~sized)
    ]
    return sequence.showing(sequence.visible & sized), problems


def read_labelled(folder: Path, seen: Seen) -> tuple[FileSequence | None, list[Problem]]:
    """As `read`, but visible is what the labels and NaN boxes say, whatever the size of the box."""
    name, truth = folder.name, folder / TRUTH
    for path in (folder, truth):
        seen.add(path)
    try:
        boxes = read_boxes(truth)
        found = find_frames(folder)
    except OSError as e:
        return None, [Problem(name, f"cannot be read: {e.strerror}", file=str(truth))]
    except ValueError as e:
        return None, [Problem(name, str(e), file=str(truth))]
    seen.add(found.folder)
    if problem := length_problem(name, boxes, found.names, truth, folder):
        return None, [problem]
    visible = ~np.isnan(boxes).any(1)
    for label, shows in (("absence.label", lambda v: v == 0), ("cover.label", lambda v: v > 0)):
        path = folder / label
        if path.exists():
            seen.add(path)
            try:
                visible &= shows(read_flags(path, len(boxes)))
            except (OSError, ValueError) as e:
                return None, [Problem(name, str(e), file=str(path))]
    return FileSequence(name, str(found.folder), found.names, boxes, visible, notes=found.notes), []
