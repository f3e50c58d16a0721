"""All remarks on an evaluation, by tracker and protocol; for the console, scores.json and the page."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from chase_fast.evaluate.about import notice
from chase_fast.evaluate.scoring import Board
from chase_fast.remarks import Remark, by_kind, sentence


@dataclass(frozen=True)
class Entry:
    """Remarks of one kind. tracker: empty for the data set; protocols: those that did it, none for files."""

    tracker: str
    protocols: tuple[str, ...]
    what: str
    remarks: tuple[Remark, ...]

    @property
    def rule(self) -> bool:
        return self.remarks[0].rule

    @property
    def who(self) -> str:
        """`CSRT (otb, pysot)`."""
        by = f" ({', '.join(self.protocols)})" if self.protocols else ""
        return f"{self.tracker}{by}".strip()

    @property
    def line(self) -> str:
        text = sentence(self.what, list(self.remarks))
        return f"{self.who}: {text}" if self.who else text

    def data(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "tracker": self.tracker or None,
            "protocols": list(self.protocols),
            "what": self.what,
            "by_rule": self.rule,
            "unit": self.remarks[0].unit,
            "total": sum(r.count for r in self.remarks),
            "sequences": {r.sequence: r.count for r in self.remarks if r.sequence},
        }


def entries(board: Board) -> list[Entry]:
    """Remarks on the data, on every tracker's files and its scores; equal ones of several protocols once."""
    found = [*_entries("", (), board.data.remarks), *_entries("", ("got10k",), board.sizes)]
    for outcome in board.outcomes:
        found += _entries(outcome.name, (), outcome.remarks)
        merged: dict[tuple[str, tuple[Remark, ...]], list[str]] = {}
        for protocol, scores in board.scores.items():
            for what, remarks in by_kind(scores[outcome.name].remarks).items():
                merged.setdefault((what, tuple(remarks)), []).append(protocol)
        found += [Entry(outcome.name, tuple(p), what, r) for (what, r), p in merged.items()]
    return found


def _entries(tracker: str, protocols: tuple[str, ...], remarks) -> Iterator[Entry]:
    for what, group in by_kind(remarks).items():
        yield Entry(tracker, protocols, what, tuple(group))


def by_rule(board: Board, protocol: str) -> list[str]:
    """What the rules of a protocol leave out of this data or change in everybody's boxes; empty if that is
    only what they do to any data."""
    totals: dict[str, dict[str, int]] = {}
    for tracker, scores in board.scores[protocol].items():
        for what, group in by_kind(r for r in scores.remarks if r.rule).items():
            totals.setdefault(what, {})[tracker] = sum(r.count for r in group)
    if set(totals) <= {"first frames are not scored"}:
        return []
    return [f"{what}: {_amount(counts, len(board.outcomes))}" for what, counts in totals.items()]


def _amount(counts: dict[str, int], trackers: int) -> str:
    same = len(set(counts.values())) == 1 and len(counts) == trackers
    return str(next(iter(counts.values()))) if same else ", ".join(f"{t} {n}" for t, n in counts.items())


def notices(board: Board) -> dict[str, str]:
    """Tracker -> what a reader must know about it: that it was trained on what it is scored on."""
    found = {o.name: notice(o.trained_on, len(board.data.scored)) for o in board.outcomes}
    return {name: text for name, text in found.items() if text}
