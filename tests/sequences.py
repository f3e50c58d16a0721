"""Little sequences on disk for the tests: noise frames as JPEG, boxes as groundtruth.txt."""

from pathlib import Path

import cv2
import numpy as np

HW = (48, 64)


def write_sequence(
    folder: Path,
    length: int = 30,
    boxes: list[str] | None = None,
    frames: Path | None = None,
    pattern: str = "{:08d}.jpg",
    first: int = 1,
    ending: str = "\n",
) -> Path:
    """A sequence folder; `boxes` are the lines of groundtruth.txt, `frames` another folder for the images."""
    rng = np.random.default_rng(length)
    frames = frames or folder
    folder.mkdir(parents=True, exist_ok=True)
    frames.mkdir(parents=True, exist_ok=True)
    small = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    image = cv2.resize(small, HW[::-1], interpolation=cv2.INTER_CUBIC)
    for i in range(length):
        cv2.imwrite(str(frames / pattern.format(i + first)), np.roll(image, 2 * i, 1))
    boxes = boxes or [f"{10 + i % 20},{12},{14},{16.5}" for i in range(length)]
    (folder / "groundtruth.txt").write_bytes((ending.join(boxes) + ending).encode())
    return folder


def write_flags(folder: Path, name: str, values: list[int]) -> None:
    (folder / name).write_text("\n".join(str(v) for v in values) + "\n")
