"""Which values a configuration may have: on the command line, in config.json, from Python. The type of a
number says it."""

import math
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from chase_fast.errors import ChaseError

Config = TypeVar("Config")


@dataclass(frozen=True)
class Range:
    """From `least` to `most`, both included."""

    least: float
    most: float


# far above what anybody runs, and below what would fill the memory before the first step
COUNT, SIZE, MANY = 1e9, 1e6, 4096
Rate = Annotated[float, Range(0, 1e6)]
Share = Annotated[float, Range(0, math.nextafter(1.0, 0.0))]  # [0, 1)
Seed = Annotated[int, Range(0, 2**63 - 1)]


def ranges_of(kind: type) -> dict[str, Range]:
    """Field -> its range, of the numbers of a configuration."""
    hints = typing.get_type_hints(kind, include_extras=True)
    found = {name: getattr(hint, "__metadata__", (None,))[0] for name, hint in hints.items()}
    return {name: given for name, given in found.items() if isinstance(given, Range)}


def check_values(config: Any, *roles: str) -> None:
    """Checks numbers, crops and sources of a configuration, by its roles.

    Raises:
        ChaseError: for the first that is wrong, names the flag and what it may be.
    """
    for name, given in ranges_of(type(config)).items():
        value = getattr(config, name)
        if not given.least <= value <= given.most:  # NaN is in no range
            flag = f"--{name.replace('_', '-')} is {value}"
            if given.most < 1:
                raise ChaseError(f"{flag}, it must be in [0, 1)")
            if not value > given.most:
                raise ChaseError(f"{flag}, it must be at least {_text(given.least)}")
            raise ChaseError(f"{flag}, it must be at most {_text(given.most)}")
    if config.image_size % 16 or not 32 <= config.image_size <= 8192:  # whole feature cells of stride 16
        raise ChaseError(
            f"--image-size is {config.image_size}, it must be a multiple of 16, at least 32 (at most 8192)"
        )
    for role in roles:
        if not getattr(config, role):
            raise ChaseError(
                f"recipe {config.recipe} needs data: give --{role} kind:path[:split], or synthetic"
            )


def _text(number: float) -> str:
    return str(int(number)) if number == int(number) else f"{number:g}"


def find_recipe(recipes: Mapping[str, Callable[[], Config]], command: str, name: str) -> Config:
    """The recipe of that name.

    Raises:
        ChaseError: there is none.
    """
    if name not in recipes:
        raise ChaseError(f"unknown {command} recipe {name!r}, choose from {', '.join(recipes)}")
    return recipes[name]()
