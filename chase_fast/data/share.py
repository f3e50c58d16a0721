"""A share of a dataset by position, `0-80%`: disjoint splits of a folder that has none."""

import re
from collections.abc import Sequence as Many
from dataclasses import dataclass
from typing import TypeVar

from chase_fast.errors import ChaseError

T = TypeVar("T")


@dataclass(frozen=True)
class Share:
    """From `first` to `last` percent of the sequences, in the order of the dataset. Shares that touch,
    such as 0-80%
    and 80-100%, have no sequence in common and none between them, whatever the number of sequences."""

    first: float
    last: float

    @classmethod
    def parse(cls, text: str, spec: str) -> "Share | None":
        """`A-B%` -> Share; None for a text that is none.

        Raises:
            ChaseError: a percent sign, but not 0 <= A < B <= 100.
        """
        if not text.endswith("%"):
            return None
        match = re.fullmatch(r"(\d+(?:\.\d+)?)-(\d+(?:\.\d+)?)%", text)
        if not match or not 0 <= float(match[1]) < float(match[2]) <= 100:
            raise ChaseError(f"{spec}: {text} is no share of a dataset: write it as 0-80% or 80-100%")
        return cls(float(match[1]), float(match[2]))

    def __str__(self) -> str:
        return f"{self.first:g}-{self.last:g}%"

    def bounds(self, count: int) -> tuple[int, int]:
        """First and one past the last position."""
        return int(count * self.first / 100 + 0.5), int(count * self.last / 100 + 0.5)

    def of(self, items: Many[T], spec: str, what: str = "sequences") -> list[T]:
        """The items of this share.

        Raises:
            ChaseError: there is none, because there are too few.
        """
        first, last = self.bounds(len(items))
        if first == last:
            raise ChaseError(f"{spec}: of {len(items)} {what} none lies in {self}; take a larger share")
        return list(items[first:last])
