"""Tiny benchmarks on disk for the evaluation tests: a bright square moves over noise; boxes are exact."""

from pathlib import Path

import cv2
import numpy as np

HW = (48, 64)


def boxes(length: int, start: int = 4) -> np.ndarray:
    """[T, 4]: a 12 x 10 target that moves one pixel per frame."""
    return np.array([[start + i, 6 + i // 2, 12, 10] for i in range(length)], np.float64)


def write_frames(
    folder: Path, length: int, pattern: str = "{:08d}.jpg", first: int = 1, seed: int = 0
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 120, (*HW, 3), dtype=np.uint8)
    for i, (x, y, w, h) in enumerate(boxes(length).astype(int)):
        image = noise.copy()
        image[y : y + h, x : x + w] = (40, 220, 250)
        cv2.imwrite(str(folder / pattern.format(first + i)), image)


def lines(rows, delimiter: str = ",") -> str:
    return "".join(delimiter.join(f"{v:g}" for v in row) + "\n" for row in rows)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def got10k_tree(root: Path, lengths: dict[str, int], split: str = "val") -> Path:
    """ROOT/SPLIT/NAME with frames, groundtruth.txt, labels, meta_info.ini; test has first boxes only."""
    for seed, (name, length) in enumerate(lengths.items()):
        home = root / split / name
        write_frames(home, length, seed=seed)
        rows = boxes(length)
        write(home / "groundtruth.txt", lines(rows[:1] if split == "test" else rows))
        if split != "test":
            write(home / "absence.label", "0\n" * length)
            write(home / "cover.label", "8\n" * (length - 1) + "0\n")
            write(home / "meta_info.ini", f"[METAINFO]\nobject_class: square\nresolution: {HW[::-1]}\n")
    write(root / split / "list.txt", "\n".join(lengths) + "\n")
    return root
