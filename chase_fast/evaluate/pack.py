"""Submissions: result files -> one zip archive in the layout of a server or toolkit.

* `got10k`:      NAME/NAME_001.txt ... and NAME/NAME_time.txt; x,y,w,h with three decimals, seconds with eight
* `trackingnet`: NAME.txt, no folder; x,y,w,h with two decimals
* `lasot`:       TRACKER_tracking_result/NAME.txt; x,y,w,h with three decimals (TRACKER: name of the archive)
* `visdrone`:    NAME.txt, no folder; x,y,w,h with three decimals

`pack_check.validate` checks an archive, made here or elsewhere.
"""

import io
import zipfile
from pathlib import Path

import numpy as np

from chase_fast.errors import ChaseError
from chase_fast.evaluate.pack_check import GOT10K_TEST, KINDS, check_boxes, check_times, validate
from chase_fast.evaluate.results import read_results
from chase_fast.evaluate.results_text import format_table
from chase_fast.files import write_atomic

_DATE = (1980, 1, 1, 0, 0, 0)  # the same results give the same archive


def pack(
    kind: str,
    folder: Path,
    out: Path,
    names: list[str] | None = None,
    lengths: dict[str, int] | None = None,
) -> Path:
    """Packs the result files of one tracker, in any layout, for a server.

    Args:
        kind: one of KINDS.
        out: the archive, ending in .zip; replaced at once.
        names: the official sequences, as the dataset lists them; None for `got10k` means its 180 test
            sequences.
        lengths: frames per sequence, to refuse incomplete results.

    Raises:
        ChaseError: unknown kind, no names, missing or unusable results; the archive is then not written.
    """
    if kind not in KINDS:
        raise ChaseError(f"cannot pack for {kind!r}: choose one of {', '.join(KINDS)}")
    if names is None and kind != "got10k":
        raise ChaseError(f"packing for {kind} needs the names of its sequences: give the dataset")
    if out.suffix != ".zip":
        raise ChaseError(f"--out {out} must end in .zip")
    names = list(GOT10K_TEST) if names is None else names
    boxes, times = read_results(folder, names, lengths)
    members: dict[str, str] = {}
    for name in names:
        members |= _members(kind, name, boxes[name], times.get(name), out.stem)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, text in members.items():
            archive.writestr(zipfile.ZipInfo(member, _DATE), text, zipfile.ZIP_DEFLATED)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise ChaseError(f"cannot make the folder {out.parent}: {e.strerror}") from e
    write_atomic(out, buffer.getvalue())
    return out


def _members(
    kind: str, name: str, boxes: np.ndarray, times: np.ndarray | None, tracker: str
) -> dict[str, str]:
    """Archive name -> text of the files of one sequence."""
    runs = boxes if boxes.ndim == 3 else boxes[None]
    if len(runs) > 1 and kind != "got10k":
        raise ChaseError(f"sequence {name} has {len(runs)} repetitions: {kind} takes one run of a tracker")
    problems = [p for run in runs for p in check_boxes(kind, name, run)]
    if kind == "got10k":
        missing = [f"{name}: no time file, which the server needs"]
        problems += missing if times is None else check_times(name, times)
    if problems:
        raise ChaseError(f"cannot pack {problems[0]}: run the tracker on this sequence again")
    if kind == "got10k" and times is not None:
        files = {f"{name}/{name}_{r:03d}.txt": format_table(run, "%.3f") for r, run in enumerate(runs, 1)}
        return files | {f"{name}/{name}_time.txt": format_table(np.atleast_2d(times).T, "%.8f")}
    folder = f"{tracker}_tracking_result/" if kind == "lasot" else ""
    return {f"{folder}{name}.txt": format_table(runs[0], "%.2f" if kind == "trackingnet" else "%.3f")}


__all__ = ["KINDS", "pack", "validate"]
