"""GOT-10k: ROOT/{train,val,test}/GOT-10k_Train_NNNNNN/ with 00000001.jpg, ..., groundtruth.txt and labels."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from chase_fast.data.layouts import Layout, Listing, Place, Video, read_video
from chase_fast.data.layouts.files import (
    flags_of,
    is_file,
    is_folder,
    lines,
    list_file,
    subfolders,
    wrong_layout,
)
from chase_fast.errors import ChaseError
from chase_fast.fields import short
from chase_fast.files import read_text
from chase_fast.remarks import Notes, Remark

TRUTH = "groundtruth.txt"
SPLITS = ("train", "val", "test")  # folders in which a list's names are looked for, and its numbers counted
# What users found in the published frames, nothing of which stops a training; doctor --data says so. Sources:
# github.com/got-10k/toolkit issues 10, 25 and 29, github.com/visionml/pytracking issue 98.
KNOWN_BAD = {
    "GOT-10k_Train_001636": "frames 43 to 53 are wrong",
    "GOT-10k_Train_001638": "frames 25 to 33 are wrong",
    "GOT-10k_Train_007947": "the frame size changes at frame 192",
    "GOT-10k_Val_000136": "the frame size changes at frame 112",
    "GOT-10k_Val_000137": "the frame size changes",
} | {
    f"GOT-10k_Train_{n:06d}": "its first frames are copies of one image, their boxes do not fit"
    for n in (*range(8623, 8638), 9058, 9059)
}


def find(root: Path, split: str | None, spec: str) -> Listing:
    """split: train, val, test, or a list of names or of 0-based positions in train."""
    present = [s for s in SPLITS if is_folder(root / s)]
    if split is None and present:
        raise ChaseError(f"{spec}: say which split, e.g. got10k:{root}:{present[0]}")
    known = f"; there are {', '.join(present)}" if present else ""
    return listing(select(root, split, spec, known), root, spec)


def select(root: Path, split: str | None, spec: str, known: str = "") -> list[Path]:
    """Sequence folders of the root, of a split folder or of a list file. known: which splits there are."""
    if split is None or is_folder(root / split):
        home = root / (split or "")
        return [home / name for name in subfolders(home, spec)]
    if file := list_file(root, split):
        return _from_list(file, [*(root / s for s in SPLITS if is_folder(root / s)), root], spec)
    raise ChaseError(f"{spec}: split {short(split)} is neither a folder under {root} nor a list file{known}")


def _from_list(file: Path, homes: list[Path], spec: str) -> list[Path]:
    """Folders of a list of names under `homes`, or of 0-based positions in the order of the first home."""
    entries = lines(file)
    named = [next((h / e for h in homes if is_folder(h / e)), None) for e in entries]
    if len(found := [folder for folder in named if folder is not None]) == len(named):
        return found
    if all(e.isdecimal() and len(e) < 10 for e in entries):
        known = subfolders(homes[0], spec)
        if high := [e for e in entries if int(e) >= len(known)]:
            raise ChaseError(
                f"{spec}: {file} asks for number {high[0]} (from 0), but {homes[0]} has {len(known)}"
            )
        return [homes[0] / known[int(e)] for e in entries]
    entry = entries[named.index(None)]
    raise ChaseError(f"{spec}: {file} names {short(entry)}, which is no folder in {homes[0]}")


def listing(folders: Sequence[Path], root: Path, spec: str) -> Listing:
    """These folders; raises ChaseError if none of them looks like a sequence."""
    if folders and not any(is_file(f / TRUTH) for f in folders):
        example = folders[0] / TRUTH
        raise wrong_layout(spec, root, [f"folders with frames and {TRUTH}, like {example}"])
    return Listing([Place(f.name, f, f / TRUTH, root) for f in folders])


def read(place: Place) -> Video:
    """Frames, boxes, absence.label and cover.label."""
    video = read_video(place)
    absence = _label(place, video, "absence")
    absent = None if absence is None else absence != 0
    return replace(video, absent=absent, cover=_label(place, video, "cover"))


def _label(place: Place, video: Video, name: str) -> np.ndarray | None:
    length = len(video.boxes) if len(video.boxes) > 1 else len(video.frames.names)  # 1: a server's test set
    return flags_of(place.truth.with_name(f"{name}.label"), length)


def describe(place: Place, video: Video) -> Video:
    """The attributes that the labels tell, and the size that meta_info.ini states."""
    remarks: list[Remark] = []
    attributes: dict[str, bool] = {}
    if video.absent is not None:
        attributes["Target absent"] = bool(video.absent.any())
    if (cut := _label(place, video, "cut_by_image")) is not None:
        attributes["Cut by image"] = bool(cut.any())
    if (cover := video.cover) is not None:
        attributes["Less than half visible"] = bool(((cover > 0) & (cover < 4)).any())
    size = _resolution(place.truth.with_name("meta_info.ini"), Notes(place.name, remarks))
    return replace(video, attributes=attributes, declared_size=size, remarks=tuple(remarks))


def _resolution(file: Path, note: Notes) -> tuple[int, int] | None:
    """`resolution: (W, H)`: the size that GOT-10k's own evaluation bounds boxes by.

    None, noted, where the file states none that a picture can have: the first frame's own size is taken.
    """
    if not is_file(file):
        return None
    try:
        text = read_text(file)
    except OSError:
        text = "resolution: unreadable"
    stated = re.search(r"^\s*resolution\s*[:=](.*)$", text, re.MULTILINE | re.IGNORECASE)
    size = stated and re.fullmatch(r"\s*[(\[]?\s*(\d{1,6})\s*[,x]\s*(\d{1,6})\s*[)\]]?\s*", stated[1])
    if size and int(size[1]) and int(size[2]):
        return int(size[1]), int(size[2])
    note(
        "meta_info.ini states no possible resolution: the first frame's size is taken",
        stated is not None,
        "file",
    )
    return None


LAYOUT = Layout(find, read, describe, known_bad=KNOWN_BAD)
