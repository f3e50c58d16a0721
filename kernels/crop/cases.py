"""Shapes of crop, shared by its tests and its benchmark."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    """`frame_hw` pixels, `window` (x0, y0, width, height), output side `size`."""

    name: str
    frame_hw: tuple[int, int]
    window: tuple[int, int, int, int]
    size: int


CASES = [
    Case("tiny", (16, 16), (4, 4, 8, 8), 8),
    Case("odd", (17, 19), (-5, 3, 21, 13), 11),
    Case("outside", (17, 19), (25, -40, 9, 9), 7),
    Case("left", (17, 19), (-30, 30, 9, 9), 7),
    Case("one_pixel", (1, 1), (-2, -2, 5, 5), 4),
    Case("paper", (720, 1280), (400, -60, 480, 480), 288),
]
