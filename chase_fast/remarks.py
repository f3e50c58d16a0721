"""Remarks: what was cut, filled up, replaced or left out before something was scored; how much and where."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import SupportsInt

NAMES = 5  # of sequences in one line


@dataclass(frozen=True)
class Remark:
    """One thing that was done, of a kind.

    Attributes:
        what: the kind, in words that are the same for all its sequences.
        sequence: where; empty: in the set as a whole.
        count, unit: of how many frames, boxes ...; 0: of nothing that can be counted.
        rule: done to every tracker, a perfect one too, because the protocol is made so.
    """

    what: str
    sequence: str = ""
    count: int = 0
    unit: str = "frame"
    rule: bool = False


@dataclass(frozen=True)
class Notes:
    """Collects remarks on one sequence; what happened to 0 frames is none."""

    sequence: str
    into: list[Remark]

    def __call__(self, what: str, count: SupportsInt, unit: str = "frame", rule: bool = False) -> None:
        if count:
            self.into.append(Remark(what, self.sequence, int(count), unit, rule))


def by_kind(remarks: Iterable[Remark]) -> dict[str, list[Remark]]:
    """Kind -> its remarks, in the order of their first appearance."""
    kinds: dict[str, list[Remark]] = {}
    for remark in remarks:
        kinds.setdefault(remark.what, []).append(remark)
    return kinds


def counted(count: int, unit: str) -> str:
    """`1 frame`, `3 boxes`."""
    plural = "" if count == 1 else "es" if unit.endswith("x") else "s"
    return f"{count} {unit}{plural}"


def sentence(what: str, remarks: list[Remark]) -> str:
    """The remarks of a kind in one line: how much, where, the first names."""
    places = [r for r in remarks if r.sequence]
    if not places:
        return what
    total = sum(r.count for r in places)
    shown = [f"{r.sequence} {r.count}" if r.count and len(places) > 1 else r.sequence for r in places[:NAMES]]
    more = f" and {len(places) - NAMES} more" if len(places) > NAMES else ""
    amount = f"{counted(total, places[0].unit)} in " if total else ""
    return f"{what}: {amount}{counted(len(places), 'sequence')} ({', '.join(shown)}{more})"
