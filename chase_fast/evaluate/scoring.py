"""Scores of several trackers on one benchmark, by the protocols asked for."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from chase_fast.data.evaluation import EvaluationSequence, EvaluationSet
from chase_fast.datasets import KINDS
from chase_fast.errors import ChaseError
from chase_fast.evaluate.protocols import PROTOCOLS, Scores, Truth, score
from chase_fast.evaluate.protocols.curves import overlap
from chase_fast.evaluate.speed import Speed, speed
from chase_fast.remarks import Notes, Remark

REPEATED = ("got10k",)  # protocols that score all repetitions of a tracker


@dataclass(frozen=True)
class Outcome:
    """What one tracker did.

    Attributes:
        boxes, times: of each sequence, [T, 4] and seconds [T] ([R, T, 4] and [R, T] of R repetitions).
        note: how it was run, for people; about: what its tracker.json says.
        trained_on: role (train, val, init) -> the sequences that it has seen; None where that is not known.
        remarks: what was found and left aside when its files were read.
    """

    name: str
    boxes: dict[str, np.ndarray] = field(repr=False)
    times: dict[str, np.ndarray] = field(repr=False)
    note: str = ""
    about: dict[str, Any] = field(default_factory=dict, repr=False)
    trained_on: dict[str, list[str]] | None = None
    remarks: tuple[Remark, ...] = field(default=(), repr=False)

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
    sizes: tuple[Remark, ...] = ()  # on the picture sizes that protocol got10k bounds boxes by


def known_protocols(names: tuple[str, ...], kind: str) -> tuple[str, ...]:
    """The protocols asked for, else those of the benchmark; raises ChaseError for an unknown one."""
    if unknown := [n for n in names if n not in PROTOCOLS]:
        raise ChaseError(f"--protocol {unknown[0]}: unknown, choose from {', '.join(PROTOCOLS)}")
    return tuple(dict.fromkeys(names)) or KINDS[kind].protocols


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
            boxes, remarks = _taken(protocol, data.scored, outcome)
            try:
                one = score(protocol, chosen, boxes, unknown)
            except ChaseError as e:
                raise ChaseError(f"{outcome.name}, protocol {protocol}: {e}") from e
            found[outcome.name] = replace(one, remarks=(*remarks, *one.remarks))
        return found

    if not truths:
        return Board(data, outcomes, {}, {}, {})
    wrong = [s.name for s in data.scored if "got10k" in protocols and s.stated_wrongly()]
    return Board(
        data,
        outcomes,
        {p: scores(p) for p in protocols},
        attributes,
        {p: {a: scores(p, names) for a, names in attributes.items()} for p in protocols},
        tuple(Remark("boxes are bounded by the stated resolution, which no frame has", n) for n in wrong),
    )


def _taken(
    protocol: str, sequences: list[EvaluationSequence], outcome: Outcome
) -> tuple[dict[str, np.ndarray], list[Remark]]:
    """The boxes that a protocol scores: of annotated frames, and of one run unless it takes several."""
    taken, remarks = {}, list[Remark]()
    for sequence in sequences:
        if sequence.name not in outcome.boxes:
            continue
        boxes, note = outcome.boxes[sequence.name], Notes(sequence.name, remarks)
        if boxes.ndim == 3 and protocol not in REPEATED:
            note("only the first repetition is scored", len(boxes) - 1, "further repetition")
            boxes = boxes[0]
        surplus = boxes.shape[-2] - len(sequence.boxes)
        if surplus > 0 and boxes.shape[-2] == sequence.frames_in_all:
            note("boxes of frames after the annotation are cut off", surplus, "box")
            boxes = boxes[..., : len(sequence.boxes), :]
        taken[sequence.name] = boxes
    return taken, remarks


def overlaps(outcome: Outcome, sequence: EvaluationSequence) -> np.ndarray:
    """[T] intersection over union with the annotation, NaN where the box is unknown or the target hidden."""
    boxes = outcome.first_run(sequence.name)[: len(sequence.boxes)]
    values = np.full(len(sequence.boxes), np.nan)
    with np.errstate(over="ignore", invalid="ignore"):  # of absurd boxes
        values[: len(boxes)] = overlap(boxes, sequence.boxes[: len(boxes)])
    hidden = np.isnan(sequence.boxes).any(1)
    if sequence.absent is not None:
        hidden |= sequence.absent
    if sequence.cover is not None:
        hidden |= sequence.cover == 0
    values[hidden] = np.nan
    return values
