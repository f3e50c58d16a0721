"""Annotation files of one sequence: boxes and flags as text."""

import io
from pathlib import Path

import numpy as np


def read_boxes(path: Path) -> np.ndarray:
    """Lines of x, y, w, h -> [T, 4] float64; fields separated by comma, tab or space; NaN = absent.

    Raises:
        OSError: the file cannot be read.
        ValueError: a line is not four numbers; the text names the line.
    """
    text = path.read_text("utf-8-sig", errors="replace").rstrip()
    lines = text.splitlines()
    if not lines:
        return np.empty((0, 4))
    try:
        boxes = np.loadtxt(io.StringIO(text.replace(",", " ")), np.float64, comments=None, ndmin=2)
        if boxes.shape == (len(lines), 4):
            return boxes
    except ValueError:
        pass
    # some line is wrong, or written in a way that only float() reads
    return np.array([_row(n, line) for n, line in enumerate(lines, 1)], np.float64)


def _row(number: int, line: str) -> list[float]:
    try:
        row = [float(f) for f in line.replace(",", " ").split()]
    except ValueError:
        row = []
    if len(row) != 4:
        raise ValueError(f"line {number} is {line.strip()[:60]!r}, expected four numbers x, y, w, h")
    return row


def read_flags(path: Path, length: int) -> np.ndarray:
    """Integers, one per line or separated by commas (absence.label, full_occlusion.txt) -> [length] int64.

    Raises:
        OSError: the file cannot be read.
        ValueError: no integers, or not `length` of them.
    """
    values = np.array(path.read_text("utf-8-sig", errors="replace").replace(",", " ").split(), np.int64)
    if len(values) != length:
        raise ValueError(f"{len(values)} values for {length} frames")
    return values


def has_size(boxes: np.ndarray) -> np.ndarray:
    """[T] bool: all four numbers finite, width and height positive."""
    return np.isfinite(boxes).all(1) & (boxes[:, 2:] > 0).all(1)
