"""Result files: the boxes of a tracker, one file per sequence, as the public toolkits keep them.

Layouts, of a folder that belongs to one tracker:

* `got10k`:     SEQ/SEQ_001.txt (_002, _003 of more repetitions) and SEQ/SEQ_time.txt, a column per repetition
* `flat`:       SEQ.txt and times/SEQ_time.txt (pysot; got10k toolkit for OTB, UAV123, LaSOT, TrackingNet)
* `pytracking`: SEQ.txt and SEQ_time.txt, delimited by tabs

These are written; `results_find` finds them in the folders and under the names of the public toolkits too. A
box is a line x,y,w,h in pixels, the first line is the given box; a time is in seconds.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from chase_fast.errors import ChaseError, MissingFile
from chase_fast.evaluate.results_find import find
from chase_fast.evaluate.results_text import format_table, read_table
from chase_fast.files import write_atomic
from chase_fast.remarks import Notes, Remark

LAYOUTS = ("got10k", "flat", "pytracking")


def box_file(folder: Path, layout: str, name: str, repetition: int = 1) -> Path:
    """Where the boxes of a sequence are kept.

    Raises:
        ChaseError: no such layout, or a repetition (counted from 1) that the layout cannot hold.
    """
    if layout not in LAYOUTS:
        raise ChaseError(f"no layout {layout!r} of result files: choose one of {', '.join(LAYOUTS)}")
    if layout == "got10k":
        return folder / name / f"{name}_{repetition:03d}.txt"
    if repetition != 1:
        raise ChaseError(f"layout {layout} holds one run of a tracker: choose layout got10k for repetitions")
    return folder / f"{name}.txt"


def time_file(folder: Path, layout: str, name: str) -> Path:
    """Where the times of a sequence are kept."""
    parent = {"got10k": folder / name, "flat": folder / "times", "pytracking": folder}[layout]
    return parent / f"{name}_time.txt"


def write_sequence(
    folder: Path,
    layout: str,
    name: str,
    boxes: np.ndarray,
    times: np.ndarray | None = None,
    integers: bool = False,
    repetition: int = 1,
) -> None:
    """Writes the boxes and times of one sequence, each file at once; the boxes come last.

    Args:
        boxes: [T, 4]; written with three decimals.
        times: [T] seconds per frame; written with eight decimals.
        integers: cut to whole pixels as pytracking does. For tools that need it: it costs accuracy, much on
            small targets.
        repetition: counted from 1, layout `got10k` only.

    Raises:
        ChaseError: wrong shapes, or the files cannot be written.
    """
    path, clock = box_file(folder, layout, name, repetition), time_file(folder, layout, name)
    boxes = np.asarray(boxes, np.float64)
    if boxes.ndim != 2 or boxes.shape[1] != 4 or not len(boxes):
        raise ChaseError(f"boxes of sequence {name} have shape {boxes.shape}: they must be [frames, 4]")
    if integers and not np.isfinite(boxes).all():
        raise ChaseError(f"boxes of sequence {name} are not all finite: they cannot be written as integers")
    try:
        for parent in {path.parent, clock.parent}:
            parent.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise ChaseError(f"cannot make the result folder {path.parent}: {e.strerror}") from e
    if times is not None:
        write_atomic(clock, format_table(_with_times(clock, times, len(boxes), repetition), "%.8f").encode())
    text = format_table(boxes, "%d" if integers else "%.3f", "\t" if layout == "pytracking" else ",")
    write_atomic(path, text.encode())


def _with_times(path: Path, times: np.ndarray, frames: int, repetition: int) -> np.ndarray:
    """The time table [T, R] with the column of a repetition set; columns not measured are NaN."""
    times = np.asarray(times, np.float64)
    if times.shape != (frames,):
        raise ChaseError(f"{path.name}: {times.shape} times for {frames} boxes, there must be one per box")
    old = read_table(path) if repetition > 1 and path.exists() else np.empty((frames, 0))
    if len(old) != frames:
        raise ChaseError(f"{path} has {len(old)} times for {frames} frames: delete the folder {path.parent}")
    table = np.full((frames, max(old.shape[1], repetition)), np.nan)
    table[:, : old.shape[1]] = old
    table[:, repetition - 1] = times
    return table


def is_complete(folder: Path, layout: str, name: str, frames: int, repetition: int = 1) -> bool:
    """Whether the boxes of a sequence are there, one for each of its frames: a run that resumes leaves it
    out.

    A file that cannot be read as boxes counts as not complete, so the sequence is tracked again.
    """
    path = box_file(folder, layout, name, repetition)
    try:
        return path.is_file() and len(read_table(path, 4)) == frames
    except ChaseError:
        return False


@dataclass(frozen=True)
class Results:
    """The result files of a tracker, read.

    Attributes:
        boxes, times: by sequence, [T, 4] and [T]; several repetitions give [R, T, 4] and [R, T]. A sequence
            whose times cannot be used has none.
        folder: where they are.
        remarks: what was left aside.
    """

    boxes: dict[str, np.ndarray]
    times: dict[str, np.ndarray]
    folder: Path
    remarks: tuple[Remark, ...]


def read_run(
    folder: Path,
    names: Mapping[str, Sequence[str]],
    lengths: dict[str, int] | None = None,
    repetition: int | None = None,
) -> Results:
    """Boxes and times of any tracker; where they are and how they are named is found by looking.

    Args:
        names: the sequences that must be there -> how toolkits name them; other files are not looked at.
        lengths: frames per sequence, to refuse another number of boxes. Without it the protocol decides.
        repetition: take this one only, counted from 1.

    Raises:
        ChaseError: missing sequences (all are listed), a line that is no box (file and line), a wrong
            number of boxes, or results of several runs. A time file is never a reason.
    """
    if not os.path.isdir(folder):
        raise MissingFile(
            f"there is no result folder {folder}: give the folder of one tracker's result files"
        )
    files, home, remarks = find(folder, names)
    if missing := [name for name in names if name not in files]:
        example = f"{missing[0]}.txt or {missing[0]}/{missing[0]}_001.txt"
        raise ChaseError(
            f"{home} has no results for {len(missing)} of {len(names)} sequences ({', '.join(missing)}): "
            f"expected files like {example}"
        )
    boxes, times = {}, {}
    for name, found in ((name, files[name]) for name in names):
        chosen = _choose(found.boxes, repetition, name)
        tables = [read_table(path, 4) for path in chosen.values()]
        frames = lengths.get(name) if lengths else len(tables[0])
        for path, table in zip(chosen.values(), tables, strict=True):
            if frames is not None and len(table) != frames:
                raise ChaseError(
                    f"{path} has {len(table)} boxes for {frames} frames: delete it and run the tracker on "
                    "this sequence again"
                )
        boxes[name] = np.stack(tables) if len(tables) > 1 else tables[0]
        clock = _times(found.times, list(chosen), len(tables[0]), Notes(name, remarks))
        if clock is not None:
            times[name] = clock
    return Results(boxes, times, home, tuple(remarks))


def read_results(
    folder: Path,
    names: Iterable[str],
    lengths: dict[str, int] | None = None,
    repetition: int | None = None,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Boxes and times of `read_run` for sequences that have one name each."""
    found = read_run(folder, {name: (name,) for name in names}, lengths, repetition)
    return found.boxes, found.times


def _choose(paths: dict[int, Path], repetition: int | None, name: str) -> dict[int, Path]:
    if repetition is None:
        return paths
    if repetition not in paths:
        raise ChaseError(f"sequence {name} has no repetition {repetition}: there are {sorted(paths)}")
    return {repetition: paths[repetition]}


def _times(path: Path | None, repetitions: list[int], frames: int, note: Notes) -> np.ndarray | None:
    """[T] or [R, T] seconds; None without a time file, or with one that does not fit, which is noted."""
    if path is None:
        return None
    try:
        table = read_table(path)
    except ChaseError:
        note("time files that cannot be read are left aside", 1, "file")
        return None
    if len(table) != frames or table.shape[1] < max(repetitions):
        note("time files with another number of frames or repetitions than boxes are left aside", 1, "file")
        return None
    chosen = table[:, [r - 1 for r in repetitions]].T
    return chosen if len(repetitions) > 1 else chosen[0]
