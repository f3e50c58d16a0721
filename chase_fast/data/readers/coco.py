"""COCO: ROOT/annotations/instances_SPLIT.json and ROOT/images/SPLIT/ or ROOT/SPLIT/, SPLIT = train2017,
train2014, val2017, ...; the JSON says how the images are called."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from chase_fast.data.annotations import has_size
from chase_fast.data.readers.layout import Seen, open_root, wrong_layout
from chase_fast.data.sequences import Problem
from chase_fast.data.tables import StillTable
from chase_fast.errors import ChaseError


def _without_masks(entry: dict[str, Any]) -> dict[str, Any]:
    # the masks are nine tenths of the file: dropped while parsing, they never pile up in memory
    entry.pop("segmentation", None)
    return entry


def _load(file: Path, spec: str) -> tuple[list[dict], list[dict]]:
    """Images and annotations of the JSON; raises ChaseError saying what it lacks."""
    try:
        data = json.loads(file.read_bytes(), object_hook=_without_masks)
    except OSError as e:
        raise ChaseError(f"{spec}: {file} cannot be read: {e.strerror}") from None
    except ValueError as e:
        raise ChaseError(f"{spec}: {file} is no complete JSON ({e}): download it again") from None
    if not isinstance(data, dict):
        raise ChaseError(f"{spec}: {file} holds a {type(data).__name__}, expected an object of COCO's format")
    for key in ("images", "annotations"):
        if not isinstance(data.get(key), list):
            found = ", ".join(map(str, data)) or "nothing"
            raise ChaseError(
                f"{spec}: {file} has no list {key!r} (it has {found}); expected instances_*.json"
            )
    for key, needed in (("images", ("id", "file_name")), ("annotations", ("image_id", "bbox"))):
        entries = data[key]
        if not entries:
            raise ChaseError(f"{spec}: {file} lists no {key}")
        for name in needed:
            lacking = sum(not isinstance(e, dict) or name not in e for e in entries)
            if lacking == len(entries):
                what = "boxes: no annotation" if name == "bbox" else f"usable {key}: none of them"
                raise ChaseError(f"{spec}: {file} holds no {what} has {name!r}; expected instances_*.json")
            if lacking:
                raise ChaseError(f"{spec}: {file}: {lacking} of {len(entries)} {key} have no {name!r}")
    return data["images"], data["annotations"]


def _image_folder(root: Path, split: str, spec: str) -> Path:
    folder = next((f for f in (root / "images" / split, root / split) if f.is_dir()), None)
    if folder is None:
        raise wrong_layout(spec, root, [f"images/{split}/ or {split}/"])
    return folder


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _boxes(annotations: list[dict], file: Path) -> tuple[np.ndarray, list[Problem]]:
    """[A, 4] boxes, NaN for what is no box."""
    problems = []
    boxes = np.full((len(annotations), 4), np.nan)
    for k, annotation in enumerate(annotations):
        box = annotation["bbox"]
        if isinstance(box, list) and len(box) == 4 and all(map(_number, box)):
            boxes[k] = box
        else:
            name = f"annotation {annotation.get('id', k)}"
            problems.append(Problem(name, f"bbox is {str(box)[:60]}, expected x, y, w, h", file=str(file)))
    return boxes, problems


def read(path: str, split: str | None, spec: str, seen: Seen) -> tuple[StillTable, list[Problem], list[str]]:
    """The annotations that are no crowd and have a box with a size, on images that are there.

    Returns:
        the table; what is wrong (missing images, broken boxes); notes on what COCO's rules leave out.

    Raises:
        ChaseError: folder, JSON or images are missing, or the JSON is not COCO's.
    """
    root = open_root(path, spec, seen)
    home = root / "annotations"
    if not home.is_dir():
        raise wrong_layout(spec, root, ["annotations/instances_<split>.json"])
    present = sorted(p.name[len("instances_") : -len(".json")] for p in home.glob("instances_*.json"))
    known = f"; there are {', '.join(present)}" if present else ""
    if not split:
        raise ChaseError(f"{spec}: say which split, e.g. coco:{path}:{(present or ['train2017'])[0]}{known}")
    file = home / f"instances_{split}.json"
    if not file.is_file():
        raise ChaseError(f"{spec}: there is no {file}{known}")
    folder = _image_folder(root, split, spec)
    for place in (file, folder):
        seen.add(place)
    images, annotations = _load(file, spec)
    there = set(os.listdir(folder))
    files = [os.path.basename(str(i["file_name"])) for i in images]
    missing = [f for f in files if f not in there]
    if len(missing) == len(files):
        raise ChaseError(
            f"{spec}: {folder} holds none of the {len(files)} images of {file.name}: expected {files[0]}"
            f"{f', found {min(there)}' if there else ', it is empty'}"
        )
    number = {image["id"]: k for k, image in enumerate(images)}
    crowd = np.array([bool(a.get("iscrowd", 0)) for a in annotations])
    boxes, problems = _boxes(annotations, file)
    image = np.array([number.get(a["image_id"], -1) for a in annotations], np.int32)
    problems += [
        Problem(
            f"annotation {annotations[k].get('id', k)}",
            "its image_id is not in the list of images",
            file=str(file),
        )
        for k in np.flatnonzero(image < 0)
    ]
    lost = set(missing)
    problems += [Problem(f, "the image is missing", file=str(folder / f)) for f in missing]
    sized, broken = has_size(boxes), np.isnan(boxes).any(1)
    there = np.array([f not in lost for f in files], bool)
    keep = ~crowd & sized & (image >= 0) & there[image]
    notes = []
    for count, what in (
        (crowd.sum(), "crowd annotations"),
        ((~crowd & ~sized & ~broken).sum(), "boxes without size"),
    ):
        if count:
            notes.append(f"left out, as published: {count} {what}")
    sizes = np.array([(i.get("width", 0), i.get("height", 0)) for i in images], np.int32)
    ids = np.array([a.get("id", k) for k, a in enumerate(annotations)], np.int64)
    used, compacted = np.unique(image[keep], return_inverse=True)
    table = StillTable(
        str(folder), [files[k] for k in used], sizes[used], compacted.astype(np.int32), ids[keep], boxes[keep]
    )
    return table, problems, notes
