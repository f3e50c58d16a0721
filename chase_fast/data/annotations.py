"""Annotation files of one sequence: boxes and flags as text."""

import io
from pathlib import Path

import numpy as np

from chase_fast.fields import short
from chase_fast.files import read_text


def read_boxes(path: Path) -> np.ndarray:
    """Lines of x, y, w, h -> [T, 4] float64; fields separated by comma, semicolon, tab or space; NaN =
    absent.

    Raises:
        OSError: the file cannot be read.
        ValueError: a line is not four numbers; the text names the line.
    """
    text = read_text(path).rstrip()
    lines = text.splitlines()
    if not lines:
        return np.empty((0, 4))
    try:
        boxes = np.loadtxt(io.StringIO(_spaced(text)), np.float64, comments=None, ndmin=2)
        if boxes.shape == (len(lines), 4):
            return boxes
    except ValueError:
        pass
    # some line is wrong, or written in a way that only float() reads
    return np.array([_row(n, line) for n, line in enumerate(lines, 1)], np.float64)


def _spaced(text: str) -> str:
    return text.replace(",", " ").replace(";", " ")


def _row(number: int, line: str) -> list[float]:
    try:
        row = [float(f) for f in _spaced(line).split()]
    except ValueError:
        row = []
    if len(row) != 4:
        raise ValueError(f"line {number} is {short(line.strip())}, expected four numbers x, y, w, h")
    return row


def read_flags(path: Path, length: int) -> np.ndarray:
    """Whole numbers, one per line or separated by commas (absence.label, full_occlusion.txt) -> [length]
    int64.

    Raises:
        OSError: the file cannot be read.
        ValueError: no whole numbers of 32 bits, or not `length` of them.
    """
    fields = _spaced(read_text(path)).split()
    try:
        values = np.array(fields, np.float64)
    except ValueError:
        values = np.array([_number(f) for f in fields])
    wrong = np.flatnonzero(~(np.abs(values) < 2**31) | (np.rint(values) != values))
    if len(wrong):
        raise ValueError(f"value {wrong[0] + 1} is {short(fields[wrong[0]])}, expected a whole number")
    if len(values) != length:
        raise ValueError(f"{len(values)} values for {length} frames")
    return values.astype(np.int64)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return np.nan


def has_size(boxes: np.ndarray) -> np.ndarray:
    """[T] bool: all four numbers finite, width and height positive."""
    return np.isfinite(boxes).all(1) & (boxes[:, 2:] > 0).all(1)


def has_pixel(boxes: np.ndarray, width: float | np.ndarray, height: float | np.ndarray) -> np.ndarray:
    """[T] bool: some of the box lies in its frame of this size; False for NaN."""
    x, y, w, h = boxes.T
    return (x < width) & (y < height) & (x + w > 0) & (y + h > 0)
