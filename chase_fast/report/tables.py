"""Tables of a comparison as plain text cells, for the page and for Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Table:
    """A table with a name and a note; `words` columns on the left and those in `also` hold text, all others
    numbers.

    looks: (colour, dash) of every row, for the page. strong: a row to stand out.
    """

    title: str
    note: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: int = 1
    also: frozenset[int] = frozenset()
    looks: Sequence[tuple[str, str]] = field(default=())
    strong: int | None = None

    def is_text(self, column: int) -> bool:
        return column < self.words or column in self.also

    def markdown(self) -> str:
        """GitHub's form, with the title in bold and the note below."""
        rule = ["---" if self.is_text(c) else "---:" for c in range(len(self.head))]
        lines = [_row(self.head), "|" + "|".join(rule) + "|", *map(_row, self.rows)]
        parts = [f"**{_plain(self.title)}**", "\n".join(lines)]
        return "\n\n".join(parts + ([_plain(self.note)] if self.note else []))


def _plain(text: str) -> str:
    """One line that Markdown takes as text."""
    text = " ".join(str(text).split())
    for mark in "\\`*_<>[]#|":
        text = text.replace(mark, f"\\{mark}")
    return text


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_plain(cell) for cell in cells) + " |"
