"""Trackers for the evaluation tests, picklable for worker processes."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np


class Square:
    """Finds the yellow square of tests/benchmarks.py exactly, plus noise from the seed."""

    def __init__(self, seed: int, noise: float):
        self.random, self.noise = np.random.default_rng(seed), noise

    def init(self, frame, box):
        assert frame.dtype == np.uint8 and len(box) == 4

    def update(self, frame):
        # found in RGB: the square is the only place with red above 200
        rows, columns = np.nonzero(frame[:, :, 0] > 200)
        low = np.array([columns.min(), rows.min()])
        size = np.array([columns.max(), rows.max()]) - low + 1
        return SimpleNamespace(box=(*(low + self.noise * self.random.normal(size=2)), *size))


@dataclass(frozen=True)
class Squares:
    noise: float = 0.0

    def identity(self):
        return {"test": "squares", "noise": self.noise}

    def start(self, seed: int) -> Square:
        return Square(seed, self.noise)


class Mortal(Square):
    """Ends its process; the size of the file `lives` counts deaths."""

    def __init__(self, seed, lives: Path, most: int, fatal: int, noise: float):
        super().__init__(seed, noise)
        self.lives, self.most, self.fatal, self.seen = lives, most, fatal, 1

    def update(self, frame):
        self.seen += 1
        if self.seen == self.fatal and self.lives.stat().st_size < self.most:
            with open(self.lives, "ab") as f:
                f.write(b".")
            os.kill(os.getpid(), signal.SIGKILL)
        return super().update(frame)


@dataclass(frozen=True)
class Mortals:
    """Die at frame `fatal` until they died `most` times in all."""

    lives: Path
    most: int
    fatal: int
    noise: float = 0.0

    def identity(self):
        return {"test": "mortals"}

    def start(self, seed: int) -> Mortal:
        return Mortal(seed, self.lives, self.most, self.fatal, self.noise)


@dataclass(frozen=True)
class Lost:
    """Its boxes are not finite from the third frame on."""

    def identity(self):
        return {"test": "lost"}

    def start(self, seed: int):
        count = iter(range(2, 1000))
        return SimpleNamespace(
            init=lambda frame, box: None,
            update=lambda frame: SimpleNamespace(box=(1, 2, 3, 4 if next(count) < 3 else np.nan)),
        )
