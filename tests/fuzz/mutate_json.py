"""Damage that knows JSON: values of other types, missing, further and repeated keys, nesting, broken text."""

import copy
import json
from typing import Any

import numpy as np

_DEEP = 100_000
_HUGE = "HUGE"  # stands for an integer of 400 digits until the text is written


def _places(value: Any, found: list, above: Any = None, key: Any = None, depth: int = 0) -> list:
    """(container, key) of every value."""
    if above is not None:
        found.append((above, key))
    if depth < 12 and len(found) < 5000:
        items = (
            value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        )
        for k, v in list(items):
            _places(v, found, value, k, depth + 1)
    return found


def _other(rng: np.random.Generator, old: Any) -> Any:
    """A value that is not like the old one."""
    number = old if isinstance(old, int | float) and not isinstance(old, bool) else 1
    pool = [
        None, True, False, 0, -1, 1, 0.5, -0.0, 2**31, 2**63, -(2**63) - 1, 1e308, -1e308, 5e-324, "",
        "x", "nan", str(old)[:200], [], {}, [old], {"value": old}, [[]], float("nan"), float("inf"),
        float("-inf"), _HUGE, number * 1000, -number, number + 0.5, "é" * 10, "\x00", "a" * 100_000,
        "../../x", [1] * 1000,
    ]  # fmt: skip
    return pool[int(rng.integers(len(pool)))]


def change(rng: np.random.Generator, data: bytes) -> tuple[bytes, str]:
    """Raises ValueError where `data` is no JSON."""
    value = json.loads(data)
    text, what = _changed(rng, value, 1 if b"\n" in data.strip() else None)
    return text, what


def change_line(rng: np.random.Generator, data: bytes) -> tuple[bytes, str]:
    """One line of a file of JSON lines."""
    lines = data.splitlines(keepends=True)
    k = int(rng.integers(len(lines)))
    choice = rng.random()
    if choice < 0.1:
        return b"".join(lines[:k] + lines[k + 1 :]), f"line {k + 1} removed"
    if choice < 0.2:
        return b"".join(lines[: k + 1] + lines[k:]), f"line {k + 1} repeated"
    if choice < 0.3:
        order = rng.permutation(len(lines))
        return b"".join(lines[i] for i in order), f"lines in the order {order.tolist()}"
    if choice < 0.4:
        return b"".join([*lines[:k], b"\n", *lines[k:]]), f"an empty line before line {k + 1}"
    text, what = _changed(rng, json.loads(lines[k]), None)
    return b"".join([*lines[:k], text.replace(b"\n", b" ") + b"\n", *lines[k + 1 :]]), f"line {k + 1}: {what}"


def _changed(rng: np.random.Generator, value: Any, indent: int | None) -> tuple[bytes, str]:
    value = copy.deepcopy(value)
    places = _places(value, [])
    if not places:
        return b"[]", "replaced by a list"
    above, key = places[int(rng.integers(len(places)))]
    where = f"[{key}]" if isinstance(above, list) else key
    choice = int(rng.integers(10))
    if choice <= 3:
        above[key] = _other(rng, above[key])
        what = f"{where} is {str(above[key])[:40]!r}"
    elif choice == 4:
        del above[key]
        what = f"{where} is missing"
    elif choice == 5:
        further = above if isinstance(above, dict) else value
        if isinstance(further, dict):
            further["further"] = _other(rng, 1)
        else:
            further.append(_other(rng, 1))
        what = "a further value"
    elif choice == 6:
        above[key] = "DEEP"
        kind = ("[", "]") if rng.random() < 0.5 else ('{"a":', "}")
        closed = bool(rng.random() < 0.5)
        text = json.dumps(value, indent=indent)
        deep = kind[0] * _DEEP + ("1" + kind[1] * _DEEP if closed else "")
        return text.replace('"DEEP"', deep, 1).encode(), f"{where} is nested {_DEEP} deep"
    elif choice == 7:
        text = json.dumps(value, indent=indent)
        double = (
            json.dumps(_other(rng, 1)) if not isinstance(above, dict) else json.dumps(_other(rng, above[key]))
        )
        name = key if isinstance(above, dict) else "a"
        cut = text.index("{") + 1 if "{" in text else 1
        return (
            text[:cut] + f"{json.dumps(name)}: {double}, " + text[cut:]
        ).encode(), f"{name} stands there twice"
    elif choice == 8:
        return _broken_text(rng, json.dumps(value, indent=indent))
    else:
        other = places[int(rng.integers(len(places)))]
        above[key], other[0][other[1]] = copy.deepcopy(other[0][other[1]]), copy.deepcopy(above[key])
        what = f"{where} and another value changed places"
    text = json.dumps(value, indent=indent).replace(f'"{_HUGE}"', "9" * 400)
    return text.encode(), what


def _broken_text(rng: np.random.Generator, text: str) -> tuple[bytes, str]:
    """The text as no JSON writer gives it."""
    middle = int(rng.integers(len(text)))
    forms = [
        (b"\xef\xbb\xbf" + text.encode(), "a byte order mark in front"),
        (text.encode("utf-16"), "in UTF-16"),
        (
            text[:middle].encode() + b"\xff\xfe" + text[middle:].encode(),
            f"bytes that are no UTF-8 at {middle}",
        ),
        (text.replace('": "', '": "\\ud800', 1).encode(), "half a surrogate pair in a text"),
        (text.replace('"', "'").encode(), "single quotes"),
        (text.replace(",", ",,", 1).encode(), "a comma too many"),
        (text.encode() + b"\n" + text.encode(), "twice in one file"),
        (text.encode() + b"\x00", "a NUL byte behind"),
        (b"// comment\n" + text.encode(), "a comment in front"),
        (b"null", "null"),
        (b"[]", "an empty list"),
        (b"{}", "an empty object"),
        (b"", "nothing"),
    ]
    return forms[int(rng.integers(len(forms)))]
