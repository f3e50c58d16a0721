"""GOT-10k and plain folders (groundtruth.txt beside the frames), TrackingNet (frames/ and anno/)."""

import ast
import re
from collections.abc import Callable
from pathlib import Path

from chase_fast.data.evaluation.listing import chosen, lines, list_file, open_root, stems, subfolders
from chase_fast.data.evaluation.types import EvaluationSequence, annotation, flags, image_files, make
from chase_fast.errors import ChaseError

SPLITS = ("train", "val", "test")


def got10k(path: str, split: str | None, spec: str) -> dict[str, Callable[[], EvaluationSequence]]:
    """ROOT/{train,val,test}/NAME; split: one of these, or a list of names (or 0-based numbers in train)."""
    root = open_root(path, spec)
    present = [s for s in SPLITS if (root / s).is_dir()]
    if split is None and present:
        raise ChaseError(f"{spec}: say which split, e.g. {spec}:{'val' if 'val' in present else present[0]}")
    return _sequences(root, split, spec, [root / s for s in present] or [root])


def folder(path: str, split: str | None, spec: str) -> dict[str, Callable[[], EvaluationSequence]]:
    """A folder of sequences, or one sequence; split: a subfolder, or a list file of names."""
    root = open_root(path, spec)
    if split is None and (root / "groundtruth.txt").is_file():
        return {root.name: lambda: _read(root)}
    return _sequences(root, split, spec, [root])


def _sequences(root: Path, split: str | None, spec: str, homes: list[Path]):
    if split is None or (root / split).is_dir():
        home = root if split is None else root / split
        folders = [home / n for n in subfolders(home)]
    elif file := list_file(root, split):
        folders = _from_list(file, homes, spec)
    else:
        raise ChaseError(f"{spec}: split {split!r} is neither a folder under {root} nor a list file")
    if lost := [f for f in folders if not f.is_dir()]:
        raise ChaseError(f"{spec}: {lost[0].name!r} is listed, but there is no folder {lost[0]}")
    return {f.name: lambda f=f: _read(f) for f in folders}


def _from_list(file: Path, homes: list[Path], spec: str) -> list[Path]:
    names = lines(file)
    found = [next((h / n for h in homes if (h / n).is_dir()), None) for n in names]
    if None not in found:
        return found
    if all(n.isdecimal() for n in names):
        known = subfolders(homes[0])
        if high := [n for n in names if int(n) >= len(known)]:
            raise ChaseError(
                f"{spec}: {file} asks for number {high[0]} of 0 ... {len(known) - 1} in {homes[0]}"
            )
        return [homes[0] / known[int(n)] for n in names]
    raise ChaseError(f"{spec}: {file} names {names[found.index(None)]!r}, which is no folder in {homes[0]}")


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
    return make(
        folder.name, frames, boxes, file,
        absent=absent, cover=labels["cover"], attributes=attributes, declared_size=_resolution(folder),
    )  # fmt: skip


def _resolution(folder: Path) -> tuple[int, int] | None:
    """`resolution: (W, H)` of meta_info.ini: the size that GOT-10k's own evaluation bounds boxes by."""
    file = folder / "meta_info.ini"
    if not file.is_file():
        return None
    text = file.read_text(errors="replace")
    match = re.search(r"^resolution\s*[:=]\s*(\(\s*\d+\s*,\s*\d+\s*\))", text, re.MULTILINE)
    return ast.literal_eval(match[1]) if match else None


def trackingnet(path: str, split: str | None, spec: str) -> dict[str, Callable[[], EvaluationSequence]]:
    """ROOT/TEST (default) or TRAIN_k, with frames/NAME/0.jpg and anno/NAME.txt; or a list of TEST's names."""
    root = open_root(path, spec)
    home = root / split if split and (root / split).is_dir() else root
    if home is root and (root / "TEST").is_dir():
        home = root / "TEST"
    names = stems(home / "anno", spec)
    if split and home.name != split:
        names = chosen(names, root, split, spec, f" and no folder under {root}")

    def read(name: str) -> EvaluationSequence:
        file = home / "anno" / f"{name}.txt"
        return make(name, image_files(home / "frames" / name), annotation(file), file)

    return {n: lambda n=n: read(n) for n in names}
