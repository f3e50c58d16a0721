"""VOT folders: ROOT[/sequences]/{list.txt, NAME/{color/00000001.jpg, groundtruth.txt, *.tag}}.

A ground-truth line is a rectangle (4 numbers), a polygon (8 or more: x1, y1, x2, y2, ...) or a mask
(`m` x, y, w, h, run lengths). Polygons and masks become the smallest upright box around them; VOT's own
accuracy and robustness need the regions and its toolkit.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from chase_fast.data.evaluation.listing import chosen, open_root, subfolders
from chase_fast.data.evaluation.types import EvaluationSequence, Unusable, image_files, make
from chase_fast.errors import ChaseError


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
    ends = np.cumsum(runs)
    if width < 0 or height < 0 or min(runs, default=0) < 0 or (len(ends) and ends[-1] > width * height):
        raise ValueError
    mask = np.zeros(width * height, bool)
    for start, end in zip(ends[0::2], ends[1::2]):
        mask[start:end] = True
    rows, columns = np.nonzero(mask.reshape(height, width))
    if not len(rows):
        return [np.nan] * 4
    left, top = columns.min(), rows.min()
    return [x + left, y + top, columns.max() - left + 1, rows.max() - top + 1]


def vot(path: str, split: str | None, spec: str) -> dict[str, Callable[[], EvaluationSequence]]:
    """All sequences of list.txt (else of the folder), or those of another list file."""
    root = open_root(path, spec)
    root = root / "sequences" if (root / "sequences").is_dir() else root
    known = [n for n in subfolders(root) if (root / n).is_dir()]
    if not known:
        raise ChaseError(f"{spec}: no sequence folders under {root}")
    return {n: lambda n=n: _read(root / n, n) for n in chosen(known, root, split, spec)}


def _read(folder: Path, name: str) -> EvaluationSequence:
    file = folder / "groundtruth.txt"
    try:
        rows = file.read_text("utf-8-sig", errors="replace").rstrip().splitlines()
    except OSError as e:
        raise Unusable(f"{file} cannot be read: {e.strerror}") from None
    boxes = []
    for number, row in enumerate(rows, 1):
        try:
            boxes.append(region_box(row))
        except ValueError:
            raise Unusable(f"{file}: line {number} is {row[:60]!r}, no rectangle, polygon or mask") from None
    if not boxes:
        raise Unusable(f"{file} is empty")
    frames = image_files(folder / "color" if (folder / "color").is_dir() else folder)
    tags = {tag.stem.replace("_", " "): "1" in tag.read_text() for tag in sorted(folder.glob("*.tag"))}
    return make(name, frames, np.array(boxes, np.float64), file, attributes=tags)
