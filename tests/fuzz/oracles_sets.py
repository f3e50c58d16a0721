"""Silent wrong results of datasets and result files (see oracles_frames.py for what an oracle is)."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from tests.fuzz import sets
from tests.fuzz.judge import Trial, said
from tests.fuzz.meaning import HUGE, meaning, role
from tests.fuzz.oracles_frames import pillow, same_pixels


def same(trial: Trial, kind: str) -> bool:
    """Whether the mutated file says what the clean one says."""
    now = meaning(trial.path, kind)
    return now is not None and now == meaning(trial.clean_path, kind)


def _board(box: Path) -> Any:
    """Protocol -> tracker -> metrics and those of every sequence."""
    scores = json.loads((box / "out" / "scores.json").read_text())["protocols"]
    return {
        p: {t: (s["metrics"], s["per_sequence"]) for t, s in about["trackers"].items()}
        for p, about in scores.items()
    }


def _sequences(board: Any) -> list[str]:
    return sorted({name for trackers in board.values() for _, each in trackers.values() for name in each})


def scores(trial: Trial) -> str:
    """Scores change when boxes do, and only then."""
    if trial.clean is None:
        return "" if _board(trial.ending.box) else "nothing was scored"
    if said(trial):
        return ""
    now, then = _board(trial.ending.box), _board(trial.clean.box)
    kind = role(trial.mutation.path)
    if kind == "names":
        return _listed(trial, now)
    if _sequences(now) != _sequences(then):
        return f"silent: the sequences {_sequences(now)} are scored, not {_sequences(then)}"
    if same(trial, kind):
        return "" if now == then else "silent: other scores for a file that says the same"
    if kind != "boxes":
        return ""
    wrong = _boxes_differ(trial, now != then)
    if wrong or "got10k" not in now or now != then:
        return wrong
    changed = meaning(trial.path, "boxes") is not None and _overlap(trial.ending.box) != _overlap(
        trial.clean.box
    )
    return "silent: other boxes give the same scores" if changed else ""


def _listed(trial: Trial, board: Any) -> str:
    """The sequences that are scored are those that the list names; it may name them by number."""
    listed = meaning(trial.path, "names")
    if listed is None or any(name.isdecimal() for name in listed) or set(listed) == set(_sequences(board)):
        return ""
    return f"silent: {_sequences(board)} are scored, the list says {str(listed)[:80]}"


def _overlap(box: Path) -> float:
    """Mean overlap of the frames between the first and the last of each sequence; NaN where a box is none."""
    sums = []
    for name in sets.LENGTHS:
        truth = next((box / "in/data").glob(f"**/{name}/groundtruth.txt"))
        result = next(
            p for p in sorted((box / "in/results").glob("**/*.txt")) if p.stem in (name, f"{name}_001")
        )
        a, b = (np.array(meaning(path, "boxes"), float) for path in (truth, result))
        low = np.maximum(a[1:-1, :2], b[1:-1, :2])
        high = np.minimum(a[1:-1, :2] + a[1:-1, 2:], b[1:-1, :2] + b[1:-1, 2:])
        common = np.clip(high - low, 0, None).prod(1)
        sums.append(np.sum(common / (a[1:-1, 2:].prod(1) + b[1:-1, 2:].prod(1) - common)))
    return round(float(np.sum(sums)), 9)


def _boxes_differ(trial: Trial, differs: bool) -> str:
    """differs: whether the command's numbers do."""
    old = meaning(trial.clean_path, "boxes")
    new = meaning(trial.path, "boxes")
    if new is None:
        return "silent: something that is no table of boxes gives other numbers" if differs else ""
    if len(new) != len(old):
        return f"silent: {len(new)} boxes for {len(old)} frames"
    if any(abs(float(v)) > HUGE for row in new for v in row):
        return "silent: a box is infinite or larger than any image"
    return ""


def visible(trial: Trial) -> str:
    """The doctor counts the targets that another reader counts."""
    count = re.findall(r"(\d+) visible targets", trial.ending.stdout)
    if trial.clean is None:
        return "" if count else "the doctor counts no targets"
    if said(trial):
        return ""
    differs = count != re.findall(r"(\d+) visible targets", trial.clean.stdout)
    kind = role(trial.mutation.path)
    if kind == "image":
        whole = pillow(trial.path) is not None or same_pixels(trial.path, trial.clean_path)
        return "" if whole else "silent: a damaged image is called whole"
    if same(trial, kind):
        return f"silent: {count} visible targets for a file that says the same" if differs else ""
    return _boxes_differ(trial, differs) if kind == "boxes" else ""
