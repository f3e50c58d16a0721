"""Scores of several trackers on one benchmark, by the protocols asked for."""

from dataclasses import dataclass, field

import numpy as np

from chase_fast.data.evaluation import EvaluationSequence, EvaluationSet
from chase_fast.errors import ChaseError
from chase_fast.evaluate.protocols import DEFAULT_PROTOCOLS, PROTOCOLS, Scores, Truth, score
from chase_fast.evaluate.protocols.curves import overlap
from chase_fast.evaluate.speed import Speed, speed


@dataclass(frozen=True)
class Outcome:
    """What one tracker did: boxes [T, 4] ([R, T, 4] of R repetitions) and seconds of each sequence."""

    name: str
    boxes: dict[str, np.ndarray] = field(repr=False)
    times: dict[str, np.ndarray] = field(repr=False)
    note: str = ""  # how it was run

    @property
    def speed(self) -> Speed | None:
        return speed(self.times)

    def first_run(self, name: str) -> np.ndarray:
        """[T, 4] boxes of a sequence, of its first repetition."""
        boxes = self.boxes[name]
        return boxes if boxes.ndim == 2 else boxes[0]


@dataclass(frozen=True)
class Board:
    """Scores by protocol and tracker, over all sequences and over those with an attribute."""

    data: EvaluationSet
    outcomes: list[Outcome]
    scores: dict[str, dict[str, Scores]]  # protocol -> tracker
    attributes: dict[str, list[str]]  # attribute -> sequences
    by_attribute: dict[str, dict[str, dict[str, Scores]]]  # protocol -> attribute -> tracker


def known_protocols(names: tuple[str, ...], kind: str) -> tuple[str, ...]:
    """The protocols asked for, else those of the benchmark; raises ChaseError for an unknown one."""
    if unknown := [n for n in names if n not in PROTOCOLS]:
        raise ChaseError(f"--protocol {unknown[0]}: unknown, choose from {', '.join(PROTOCOLS)}")
    return tuple(dict.fromkeys(names)) or DEFAULT_PROTOCOLS[kind]


def truth(sequence: EvaluationSequence, sized: bool) -> Truth:
    """The annotation of a sequence; `sized`: with the size of its frames, which may cost decoding one."""
    size = sequence.size() if sized else None
    return Truth(sequence.name, sequence.boxes, sequence.absent, sequence.cover, size)


def rate(
    data: EvaluationSet, outcomes: list[Outcome], protocols: tuple[str, ...], unknown: str = "toolkit"
) -> Board:
    """Scores every tracker.

    Args:
        protocols: names in PROTOCOLS.
        unknown: what to do about frames without a known box, see protocols.score.

    Raises:
        ChaseError: boxes do not fit the annotation, or a protocol refuses the input.
    """
    truths = [truth(s, "got10k" in protocols) for s in data.scored]
    attributes: dict[str, list[str]] = {}
    for sequence in data.scored:
        for name, present in sequence.attributes.items():
            attributes.setdefault(name, []).extend([sequence.name] if present else [])
    attributes = {name: sequences for name, sequences in attributes.items() if sequences}

    def scores(protocol: str, names: list[str] | None = None) -> dict[str, Scores]:
        chosen = truths if names is None else [t for t in truths if t.name in set(names)]
        found = {}
        for outcome in outcomes:
            try:
                found[outcome.name] = score(protocol, chosen, outcome.boxes, unknown)
            except ChaseError as e:
                raise ChaseError(f"{outcome.name}, protocol {protocol}: {e}") from e
        return found

    if not truths:
        return Board(data, outcomes, {}, {}, {})
    return Board(
        data,
        outcomes,
        {p: scores(p) for p in protocols},
        attributes,
        {p: {a: scores(p, names) for a, names in attributes.items()} for p in protocols},
    )


def overlaps(outcome: Outcome, sequence: EvaluationSequence) -> np.ndarray:
    """[T] intersection over union with the annotation, NaN where the box is unknown or the target hidden."""
    boxes = outcome.first_run(sequence.name)[: len(sequence.boxes)]
    values = np.full(len(sequence.boxes), np.nan)
    values[: len(boxes)] = overlap(boxes, sequence.boxes[: len(boxes)])
    hidden = np.isnan(sequence.boxes).any(1)
    if sequence.absent is not None:
        hidden |= sequence.absent
    if sequence.cover is not None:
        hidden |= sequence.cover == 0
    values[hidden] = np.nan
    return values
