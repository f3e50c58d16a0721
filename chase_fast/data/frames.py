"""Names of frames: their order, their numbers, a compact form for long runs of them.

The order is natural: text parts of names are compared as text, runs of digits as numbers, from left to
right, capitals and padding aside. Known beyond that are decimal numbers (seconds.fraction), minus signs,
dates that end with their year, times with AM and PM, and hexadecimal numbers of one length. The frame
number is the one run of digits that changes from name to name; if several change, the one that counts;
else there is none.
"""

import re
from collections import Counter
from collections.abc import Sequence as Many
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path

from chase_fast.data.on_demand import OnDemand

_RUN = re.compile(r"\d+")
_DIGITS = frozenset("0123456789-")
_HEX_DIGITS = _DIGITS | frozenset("abcdef")
# year, month, day, then hour, minute, second and what follows of a second
_CLOCK = re.compile(
    r"(?:19|20)\d\d(\D?)[01]\d\1[0-3]\d\D{1,5}[0-2]\d(?:\D?[0-5]\d){1,2}(?:\D?\d{1,9})?(?!\d)"
)
_YEAR_LAST = re.compile(r"(?<!\d)(\d{1,2})([-._ ])(\d{1,2})\2((?:19|20)\d\d)(?!\d)")  # 31-12-2023, 12-31-2023
_HALF_DAY = re.compile(  # 1.59.50 PM
    r"(?<!\d)(0?[1-9]|1[0-2])((?:\D[0-5]\d){1,2}[\s._-]*)([ap])\.?m(?![a-z])", re.IGNORECASE
)
_UNIX_SECONDS = 10**9  # a number from here on is a time stamp


@dataclass(frozen=True)
class Numbered(OnDemand[str]):
    """`length` names `pattern % number`, numbered from `first` without a gap: almost every video."""

    pattern: str
    first: int
    length: int

    def __len__(self) -> int:
        return self.length

    def item(self, place: int) -> str:
        return self.pattern % (self.first + place)


def in_order(names: Many[str]) -> Many[str]:
    """Names in natural order, as Numbered if they have one number that misses nothing."""
    # the smallest name is the first one unless unpadded numbers start above 1: then the list stays a list
    match = re.fullmatch(r"(.*?)(\d+)(\.\w+)", min(names)) if names else None
    if match:
        prefix, digits, suffix = (part.replace("%", "%%") for part in match.groups())
        width = len(digits) if digits.startswith("0") else 1
        numbered = Numbered(f"{prefix}%0{width}d{suffix}", int(digits), len(names))
        if set(numbered) == set(names):
            return numbered
    return _Naming(names).ordered()


def frame_numbers(names: Many[str]) -> list[int] | None:
    """The frame number of every name; None where names hold none, or several of which none counts."""
    if isinstance(names, Numbered):
        return list(range(names.first, names.first + names.length))
    return _Naming(names).numbers()


def missing_number(names: Many[str]) -> int | None:
    """The first number that is missing between the first and the last name; None if none is, or if names hold
    no number that counts. Numbers count in steps of any size (0, 5, 10); time stamps do not count."""
    if isinstance(names, Numbered):
        return None
    naming = _Naming(names)
    numbers = naming.numbers()
    if numbers is None or naming.is_time(numbers):
        return None
    numbers = sorted(set(numbers))
    step = _step(numbers)
    return None if step is None else next((a + step for a, b in pairwise(numbers) if b - a > step), None)


def order_note(names: Many[str]) -> str | None:
    """Of names in which several numbers change: the order that they have, and which number is the frame's."""
    return None if isinstance(names, Numbered) else _Naming(names).note()


def _step(numbers: list[int]) -> int | None:
    """What increasing numbers count by: the most frequent difference, if it is frequent and divides all."""
    steps = Counter(b - a for a, b in pairwise(numbers))
    if not steps:
        return None
    step = min(steps, key=lambda s: (-steps[s], s))
    counts = 2 * steps[step] >= steps.total() and all(s % step == 0 for s in steps)
    return step if counts else None


def _years_first(stems: list[str]) -> list[str]:
    """Names whose dates end with the year, as if they began with it; day before month unless it cannot be."""
    dates = [d for s in stems if (d := _YEAR_LAST.search(s))]
    if not stems or len(dates) < len(stems):
        return stems
    american = any(int(d[3]) > 12 for d in dates) and all(int(d[1]) <= 12 for d in dates)
    turned = []
    for stem, date in zip(stems, dates):
        first, mark, second, year = date.groups()
        day, month = (second, first) if american else (first, second)
        turned.append(stem[: date.start()] + mark.join((year, month, day)) + stem[date.end() :])
    return turned


def hexadecimal(stems: Many[str]) -> bool:
    """Stems of one length that differ in nothing but hexadecimal digits, some of them letters.

    Where all have a letter in one place (0001a, 0001b) it tells two kinds apart.
    """
    if len({len(s) for s in stems}) != 1:
        return False
    changing = [set(column) for column in zip(*(s.casefold() for s in stems)) if len(set(column)) > 1]
    digits = all(column <= _HEX_DIGITS and column & _DIGITS for column in changing)
    return digits and any(column - _DIGITS for column in changing)


