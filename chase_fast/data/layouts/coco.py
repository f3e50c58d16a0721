"""COCO: ROOT/annotations/instances_SPLIT.json and ROOT/images/SPLIT/ or ROOT/SPLIT/, SPLIT = train2017,
train2014, val2017, ...; the JSON says how the images are called."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from chase_fast.data.annotations import has_pixel, has_size
from chase_fast.data.layouts.files import is_file, is_folder, open_root, wrong_layout
from chase_fast.data.seen import looked_at
from chase_fast.data.sequences import Problem
from chase_fast.data.share import Share
from chase_fast.data.tables import StillTable
from chase_fast.errors import ChaseError
from chase_fast.fields import is_number, load_json, short
from chase_fast.files import read_bytes


def _without_masks(entry: dict[str, Any]) -> dict[str, Any]:
    # the masks are nine tenths of the file: dropped while parsing, they never pile up in memory
    entry.pop("segmentation", None)
    return entry


def _load(file: Path, spec: str) -> tuple[list[dict], list[dict]]:
    """Images and annotations of the JSON; raises ChaseError saying what it lacks."""
    where = f"{spec}: {file}"
    try:
        data = load_json(read_bytes(file), where, object_hook=_without_masks)
    except OSError as e:
        raise ChaseError(f"{where} cannot be read: {e.strerror}") from None
    if not isinstance(data, dict):
        raise ChaseError(f"{where} holds a {type(data).__name__}, expected an object of COCO's format")
    for key in ("images", "annotations"):
        if not isinstance(data.get(key), list):
            found = ", ".join(short(k)[1:-1] for k in list(data)[:8]) or "nothing"
            raise ChaseError(f"{where} has no list {key!r} (it has {found}); expected instances_*.json")
    for key, needed in (("images", ("id", "file_name")), ("annotations", ("image_id", "bbox"))):
        entries = data[key]
        if not entries:
            raise ChaseError(f"{where} lists no {key}")
        for name in needed:
            lacking = sum(not isinstance(e, dict) or name not in e for e in entries)
            if lacking == len(entries):
                what = "boxes: no annotation" if name == "bbox" else f"usable {key}: none of them"
                raise ChaseError(f"{where} holds no {what} has {name!r}; expected instances_*.json")
            if lacking:
                raise ChaseError(f"{where}: {lacking} of {len(entries)} {key} have no {name!r}")
    return data["images"], data["annotations"]


def _image_folder(root: Path, split: str, spec: str) -> Path:
    folder = next((f for f in (root / "images" / split, root / split) if is_folder(f)), None)
    if folder is None:
        raise wrong_layout(spec, root, [f"images/{split}/ or {split}/"])
    return folder


_NO_BOX = [np.nan] * 4


def _whole(value: Any, low: int = -(2**63), high: int = 2**63 - 1) -> int | None:
    """A whole number in these limits, as an integer or a float; else None."""
    if type(value) is int:
        return value if low <= value <= high else None
    return int(value) if is_number(value) and value == int(value) and low <= value <= high else None


class _Entries:
    """What is taken of the JSON, every value checked; an entry with a wrong one is a problem and left out.

    images: id, file and size, None where it is wrong. boxes [A, 4], NaN where they are wrong; ids [A]
    int64; image [A], which of the images, -1 where none; crowd [A] bool.
    """

    def __init__(self, images: list[dict], annotations: list[dict], file: Path):
        self._file = str(file)
        self.problems: list[Problem] = []
        self.images = [self._image(k, image) for k, image in enumerate(images)]
        self._number = {image[0]: k for k, image in enumerate(self.images) if image}
        rows = [self._annotation(k, annotation) for k, annotation in enumerate(annotations)]
        self.ids = np.array([row[0] for row in rows], np.int64)
        self.image = np.array([row[1] for row in rows], np.int32)
        self.boxes = np.array([row[2] for row in rows], np.float64)
        self.crowd = np.array([bool(a.get("iscrowd", 0)) for a in annotations])

    def _wrong(self, name: str, field: str, value: Any, expected: str) -> None:
        self.problems.append(
            Problem(name, f"{field} is {short(value)}, expected {expected}", file=self._file)
        )

    def _image(self, k: int, image: dict) -> tuple[int, str, tuple[int, int]] | None:
        """Its id, its file and its width and height (0 where they are not given)."""
        number, file = _whole(image["id"]), image["file_name"]
        name = f"image {short(image['id'])}"
        if number is None:
            self._wrong(f"image {k} of the list", "id", image["id"], "a whole number")
            return None
        if not isinstance(file, str) or not file or "\0" in file:
            self._wrong(name, "file_name", file, "a file's name")
            return None
        size = []
        for field in ("width", "height"):
            value = image.get(field)
            pixels = 0 if value is None else _whole(value, 0, 2**31 - 1)
            if pixels is None:
                self._wrong(name, field, value, "a whole number of pixels")
                return None
            size.append(pixels)
        return number, os.path.basename(file), (size[0], size[1])

    def _annotation(self, k: int, annotation: dict) -> tuple[int, int, list[float]]:
        """Its id, the place of its image and its box."""
        number, box = annotation.get("id", k), annotation["bbox"]
        key = _whole(number)
        if key is None:
            self._wrong(f"annotation {k} of the list", "id", number, "a whole number")
            return k, -1, _NO_BOX
        name = f"annotation {key}"
        if not (isinstance(box, list) and len(box) == 4 and all(map(is_number, box))):
            self._wrong(name, "bbox", box, "x, y, w, h")
            return key, -1, _NO_BOX
        shown = _whole(annotation["image_id"])
        image = -1 if shown is None else self._number.get(shown, -1)
        if image < 0:
            what = "its image_id is not in the list of images"
            self.problems.append(Problem(name, what, file=self._file))
        return key, image, box


def read(
    path: str, split: str | None, spec: str, share: Share | None = None
) -> tuple[StillTable, list[Problem], list[str], list[str]]:
    """The annotations that are no crowd and have a box with a size, on images that are there.

    share: of the images, in the order of the JSON.

    Returns:
        the table; what is wrong (missing images, broken boxes); notes on what COCO's rules leave out;
        boxes that were left out because they have no pixel in their image, by the size that the JSON
        gives.

    Raises:
        ChaseError: folder, JSON or images are missing, or the JSON is not COCO's.
    """
    root = open_root(path, spec)
    home = root / "annotations"
    if not is_folder(home):
        raise wrong_layout(spec, root, ["annotations/instances_<split>.json"])
    present = sorted(p.name[len("instances_") : -len(".json")] for p in home.glob("instances_*.json"))
    known = f"; there are {', '.join(present)}" if present else ""
    if not split:
        raise ChaseError(f"{spec}: say which split, e.g. coco:{path}:{(present or ['train2017'])[0]}{known}")
    file = home / f"instances_{split}.json"
    if not is_file(file):
        raise ChaseError(f"{spec}: there is no {file}{known}")
    folder = _image_folder(root, split, spec)
    looked_at(file, folder)
    images, annotations = _load(file, spec)
    if share:
        images = share.of(images, spec, "images")
        mine = {i["id"] for i in images if is_number(i["id"])}
        annotations = [a for a in annotations if is_number(a["image_id"]) and a["image_id"] in mine]
        if not annotations:
            raise ChaseError(f"{spec}: no image in {share} of {file} is annotated")
    there = set(os.listdir(folder))
    entries = _Entries(images, annotations, file)
    problems = entries.problems
    files = [image[1] if image else "" for image in entries.images]
    lost = [f not in there for f in files]
    if all(lost):
        raise ChaseError(
            f"{spec}: {folder} holds none of the {len(files)} images of {file.name}: expected {files[0]}"
            f"{f', found {min(there)}' if there else ', it is empty'}"
        )
    problems += [
        Problem(f, "the image is missing", file=str(folder / f)) for f, gone in zip(files, lost) if gone and f
    ]
    sizes = np.array([image[2] if image else (0, 0) for image in entries.images], np.int32)
    boxes, image = entries.boxes, entries.image
    sized = has_size(boxes)
    usable = (image >= 0) & ~np.array(lost)[image]
    width, height = np.where(sizes > 0, sizes, np.inf)[image].T
    shown = has_pixel(boxes, width, height)
    keep = ~entries.crowd & sized & usable & shown
    notes = []
    for count, what in (
        (entries.crowd.sum(), "crowd annotations"),
        ((~entries.crowd & ~sized & (image >= 0)).sum(), "boxes without size"),
    ):
        if count:
            notes.append(f"left out, as published: {count} {what}")
    outside = int((~entries.crowd & sized & usable & ~shown).sum())
    decisions = (
        [f"{outside} boxes without a pixel in their image are left out, see doctor --data"] if outside else []
    )
    used, compacted = np.unique(image[keep], return_inverse=True)
    table = StillTable(
        str(folder),
        [files[k] for k in used],
        sizes[used],
        compacted.astype(np.int32),
        entries.ids[keep],
        boxes[keep],
    )
    return table, problems, notes, decisions
