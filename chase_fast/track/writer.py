"""What tracking leaves in its folder: boxes line by line, an annotated video, at the end result.json."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from chase_fast.errors import ChaseError
from chase_fast.files import write_atomic
from chase_fast.track.frames import Box
from chase_fast.track.source import Frame

RESULT = "result.json"
_CODECS = (("annotated.mp4", "mp4v"), ("annotated.avi", "MJPG"))


def check_folder(path: Path, overwrite: bool) -> None:
    """Raises ChaseError if the folder cannot be used: a file, or not empty unless overwrite."""
    if path.exists() and not path.is_dir():
        raise ChaseError(f"--out {path} is a file: give a folder")
    if path.is_dir() and not overwrite and any(path.iterdir()):
        raise ChaseError(
            f"{path} is not empty: choose another --out, or replace its results with --overwrite"
        )


@dataclass
class Columns:
    """Per-frame values of one target; the first frame's state is `given`, its score None."""

    boxes: list[Box] = field(default_factory=list)
    scores: list[float | None] = field(default_factory=list)
    states: list[str] = field(default_factory=list)


class Writer:
    """Files of one tracked video. Boxes are on disk as soon as they are known.

    Args:
        folder: made if there is none; earlier results in it are removed, other files are left.
        targets: their number: boxes.txt for one, boxes_0.txt, boxes_1.txt ... for several.

    Raises (here and in `add`):
        ChaseError: the folder cannot be made or written.
    """

    def __init__(self, folder: Path, targets: int):
        self.folder = folder
        self.names = ["boxes.txt"] if targets == 1 else [f"boxes_{k}.txt" for k in range(targets)]
        self.columns = [Columns() for _ in range(targets)]
        self.frames: list[int] = []
        self.files: list[str] = []
        self.seconds: list[float] = []
        self.sizes: list[tuple[int, int, int]] = []  # frame, width, height: wherever the size changes
        try:
            folder.mkdir(parents=True, exist_ok=True)
            old = [folder / RESULT, *(folder / name for name, _ in _CODECS), folder / "boxes.txt"]
            for path in (*old, *folder.glob("boxes_*.txt")):
                path.unlink(missing_ok=True)
            self._texts = [(folder / name).open("w") for name in self.names]
        except OSError as e:
            raise ChaseError(f"cannot write in {folder}: {e.strerror or e}") from None

    def add(
        self,
        frame: Frame,
        boxes: Sequence[Box],
        scores: Sequence[float | None],
        states: Sequence[str],
        seconds: float,
    ) -> bool:
        """One frame's results; True if its size is not that of the frame before."""
        try:
            for text, box in zip(self._texts, boxes):
                text.write(",".join(f"{v:.3f}" for v in box) + "\n")
                text.flush()
        except OSError as e:
            raise ChaseError(f"cannot write the boxes in {self.folder}: {e.strerror or e}") from None
        for column, box, score, state in zip(self.columns, boxes, scores, states):
            column.boxes.append(tuple(box))
            column.scores.append(score)
            column.states.append(state)
        self.frames.append(frame.number)
        if frame.name is not None:
            self.files.append(frame.name)
        self.seconds.append(seconds)
        height, width = frame.image.shape[:2]
        changed = not self.sizes or self.sizes[-1][1:] != (width, height)
        if changed:
            self.sizes.append((frame.number, width, height))
        return changed and len(self.sizes) > 1

    def speed(self) -> dict[str, float]:
        """Both definitions in use, of the calls of the tracker alone; the first frame's learning is in it."""
        times = [t for t in self.seconds if t > 0]
        if not times:
            return {}
        mean = float(np.mean([1 / t for t in times]))
        return {"fps_total": len(times) / sum(times), "fps_mean_of_frames": mean}

    def finish(self, about: dict[str, Any]) -> None:
        """Writes result.json; `about` comes first in it."""
        for text in self._texts:
            text.close()
        result = about | {
            **self.speed(),
            "frames": self.frames,
            **({"files": self.files} if self.files else {}),
            "sizes": self.sizes,
            "seconds": self.seconds,
            "targets": [
                {
                    "boxes": name,
                    "given": c.boxes[0] if c.boxes else None,
                    "score": c.scores,
                    "state": c.states,
                }
                for name, c in zip(self.names, self.columns)
            ],
        }
        write_atomic(self.folder / RESULT, (json.dumps(result) + "\n").encode())


class VideoFile:
    """The annotated video: annotated.mp4, or annotated.avi where OpenCV cannot write the first.

    Pictures of another size than the first are scaled into it, with black bars. `name` is None if no video
    can be written here.
    """

    def __init__(self, folder: Path, width: int, height: int, fps: float):
        self._size = width, height
        self.name: str | None = None
        for name, codec in _CODECS:
            self._out = cv2.VideoWriter(
                str(folder / name), cv2.VideoWriter_fourcc(*codec), fps, (width, height)
            )
            if self._out.isOpened():
                self.name = name
                break
            (folder / name).unlink(missing_ok=True)

    def add(self, picture: np.ndarray, times: int = 1) -> None:
        """A picture, BGR uint8 [H, W, 3], for this many frames."""
        if self.name is not None:
            picture = fitted(picture, *self._size)
            for _ in range(times):
                self._out.write(picture)

    def close(self) -> None:
        self._out.release()


def fitted(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    """[H, W, 3] -> [height, width, 3], its proportions kept, black around it."""
    rows, columns = picture.shape[:2]
    if (rows, columns) == (height, width):
        return picture
    factor = min(width / columns, height / rows)
    w, h = max(1, round(columns * factor)), max(1, round(rows * factor))
    x, y = (width - w) // 2, (height - h) // 2
    canvas = np.zeros((height, width, 3), np.uint8)
    canvas[y : y + h, x : x + w] = cv2.resize(picture, (w, h), interpolation=cv2.INTER_AREA)
    return canvas
