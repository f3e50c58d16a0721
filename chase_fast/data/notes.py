"""What was decided while reading data, to be said once, however many sequences it concerns."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Note:
    """what: the decision, in the same words for every sequence; example: its part that differs."""

    what: str
    example: str

    def __str__(self) -> str:
        return f"{self.what}: {self.example}"


def summed(notes: Iterable[tuple[str, Note]]) -> list[str]:
    """Notes with the names of their sequences -> one line per decision."""
    owners: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for name, note in notes:
        owners[note.what].append((name, note.example))
    lines = []
    for what, of in owners.items():
        name, example = of[0]
        many = f"{len(of)} sequences, the first is {name}" if len(of) > 1 else f"sequence {name}"
        lines.append(f"{what} ({many}: {example})")
    return lines