def _in_24_hours(stems: list[str]) -> list[str]:
    """Names with AM or PM behind their time, as if they counted to 24."""
    times = [t for s in stems if (t := _HALF_DAY.search(s))]
    if not stems or len(times) < len(stems):
        return stems
    hours = [int(t[1]) % 12 + 12 * (t[3] in "pP") for t in times]
    return [f"{s[: t.start()]}{h:02d}{t[2]}{s[t.end() :]}" for s, t, h in zip(stems, times, hours)]


class _Naming:
    """How the names of one folder are made: text parts and, between them, columns of numbers."""

    def __init__(self, names: Many[str]):
        self.names = list(names)
        self._stems = _in_24_hours(_years_first([Path(n).stem for n in self.names]))
        folded = [s.casefold() for s in self._stems]
        self._texts = [tuple(_RUN.split(s)) for s in folded]
        self._values: list[tuple[int, ...]] = []
        self._hex = len(set(self._texts)) > 1 and hexadecimal(folded)
        if self._hex:
            self._texts, self._values = [(s,) for s in folded], [() for _ in folded]
            return
        runs = [_RUN.findall(s) for s in folded]
        signs = self._minus_signs()
        decimals = self._decimals(runs)
        self._values = [
            tuple(
                sign * int(run.ljust(decimals.get(i, 0), "0"))
                for i, (run, sign) in enumerate(zip(row, signs_))
            )
            for row, signs_ in zip(runs, signs)
        ]
        self._decimal = decimals

    def _minus_signs(self) -> list[list[int]]:
        """-1 for every run before which a minus stands that is a sign: other names lack just it, or have a
        plus there."""
        known, signs = set(self._texts), []
        for k, texts in enumerate(self._texts):
            signs.append([1] * (len(texts) - 1))
            for i, text in enumerate(texts[:-1]):
                for plus in ("", "+") if text.endswith("-") else ():
                    unsigned = (*texts[:i], text[:-1] + plus, *texts[i + 1 :])
                    if unsigned in known:
                        self._texts[k], signs[k][i] = unsigned, -1
        return signs

    def _decimals(self, runs: list[list[str]]) -> dict[int, int]:
        """Columns that are fractions of the number before them -> how many digits they have at most."""
        if len(set(self._texts)) != 1:
            return {}
        found = {}
        columns = list(zip(*runs))
        for i in range(1, len(columns)):
            fractions = columns[i]
            widths = {len(f) for f in fractions}
            changes = len(set(columns[i - 1])) > 1
            padded = any(len(f) > 1 and f[0] == "0" for f in fractions)  # no count is written so
            cut = any(len(f) > 1 and f[-1] == "0" for f in fractions)  # no fraction is
            decimal = changes if len(widths) == 1 else padded or (changes and not cut)
            if self._texts[0][i] == "." and decimal and i - 1 not in found:
                found[i] = max(widths)
        return found

    def ordered(self) -> tuple[str, ...]:
        keys = [
            (*chain.from_iterable(zip(texts, values)), texts[-1])
            for texts, values in zip(self._texts, self._values)
        ]
        return tuple(name for _, name in sorted(zip(keys, self.names)))

    def _columns(self) -> list[tuple[int, list[int]]]:
        """Of every number the place of its last run, and its values; fractions belong to what they follow."""
        if self._hex or not self.names or len(set(self._texts)) != 1:
            return []
        columns: list[tuple[int, list[int]]] = []
        for i, numbers in enumerate(zip(*self._values)):
            values = list(numbers)
            if i in self._decimal:
                _, whole = columns.pop()
                values = [w * 10 ** self._decimal[i] + v for w, v in zip(whole, values)]
            columns.append((i, values))
        return columns

    def _number(self) -> tuple[int, list[int]] | None:
        columns = self._columns()
        changing = [c for c in columns if len(set(c[1])) > 1]
        if len(self.names) == 1:
            return columns[-1] if columns else None
        if len(changing) == 1:
            return changing[0]
        place = {name: k for k, name in enumerate(self.ordered())}
        for i, values in changing:
            row = [v for _, v in sorted(zip((place[n] for n in self.names), values))]
            if all(a < b for a, b in pairwise(row)) and _step(row) is not None:
                return i, values
        return None

    def numbers(self) -> list[int] | None:
        found = self._number()
        return None if found is None else found[1]

    def _in_clock(self, column: int) -> bool:
        """A run of digits that is part of a date with a time."""
        clock = _CLOCK.search(self._stems[0])
        runs = list(_RUN.finditer(self._stems[0]))
        return clock is not None and clock.start() <= runs[column].start() < clock.end()

    def is_time(self, numbers: list[int]) -> bool:
        """The frame numbers are time stamps."""
        found = self._number()
        assert found is not None, "there are frame numbers"
        column, _ = found
        return max(numbers) >= _UNIX_SECONDS or column in self._decimal or self._in_clock(column)

    def note(self) -> str | None:
        changing = [i for i, values in self._columns() if len(set(values)) > 1]
        clocks = [i for i in changing if self._in_clock(i)]
        if len(changing) - len(clocks) + bool(clocks) < 2:
            return None
        ordered = self.ordered()
        text = f"{ordered[0]}, {ordered[1]} ... {ordered[-1]}"
        number = self._number()
        if number is None:
            return text
        run = list(_RUN.finditer(Path(ordered[0]).stem))[number[0]][0]
        return f"{text}; the frame number is {run} in {ordered[0]}"
