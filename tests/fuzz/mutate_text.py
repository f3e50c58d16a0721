"""Damage that knows tables and lists: other spellings of numbers, lines, delimiters, encodings."""

import re

import numpy as np

_NUMBERS = (
    "nan", "NaN", "-nan", "inf", "-inf", "Infinity", "1e308", "-1e308", "1e-308", "1e999", "0x10",
    "1_000", "1.5.2", "", "-", "+5", "1e5", "true", "None", "１２", "٣", "9" * 25, "9" * 5000, "0", "-0",
    "-1", "2147483648", "1/2", "1,5", "5px", "'5'", '"5"', "5;", "1 000", "5\x00",
)  # fmt: skip
_NAMES = (
    "nobody", "../x", "", " ", "a" * 5000, "*", "/", ".", "a\x00b", "é", "A", "a/", "# a", "a b", "0", "-1",
    "99",
)  # fmt: skip


def change(rng: np.random.Generator, data: bytes) -> tuple[bytes, str]:
    """Raises ValueError (UnicodeDecodeError) where an earlier change left no text."""
    text = data.decode()
    lines = text.splitlines()
    if not lines:
        raise ValueError("no lines")
    pick = int(rng.integers(12))
    if pick <= 4:
        return _token(rng, lines)
    if pick <= 7:
        return _line(rng, lines)
    return _whole(rng, text, lines)


def _join(lines: list[str]) -> bytes:
    return ("\n".join(lines) + "\n").encode("utf-8", "surrogatepass")


def _token(rng, lines):
    """One number or name is another one."""
    k = int(rng.integers(len(lines)))
    tokens = list(re.finditer(r"[^\s,;]+", lines[k]))
    if not tokens:
        return _join([*lines[:k], "0", *lines[k:]]), f"a line 0 before line {k + 1}"
    token = tokens[int(rng.integers(len(tokens)))]
    pool = _NUMBERS if re.fullmatch(r"[-+.\deE]+", token[0]) else _NAMES
    new = str(pool[int(rng.integers(len(pool)))])
    if rng.random() < 0.25 and token[0].isdecimal():
        new = str(int(token[0]) + int(rng.integers(1, 9)))
    line = lines[k][: token.start()] + new + lines[k][token.end() :]
    return _join([*lines[:k], line, *lines[k + 1 :]]), f"line {k + 1}: {token[0][:20]!r} is {new[:20]!r}"


def _line(rng, lines):
    """One line more, less or somewhere else."""
    k, j = int(rng.integers(len(lines))), int(rng.integers(len(lines)))
    line = lines[k]
    forms = [
        (lines[:k] + lines[k + 1 :], f"line {k + 1} removed"),
        (lines[: k + 1] + lines[k:], f"line {k + 1} repeated"),
        ([*lines[:k], "", *lines[k:]], f"an empty line before line {k + 1}"),
        ([*lines, "", "", ""], "empty lines at the end"),
        ([*lines[:k], line + ",1", *lines[k + 1 :]], f"line {k + 1}: one value more"),
        ([*lines[:k], line.rpartition(",")[0], *lines[k + 1 :]], f"line {k + 1}: one value less"),
        ([*lines[:k], line + ",", *lines[k + 1 :]], f"line {k + 1}: a delimiter at the end"),
        ([*lines[:k], line + " # ok", *lines[k + 1 :]], f"line {k + 1}: a comment"),
        (["x,y,w,h", *lines], "a line of names in front"),
        ([*lines[:k], "1" * 200_000, *lines[k:]], f"a very long line before line {k + 1}"),
        (lines[: k + 1], f"ends after line {k + 1}"),
        ([*lines[:k], line[: len(line) // 2], *lines[k + 1 :]], f"line {k + 1} is half a line"),
    ]
    swapped = list(lines)
    swapped[k], swapped[j] = swapped[j], swapped[k]
    forms.append((swapped, f"lines {k + 1} and {j + 1} changed places"))
    changed, what = forms[int(rng.integers(len(forms)))]
    return _join(changed), what


def _whole(rng, text, lines):
    """The same content in another form, or none."""
    forms = [
        ("\r\n".join(lines).encode() + b"\r\n", "lines end with CR LF"),
        ("\r".join(lines).encode() + b"\r", "lines end with CR"),
        (b"\xef\xbb\xbf" + text.encode(), "a byte order mark in front"),
        (text.encode("utf-16"), "in UTF-16"),
        (text.replace(",", ";").encode(), "semicolons for commas"),
        (text.replace(",", "\t").encode(), "tabs for commas"),
        (text.replace(",", " , ").encode(), "spaces about commas"),
        (text.replace(".", ",").encode(), "decimal commas"),
        (re.sub(r"\b(\d+)\b", r"\1.0", text).encode(), "every integer with .0"),
        (re.sub(r"\b(\d+)\b", r"0\1", text).encode(), "every number with a leading zero"),
        (text.encode().rstrip(b"\n"), "no newline at the end"),
        (text.encode() + b"\x00" * 16, "NUL bytes at the end"),
        (text.encode() + b"\x1a", "a DOS end of file"),
        (b"", "empty"),
        (b"\n\n", "empty lines only"),
        ("\u00a0".join(text.split(",")).encode(), "no-break spaces for commas"),
        ("\ufeff".join(lines).encode(), "one line"),
        (text.encode() + text.encode(), "all lines twice"),
    ]
    return forms[int(rng.integers(len(forms)))]
