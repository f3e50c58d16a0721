"""Values of settings: do they fit the type of their field, and how are they written on a command line."""

import ast
import math
import numbers
import types
from typing import Any, Union, get_args, get_origin

_LONGEST = 1000  # letters of a value
_WORDS = {"true": True, "false": False, "none": None}


def fits(value: Any, hint: Any) -> bool:
    """Whether a value is of the type that an annotation names. Whole numbers are numbers; all are finite."""
    try:
        _convert(value, hint)
    except ValueError:
        return False
    return True


def read(text: str, hint: Any) -> Any:
    """Text -> value of the annotated type: numbers, true, false, none; tuples with commas, pairs in brackets.

    Raises:
        ValueError: it is something else.
    """
    text = text.strip()
    if hint is str:
        return text
    if text.lower() in _WORDS:
        return _convert(_WORDS[text.lower()], hint)
    if len(text) > _LONGEST:
        raise ValueError
    try:
        value = ast.literal_eval(text)
    except (SyntaxError, TypeError, MemoryError, RecursionError):
        raise ValueError from None
    try:
        return _convert(value, hint)
    except ValueError:
        return _convert((value,), hint)  # one of several: rotations=10


def describe(hint: Any) -> str:
    """What `read` takes, in words."""
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "a word"}
    if hint in words:
        return words[hint]
    if hint is type(None):
        return "none"
    if _is_union(hint):
        return " or ".join(map(describe, get_args(hint)))
    inner = get_args(hint)
    if inner[-1] is not ...:
        return f"{len(inner)} numbers with commas"
    if get_origin(inner[0]) is tuple:
        return "pairs like (3,1),(1,3), or () for none"
    return "numbers with commas, or () for none"


def _is_union(hint: Any) -> bool:
    return get_origin(hint) in (Union, types.UnionType)


def _convert(value: Any, hint: Any) -> Any:
    if _is_union(hint):
        for member in get_args(hint):
            try:
                return _convert(value, member)
            except ValueError:
                continue
        raise ValueError
    if get_origin(hint) is tuple:
        if not isinstance(value, tuple | list):
            raise ValueError
        inner = get_args(hint)
        if inner[-1] is ...:
            return tuple(_convert(v, inner[0]) for v in value)
        if len(value) != len(inner):
            raise ValueError
        return tuple(map(_convert, value, inner))
    if hint is float:
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            raise ValueError
        try:
            number = float(value)
        except OverflowError:
            raise ValueError from None
        if not math.isfinite(number):
            raise ValueError
        return number
    if hint is int:
        if isinstance(value, bool) or not isinstance(value, numbers.Integral):
            raise ValueError
        return int(value)
    if not isinstance(value, hint):
        raise ValueError
    return value
