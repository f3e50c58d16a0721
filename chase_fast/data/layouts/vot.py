"""VOT folders: ROOT[/sequences]/{list.txt, NAME/{color/00000001.jpg, groundtruth.txt, *.tag}}.

A ground-truth line is a rectangle (4 numbers), a polygon (8 or more: x1, y1, x2, y2, ...) or a mask
(`m` x, y, w, h, run lengths). Polygons and masks become the smallest upright box around them; VOT's own
accuracy and robustness need the regions and its toolkit.
"""

from dataclasses import replace
from itertools import accumulate
from pathlib import Path

import numpy as np

from chase_fast.data.layouts import Layout, Listing, Place, Video
from chase_fast.data.layouts.files import Unusable, chosen, folders_in, frames_of, is_folder, subfolders
from chase_fast.data.seen import looked_at
from chase_fast.errors import ChaseError
from chase_fast.fields import short
from chase_fast.files import read_bytes, read_text
from chase_fast.remarks import Notes, Remark


def region_box(line: str) -> list[float]:
    """One ground-truth line -> x, y, w, h; NaN for an empty mask. Raises ValueError if it is no region."""
    text = line.strip()
    if text.startswith("m"):
        return _mask_box([int(v) for v in text[1:].split(",")])
    numbers = [float(v) for v in text.replace(",", " ").split()]
    if len(numbers) == 4:
        return numbers
    if len(numbers) < 6 or len(numbers) % 2:
        raise ValueError
    corners = np.array(numbers).reshape(-1, 2)
    low, high = corners.min(0), corners.max(0)
    return [*low, *(high - low)]


def _mask_box(numbers: list[int]) -> list[float]:
    """Mask window x, y, w, h, then lengths of runs of 0, 1, 0, ... over its rows -> box of the ones."""
    x, y, width, height, *runs = numbers
    ends = list(accumulate(runs))
    if width < 0 or height < 0 or min(runs, default=0) < 0 or (ends and ends[-1] > width * height):
        raise ValueError
    ones = [(start, end - 1) for start, end in zip(ends[0::2], ends[1::2]) if start < end]
    if not ones:
        return [np.nan] * 4
    top, bottom = ones[0][0] // width, ones[-1][1] // width
    inside_rows = [(s % width, e % width) for s, e in ones if s // width == e // width]
    left, right = width, -1
    if len(inside_rows) < len(ones):  # a run that goes over the end of a row touches both sides
        left, right = 0, width - 1
    left = min(left, min((s for s, _ in inside_rows), default=left))
    right = max(right, max((e for _, e in inside_rows), default=right))
    return [float(v) for v in (x + left, y + top, right - left + 1, bottom - top + 1)]


def find(root: Path, split: str | None, spec: str) -> Listing:
    """All sequences of list.txt (else of the folder), or those of another list file."""
    root = root / "sequences" if is_folder(root / "sequences") else root
    known = subfolders(root, spec) if split is None else folders_in(root)
    if not known:
        raise ChaseError(f"{spec}: no sequence folders under {root}")
    homes = [root / n for n in chosen(known, root, split, spec)]
    frames = [h / "color" if is_folder(h / "color") else h for h in homes]
    return Listing([Place(h.name, f, h / "groundtruth.txt", root) for h, f in zip(homes, frames)])


def read(place: Place) -> Video:
    """Frames, and the boxes around the regions."""
    looked_at(place.truth)
    try:
        rows = read_text(place.truth).rstrip().splitlines()
    except OSError as e:
        raise Unusable(f"cannot be read: {e.strerror}", place.truth) from None
    boxes = []
    for number, row in enumerate(rows, 1):
        try:
            boxes.append(region_box(row))
        except (ValueError, OverflowError):
            what = f"line {number} is {short(row)}, no rectangle, polygon or mask"
            raise Unusable(what, place.truth) from None
    return Video(place.truth, frames_of(place.frames), np.array(boxes, np.float64).reshape(-1, 4))


def describe(place: Place, video: Video) -> Video:
    """The tags."""
    remarks: list[Remark] = []
    attributes = _tags(place.truth.parent, Notes(place.name, remarks))
    return replace(video, attributes=attributes, remarks=tuple(remarks))


def _tags(folder: Path, note: Notes) -> dict[str, bool]:
    """Attributes: whether any line of NAME.tag is 1. A file that cannot be read is noted and left aside."""
    tags = {}
    for file in sorted(f for f in folder.glob("*.tag") if not f.name.startswith(".")):
        try:
            values = read_bytes(file).decode("utf-8-sig").split()
        except (OSError, ValueError):
            note("tags that cannot be read are left aside", 1, "file")
            continue
        tags[file.stem.replace("_", " ")] = "1" in values
    return tags


LAYOUT = Layout(find, read, describe)
