"""Words of a command line -> values of its fields."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chase_fast.commandline.flags import Flag
from chase_fast.errors import ChaseError
from chase_fast.fields import short
from chase_fast.files import user_path


def convert(flag: Flag, given: list[str] | bool) -> Any:
    """What was given for a flag, as its field holds it.

    Raises:
        ChaseError: a word is no value of this kind; flag, word and what is expected are named.
    """
    if isinstance(given, bool):
        return given
    values = tuple(_one(flag, text) for text in given)
    return values if flag.many else values[0]


def _one(flag: Flag, text: str) -> Any:
    if flag.choices:
        if text not in flag.choices:
            raise ChaseError(f"{flag.shown} {short(text)[1:-1]}: choose from {', '.join(flag.choices)}")
        return flag.choices[text]
    expected, make = KINDS[flag.kind]
    try:
        return make(text)
    except ChaseError:
        raise
    except ValueError:
        raise ChaseError(f"{flag.shown} {short(text)[1:-1]}: expected {expected}") from None


def _integer(text: str) -> int:
    value = int(text)
    if not -(2**63) <= value < 2**63:
        raise ValueError
    return value


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError
    return value


def _path(text: str) -> Path:
    if not text:
        raise ValueError
    return user_path(text)


KINDS: dict[type, tuple[str, Callable[[str], Any]]] = {
    str: ("a text", str),
    int: ("an integer of 64 bits at most", _integer),
    float: ("a number", _number),
    Path: ("a path", _path),
}
