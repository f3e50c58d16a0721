"""Boxes, line by line as they are found, and at the end result.json."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from chase_fast.errors import ChaseError
from chase_fast.files import cannot_write, is_full, write_atomic
from chase_fast.track.frames import Box
from chase_fast.track.output import RESULT, earlier_results
from chase_fast.track.sources.base import Frame


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
        make_room: called if the disk is full: True if it deleted something, and the write is tried again.

    Raises (here, in `add` and in `finish`):
        ChaseError: the folder cannot be made or written.
    """

    def __init__(self, folder: Path, targets: int, make_room: Callable[[], bool] = lambda: False):
        self.folder, self._make_room = folder, make_room
        self.names = ["boxes.txt"] if targets == 1 else [f"boxes_{k}.txt" for k in range(targets)]
        self.columns = [Columns() for _ in range(targets)]
        self.frames: list[int] = []
        self.files: list[str] = []
        self.times: list[float | None] = []
        self.seconds: list[float] = []
        self.sizes: list[tuple[int, int, int]] = []  # frame, width, height: wherever the size changes
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for path in earlier_results(folder):
                path.unlink()
            self._texts = [(folder / name).open("wb", buffering=0) for name in self.names]
        except OSError as e:
            raise cannot_write(folder, e) from None

    def add(
        self,
        frame: Frame,
        boxes: Sequence[Box],
        scores: Sequence[float | None],
        states: Sequence[str],
        seconds: float,
    ) -> bool:
        """One frame's results; True if its size is not that of the frame before."""
        self._write([",".join(f"{v:.3f}" for v in box) + "\n" for box in boxes])
        for column, box, score, state in zip(self.columns, boxes, scores, states):
            x, y, w, h = map(float, box)
            column.boxes.append((x, y, w, h))
            column.scores.append(score)
            column.states.append(state)
        self.frames.append(frame.number)
        if frame.name is not None:
            self.files.append(frame.name)
        self.times.append(frame.time)
        self.seconds.append(seconds)
        height, width = frame.image.shape[:2]
        changed = not self.sizes or self.sizes[-1][1:] != (width, height)
        if changed:
            self.sizes.append((frame.number, width, height))
        return changed and len(self.sizes) > 1

    def _write(self, lines: list[str]) -> None:
        """One line into each file, or none into any."""
        ends = [text.tell() for text in self._texts]
        try:
            for text, line in zip(self._texts, lines):
                _write_all(text, line.encode())
        except OSError as e:
            for text, end in zip(self._texts, ends):
                text.truncate(end)
                text.seek(end)
            if is_full(e) and self._make_room():
                self._write(lines)
                return
            raise cannot_write(self.folder / self.names[0], e) from None

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
        timed = any(t is not None for t in self.times)
        result = about | {
            **self.speed(),
            "frames": self.frames,
            **({"files": self.files} if self.files else {}),
            **({"times": [t if t is None else round(t, 6) for t in self.times]} if timed else {}),
            "sizes": self.sizes,
            "seconds": self.seconds,
            "targets": [
                {
                    "file": name,
                    "given": c.boxes[0] if c.boxes else None,
                    "boxes": [[round(v, 3) for v in box] for box in c.boxes],
                    "score": c.scores,
                    "state": c.states,
                }
                for name, c in zip(self.names, self.columns)
            ],
        }
        data = (readable(result) + "\n").encode()
        try:
            write_atomic(self.folder / RESULT, data)
        except ChaseError as e:
            if not (isinstance(e.__cause__, OSError) and is_full(e.__cause__) and self._make_room()):
                raise
            write_atomic(self.folder / RESULT, data)


def _write_all(file, data: bytes) -> None:
    """An unbuffered file may take less than it is given."""
    while data:
        data = data[file.write(data) :]


def readable(value: Any, indent: str = "") -> str:
    """JSON to be read: an object over several lines, a list of numbers and texts in one, a list of lists with
    a line for each."""
    inner = indent + "  "
    if isinstance(value, dict) and value:
        rows = [f"{inner}{json.dumps(str(k))}: {readable(v, inner)}" for k, v in value.items()]
        return "{\n" + ",\n".join(rows) + f"\n{indent}}}"
    if isinstance(value, list | tuple) and any(isinstance(v, list | tuple | dict) for v in value):
        rows = [inner + (readable(v, inner) if isinstance(v, dict) else json.dumps(v)) for v in value]
        return "[\n" + ",\n".join(rows) + f"\n{indent}]"
    return json.dumps(value)
