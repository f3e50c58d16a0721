"""GOT-10k and plain folders (groundtruth.txt beside the frames), TrackingNet (frames/ and anno/)."""

import re
from pathlib import Path

from chase_fast.data.evaluation.listing import (
    chosen,
    is_file,
    is_folder,
    lines,
    list_file,
    open_root,
    quoted,
    stems,
    subfolders,
    unannotated,
)
from chase_fast.data.evaluation.types import (
    EvaluationSequence,
    Listing,
    annotation,
    flags,
    image_files,
    make,
)
from chase_fast.errors import ChaseError
from chase_fast.files import read_text
from chase_fast.remarks import Notes, Remark

SPLITS = ("train", "val", "test")


def got10k(path: str, split: str | None, spec: str) -> Listing:
    """ROOT/{train,val,test}/NAME; split: one of these, or a list of names (or 0-based numbers in train)."""
    root = open_root(path, spec)
    present = [s for s in SPLITS if is_folder(root / s)]
    if split is None and present:
        raise ChaseError(f"{spec}: say which split, e.g. {spec}:{'val' if 'val' in present else present[0]}")
    return _sequences(root, split, spec, [root / s for s in present] or [root])


def folder(path: str, split: str | None, spec: str) -> Listing:
    """A folder of sequences, or one sequence; split: a subfolder, or a list file of names."""
    root = open_root(path, spec)
    if split is None and is_file(root / "groundtruth.txt"):
        return Listing({root.name: lambda: _read(root)})
    return _sequences(root, split, spec, [root])


def _sequences(root: Path, split: str | None, spec: str, homes: list[Path]) -> Listing:
    if split is None or is_folder(root / split):
        home = root if split is None else root / split
        folders = [home / n for n in subfolders(home, spec)]
    elif file := list_file(root, split):
        folders = _from_list(file, homes, spec)
    else:
        raise ChaseError(f"{spec}: split {quoted(split)} is neither a folder under {root} nor a list file")
    return Listing({f.name: lambda f=f: _read(f) for f in folders})


def _from_list(file: Path, homes: list[Path], spec: str) -> list[Path]:
    names = lines(file)
    found = [next((h / n for h in homes if is_folder(h / n)), None) for n in names]
    if None not in found:
        return found
    if all(n.isdecimal() and len(n) < 10 for n in names):
        known = subfolders(homes[0], spec)
        if high := [n for n in names if int(n) >= len(known)]:
            raise ChaseError(
                f"{spec}: {file} asks for number {high[0]} of 0 ... {len(known) - 1} in {homes[0]}"
            )
        return [homes[0] / known[int(n)] for n in names]
    raise ChaseError(
        f"{spec}: {file} names {quoted(names[found.index(None)])}, which is no folder in {homes[0]}"
    )


def _read(folder: Path) -> EvaluationSequence:
    """Frames, groundtruth.txt and GOT-10k's labels, where they are."""
    file = folder / "groundtruth.txt"
    boxes, frames = annotation(file), image_files(folder)
    length = len(boxes) if len(boxes) > 1 else len(frames)
    labels = {n: flags(folder / f"{n}.label", length) for n in ("absence", "cover", "cut_by_image")}
    names = {"absence": "Target absent", "cut_by_image": "Cut by image"}
    attributes = {text: bool(labels[n].any()) for n, text in names.items() if labels[n] is not None}
    if labels["cover"] is not None:
        attributes["Less than half visible"] = bool(((labels["cover"] > 0) & (labels["cover"] < 4)).any())
    absent = None if labels["absence"] is None else labels["absence"] > 0
    remarks: list[Remark] = []
    size = _resolution(folder, Notes(folder.name, remarks))
    return make(
        folder.name, frames, boxes, file, remarks,
        absent=absent, cover=labels["cover"], attributes=attributes, declared_size=size,
    )  # fmt: skip


def _resolution(folder: Path, note: Notes) -> tuple[int, int] | None:
    """`resolution: (W, H)` of meta_info.ini: the size that GOT-10k's own evaluation bounds boxes by.

    None, noted, where the file states none that a picture can have: the first frame's own size is taken.
    """
    file = folder / "meta_info.ini"
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


def trackingnet(path: str, split: str | None, spec: str) -> Listing:
    """ROOT/TEST (default) or TRAIN_k, with frames/NAME/0.jpg and anno/NAME.txt; or a list of TEST's names."""
    root = open_root(path, spec)
    home = root / split if split and is_folder(root / split) else root
    if home is root and is_folder(root / "TEST"):
        home = root / "TEST"
    known = names = stems(home / "anno", spec)
    if split and home.name != split:
        names = chosen(known, root, split, spec, f" and no folder under {root}")

    def read(name: str) -> EvaluationSequence:
        file = home / "anno" / f"{name}.txt"
        return make(name, image_files(home / "frames" / name), annotation(file), file)

    remarks = unannotated(home / "frames", known) if names is known else []
    return Listing({n: lambda n=n: read(n) for n in names}, remarks)
