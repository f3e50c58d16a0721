"""Which values tracker settings can have: of the type of their field, in a range where anything works."""

from typing import Any

from chase_fast.errors import ChaseError
from chase_fast.track import values

# smallest and largest value, of all numbers in a tuple
LIMITS: dict[str, tuple[float, float]] = {
    "image_size": (16, 4096),
    "search_area": (1, 100),
    "max_scale_change": (1, 1000),
    "smallest_side": (0, 1e6),
    "largest_side": (1e-3, 1e6),
    "init_iterations": (0, 10_000),
    "update_iterations": (0, 10_000),
    "hard_negative_iterations": (0, 10_000),
    "update_interval": (1, 10**9),
    "blurs": (0.01, 100),
    "rotations": (-360, 360),
    "shifts": (-2, 2),
    "random_shift": (0, 4),
    "expansion": (1, 8),
    "dropouts": (0, 0.99),
    "memory": (2, 10_000),
    "learning_rate": (0, 0.99),
    "hard_negative_rate": (0, 0.99),
    "init_weight": (0, 1),
    "lost_below": (-1e6, 1e6),
    "distractor_above": (0, 1e6),
    "hard_negative_above": (0, 1e6),
    "neighbourhood": (0, 1000),
    "displacement": (0, 1000),
    "random_boxes": (0, 1000),
    "position_jitter": (0, 100),
    "size_jitter": (0, 100),
    "refine_iterations": (0, 1000),
    "step": (0, 1e6),
    "step_decay": (0, 10),
    "best_boxes": (1, 1000),
    "max_aspect": (1, 1e6),
    "inside_ratio": (0, 1),
}


def check(name: str, value: Any, hint: Any) -> None:
    """Raises ChaseError if a setting has a value of another type than the annotation, or out of range."""
    if not values.fits(value, hint):
        raise ChaseError(f"{name} {value!r} must be {values.describe(hint)}")
    if name not in LIMITS:
        return
    least, most = LIMITS[name]
    for number in _numbers(value):
        if number < least:
            raise ChaseError(f"{name} {number} must be at least {least}")
        if number > most:
            raise ChaseError(f"{name} {number} must be at most {most}")


def _numbers(value: Any) -> list[float]:
    """The numbers in a setting, in a flat list."""
    if isinstance(value, tuple):
        return [n for v in value for n in _numbers(v)]
    return [] if value is None else [value]
