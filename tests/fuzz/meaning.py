"""What a file says, read by other code than the product's: equal meanings must give equal results."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

_NUMBER = re.compile(
    r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?nan|[+-]?inf(inity)?", re.ASCII | re.IGNORECASE
)
_FLAGS = ("full_occlusion.txt", "out_of_view.txt", ".label", ".tag", "_attr.txt")
_LISTS = ("list.txt", "testing_set.txt", "training_set.txt")
_IMAGES = (".jpg", ".jpeg", ".png")
HUGE = 1e6  # no box has such numbers

Unreadable = None


def role(path: str) -> str:
    """boxes, flags, names, times, json, image or other: what a file of a dataset or of results holds."""
    name = Path(path).name
    if name.endswith(_LISTS):
        return "names"
    if name.endswith(_FLAGS) or "/att/" in f"/{path}":
        return "flags"
    if name.endswith("_time.txt"):
        return "times"
    if name.endswith(".json"):
        return "json"
    if name.endswith(_IMAGES):
        return "image"
    return "boxes" if name.endswith(".txt") else "other"


def meaning(path: Path, kind: str) -> Any:
    """A value that compares by ==, None where the file does not say anything of this kind (see `role`)."""
    try:
        data = path.read_bytes() if path.is_file() else None
    except OSError:
        data = None
    return Unreadable if data is None else _READERS[kind](data)


def _text(data: bytes) -> str | None:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None


def _table(data: bytes) -> list[list[str]] | None:
    """Numbers as they are spelled, lines without end."""
    text = _text(data)
    lines = text.rstrip().replace("\r\n", "\n").split("\n") if text else []
    rows = [re.split(r"[,\t ]+", line.strip(" \t")) for line in lines]
    if not rows or not all(_NUMBER.fullmatch(token) for row in rows for token in row):
        return None
    return rows


def boxes(data: bytes) -> list[list[str]] | None:
    """Rows of equal length; numbers as their repr, so that NaN equals itself."""
    rows = _table(data)
    return None if rows is None else [[repr(float(token)) for token in row] for row in rows]


def flags(data: bytes) -> list[int] | None:
    rows = _table(data)
    if rows is None or not all(re.fullmatch(r"[+-]?\d+", t, re.ASCII) for row in rows for t in row):
        return None
    return [int(token) for row in rows for token in row if len(token) < 20]


def names(data: bytes) -> list[str] | None:
    text = _text(data)
    return None if text is None else [line.strip() for line in text.splitlines() if line.strip()]


def loaded(data: bytes) -> Any:
    """JSON, its numbers as repr; None where it is none (or null)."""
    try:
        return json.loads(data, parse_float=lambda t: repr(float(t)), parse_constant=str)
    except (ValueError, RecursionError):
        return None


def _image(data: bytes) -> bytes | None:
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    return None if image is None else image.tobytes()


_READERS: dict[str, Callable[[bytes], Any]] = {
    "boxes": boxes,
    "times": boxes,
    "flags": flags,
    "names": names,
    "json": loaded,
    "image": _image,
    "other": lambda data: data,
}
