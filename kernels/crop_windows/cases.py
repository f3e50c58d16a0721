"""Shapes of `crop_windows` used by its tests and its bench. Paper size: PrDiMP-50's patch in a 720p frame."""

from dataclasses import dataclass

import torch

# (every, first_row, first_column, x0, y0, columns, rows): inside, across all borders, thinned out across one,
# outside, of one pixel
PLACES = (
    (1, 0, 0, 2, 3, 9, 7),
    (1, 0, 0, -4, -5, 30, 31),
    (3, 2, 1, 1, -1, 4, 6),
    (1, 0, 0, 40, -60, 5, 5),
    (2, 1, 1, 3, 3, 1, 1),
)


@dataclass(frozen=True)
class Case:
    name: str
    height: int
    width: int
    size: int
    places: tuple[tuple[int, ...], ...] = PLACES


TESTS = (
    Case("tiny", 13, 17, 6),
    Case("one_pixel", 1, 1, 3, ((1, 0, 0, -2, -2, 5, 5),)),
    Case("odd", 57, 43, 19, PLACES + ((1, 0, 0, 17, 5, 23, 31),)),
)
PAPER = (
    Case("track", 720, 1280, 352, ((1, 0, 0, 400, -60, 480, 480),)),
    Case("track_thin", 720, 1280, 352, ((2, 1, 0, 100, -40, 400, 400),)),
)
DIFFERENTIABLE = ()


def inputs(case: Case, device="cpu", dtype=torch.float32, seed: int = 0) -> dict:
    """Keyword arguments of the op: a frame of whole grey levels at the beginning of a buffer."""
    rng = torch.Generator().manual_seed(seed)
    pixels = torch.randint(256, (case.height * case.width * 3 + 5,), generator=rng)
    windows = torch.tensor([(case.height, case.width, *place) for place in case.places])
    return {"pixels": pixels.to(device, dtype), "windows": windows.to(device), "size": case.size}
