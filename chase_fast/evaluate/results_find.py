"""Where the result files of a tracker are: the folder of its run, and the files of each sequence.

A run's folder holds SEQ.txt, SEQ/SEQ_001.txt or SEQ/boxes.txt (what the track command writes). The public
toolkits put it under tracking_results/TRACKER/PARAMETERS[/DATASET] (pytracking and its forks),
results/DATASET/TRACKER (pysot, got10k), TRACKER_tracking_result (LaSOT); ours is under OUT/results/TRACKER. A
folder above or below it is taken for it where only one can be meant.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from chase_fast.errors import ChaseError
from chase_fast.remarks import Remark

DEPTH = 3  # folders between the one that was given and that of the run
MOST = 5000  # folders that are looked at
PREFIXES = ("uav_", "nfs_", "otb_")  # pytracking writes them before the names of UAV123, NfS and OTB
# what trackers write beside NAME.txt
COMPANION = re.compile(r"(.+?)_(time|times|fps|scores?|object_presence_scores|all_boxes|all_scores)")
BOXES = "boxes.txt"


@dataclass(frozen=True)
class Files:
    """The files of one sequence: boxes by repetition, counted from 1, and times (None without)."""

    boxes: dict[int, Path]
    times: Path | None


def key(name: str) -> str:
    """What all spellings of a sequence's name share: Jogging.1, jogging-1 and otb_Jogging_1."""
    text = name.lower()
    prefix = next((p for p in PREFIXES if text.startswith(p)), "")
    return re.sub(r"[.\-](\d+)$", r"_\1", text.removeprefix(prefix))


class Run:
    """The result files in one folder: flat ones, and the folders that may hold those of one sequence each."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.files: dict[str, Path] = {}
        self.folders: dict[str, Path] = {}
        for entry in _scan(folder):
            if entry.is_dir():
                self.folders[entry.name] = Path(entry.path)
            elif entry.name.endswith(".txt"):
                self.files[entry.name.removesuffix(".txt")] = Path(entry.path)
        self._keys: dict[str, list[str]] = {}
        for stem in sorted(self.files.keys() | self.folders.keys()):
            self._keys.setdefault(key(stem), []).append(stem)

    def spelled(self, names: Sequence[str]) -> list[str]:
        """How this folder may spell a sequence that has these names; empty where it has no results of it."""
        if exact := [name for name in names if self._has(name)]:
            return exact[:1]
        near = [stem for k in dict.fromkeys(map(key, names)) for stem in self._keys.get(k, [])]
        return [stem for stem in near if self._has(stem)]

    def _has(self, stem: str) -> bool:
        return stem in self.files or bool(self._repeated(stem))

    def _repeated(self, stem: str) -> dict[int, Path]:
        """Box files in the folder of a sequence, by repetition."""
        if stem not in self.folders:
            return {}
        inside = {e.name: Path(e.path) for e in _scan(self.folders[stem]) if e.name.endswith(".txt")}
        pattern = re.compile(re.escape(stem) + r"_(\d{1,6})\.txt")
        found = {int(m[1]): path for name, path in inside.items() if (m := pattern.fullmatch(name))}
        return dict(sorted(found.items())) or ({1: inside[BOXES]} if BOXES in inside else {})

    def of(self, stem: str) -> Files:
        """The files of a sequence.

        Raises:
            ChaseError: both SEQ.txt and SEQ/ hold boxes.
        """
        repeated, flat = self._repeated(stem), self.files.get(stem)
        if repeated and flat:
            raise ChaseError(
                f"{self.folder} has both {flat.name} and {stem}/: keep the results of one run only"
            )
        clock = f"{stem}_time.txt"
        places = [self.folder / stem] if repeated else [self.folder / "times", self.folder]
        times = next((p / clock for p in places if os.path.isfile(p / clock)), None)
        return Files(repeated or ({1: flat} if flat else {}), times)

    def unused(self, used: set[str]) -> list[str]:
        """Results of other sequences."""
        stems = self.files.keys() - used | {f for f in self.folders.keys() - used if self._repeated(f)}
        return sorted(
            s for s in stems if not ((m := COMPANION.fullmatch(s)) and m[1] in self.files) and s != "boxes"
        )


def _scan(folder: Path) -> list[os.DirEntry]:
    """The entries of a folder but hidden ones; none where it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return sorted((e for e in entries if not e.name.startswith(".")), key=lambda e: e.name)
    except OSError:
        return []


def find(folder: Path, wanted: Mapping[str, Sequence[str]]) -> tuple[dict[str, Files], Path, list[Remark]]:
    """The files of every sequence that has some, the folder they are in, and remarks.

    Args:
        folder: of one tracker's results, or one above or below it.
        wanted: sequence -> names that toolkits give it, its own first.

    Raises:
        ChaseError: several runs could be meant, or several files for one sequence.
    """
    run, found = _choose(folder, wanted)
    if not found and len(wanted) == 1 and os.path.isfile(folder / BOXES):
        return {next(iter(wanted)): Files({1: folder / BOXES}, None)}, folder, []
    for name, stems in found.items():
        if len(stems) > 1:
            raise ChaseError(
                f"{run.folder}: results of {name} may be {stems[0]} or {stems[1]}: keep one of them"
            )
    remarks = [] if run.folder == folder else [Remark(f"the results are those in {_way(folder, run.folder)}")]
    remarks += [
        Remark("results of sequences that are not in this set are not used", stem)
        for stem in run.unused({stems[0] for stems in found.values()})
    ] * bool(found)
    return {name: run.of(stems[0]) for name, stems in found.items()}, run.folder, remarks


def _choose(folder: Path, wanted: Mapping[str, Sequence[str]]) -> tuple[Run, dict[str, list[str]]]:
    """The run that is meant, and how it spells the sequences."""
    given = (run := Run(folder)), _spelled(run, wanted)
    if len(given[1]) == len(wanted):
        return given
    partly = [given] if given[1] else []
    for level in _levels(folder):
        runs = [(run, found) for run in map(Run, level) if (found := _spelled(run, wanted))]
        whole = [(run, found) for run, found in runs if len(found) == len(wanted)]
        if len(whole) > 1:
            names = ", ".join(str(run.folder.relative_to(folder)) for run, _ in whole[:4])
            raise ChaseError(f"{folder} holds the results of several runs ({names}): name the folder of one")
        if whole:
            return whole[0]
        partly += runs
    above = Run(folder.resolve().parent)
    if not partly and len(found := _spelled(above, wanted)) == len(wanted):
        return above, found
    return max(partly, key=lambda pair: len(pair[1]), default=given)


def _way(given: Path, taken: Path) -> str:
    if taken.is_relative_to(given):
        return f"its folder {taken.relative_to(given)}"
    return f"{taken.name}, the folder above"


def _spelled(run: Run, wanted: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    return {name: stems for name, names in wanted.items() if (stems := run.spelled(names))}


def _levels(folder: Path) -> Iterator[list[Path]]:
    """The folders below one, level by level."""
    level, seen = [folder], 0
    for _ in range(DEPTH):
        level = [Path(e.path) for above in level for e in _scan(above) if e.is_dir()]
        seen += len(level)
        if not level or seen > MOST:
            return
        yield level
