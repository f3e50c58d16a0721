"""Which values the numbers of a configuration may have: on the command line, in config.json, from Python."""

import math
from collections.abc import Mapping
from typing import Any

from chase_fast.errors import ChaseError

Range = tuple[float, float]
# far above what anybody runs, and below what would fill the memory before the first step
COUNT, SIZE, MANY = 1e9, 1e6, 4096
RATE = (0.0, 1e6)
SHARE = (0.0, math.nextafter(1.0, 0.0))  # [0, 1)
SEED = (0, 2**63 - 1)


def check_ranges(config: Any, ranges: Mapping[str, Range]) -> None:
    """Raises ChaseError, which names the flag and what it may be, for the first number out of its range."""
    for name, (least, most) in ranges.items():
        value = getattr(config, name)
        if not least <= value <= most:  # NaN is in no range
            flag = f"--{name.replace('_', '-')} is {value}"
            if (least, most) == SHARE:
                raise ChaseError(f"{flag}, it must be in [0, 1)")
            if not value > most:
                raise ChaseError(f"{flag}, it must be at least {_text(least)}")
            raise ChaseError(f"{flag}, it must be at most {_text(most)}")


def _text(number: float) -> str:
    return str(int(number)) if number == int(number) else f"{number:g}"


def check_image_size(size: int) -> None:
    """Raises ChaseError unless a crop has whole feature cells of stride 16."""
    if size % 16 or not 32 <= size <= 8192:
        raise ChaseError(f"--image-size is {size}, it must be a multiple of 16, at least 32 (at most 8192)")
