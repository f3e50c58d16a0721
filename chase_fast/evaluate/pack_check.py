"""The validator of submissions: what a server would refuse, found before the upload."""

import re
import zipfile
import zlib
from pathlib import Path

import numpy as np

from chase_fast.errors import ChaseError
from chase_fast.evaluate.results_text import parse_table

KINDS = ("got10k", "trackingnet", "lasot", "visdrone")
GOT10K_TEST = tuple(f"GOT-10k_Test_{i:06d}" for i in range(1, 181))
COUNTS = {"got10k": 180, "trackingnet": 511, "lasot": 280, "visdrone": 35}  # official test sequences
_REPAIR = ("lasot", "visdrone")  # their toolkits replace NaN and sizes <= 0 by the box before


def check_boxes(kind: str, where: str, boxes: np.ndarray) -> list[str]:
    """Problems of the boxes [T, 4] of a sequence: NaN, negative sizes. Rows are counted from 1."""
    if kind in _REPAIR:
        return []
    nan, negative = np.isnan(boxes).any(1), (boxes[:, 2:] < 0).any(1)
    return [
        f"{where}: box {int(np.argmax(bad)) + 1} is {what}"
        for bad, what in ((nan, "NaN"), (negative, "of negative size"))
        if bad.any()
    ]


def check_times(where: str, times: np.ndarray) -> list[str]:
    """Problems of times in seconds."""
    bad = np.ravel(~(times >= 0))
    return [f"{where}: time {int(np.argmax(bad)) + 1} is NaN or negative"] if bad.any() else []


def validate(
    kind: str, path: Path, names: list[str] | None = None, lengths: dict[str, int] | None = None
) -> list[str]:
    """Problems of a submission, one line each; an empty list: nothing found.

    Args:
        kind: one of KINDS; the layouts are in `pack`.
        names: the official sequences; None: the 180 of GOT-10k test, for the others only their number is
            checked.
        lengths: frames per sequence; without it the number of boxes is not checked.

    Raises:
        ChaseError: unknown kind, or the file cannot be read.
    """
    if kind not in KINDS:
        raise ChaseError(f"cannot validate for {kind!r}: choose one of {', '.join(KINDS)}")
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [e.filename for e in archive.infolist() if not e.is_dir()]
            folders = {e.filename for e in archive.infolist() if e.is_dir()}
            damaged = archive.testzip()
            files = {} if damaged else {name: archive.read(name) for name in entries}
    except OSError as e:
        raise ChaseError(f"cannot read {path}: {e.strerror or e}") from e
    except (zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError):
        return [f"{path.name} is not a zip archive, or it is damaged or encrypted"]
    if damaged:
        return [f"{path.name} is damaged: {damaged} cannot be unpacked"]
    if not files:
        return [f"{path.name} is empty"]
    problems = [f"{n} is there {entries.count(n)} times" for n in files if entries.count(n) > 1]
    if kind in ("trackingnet", "visdrone"):
        problems += [f"folder {f} must not be there: the archive must be flat" for f in sorted(folders)]
    names = list(GOT10K_TEST) if names is None and kind == "got10k" else names
    sequences, unexpected = _sort(kind, files)
    wrapped = {n.split("/")[0] for n in files} if unexpected and not sequences else set()
    if len(wrapped) == 1 and all("/" in n for n in files):
        return [*problems, f"all files are inside {wrapped.pop()}/: zip the content of that folder"]
    problems += [f"{name} does not belong into a submission to {kind}" for name in unexpected]
    return problems + _check_names(kind, sequences, names) + _check_files(kind, files, sequences, lengths)


def _sort(kind: str, files: dict[str, bytes]) -> tuple[dict[str, list[str]], list[str]]:
    """Sequence -> its files in the archive, and the files that fit no sequence."""
    pattern = {
        "got10k": r"([^/]+)/\1_(?:\d{3}|time)\.txt",
        "lasot": r"[^/]+_tracking_result/([^/]+)\.txt",
    }.get(kind, r"([^/]+)\.txt")
    sequences: dict[str, list[str]] = {}
    unexpected = []
    for name in sorted(files):
        match = re.fullmatch(pattern, name)
        if match and not match[1].startswith("."):
            sequences.setdefault(match[1], []).append(name)
        else:
            unexpected.append(name)
    folders = {name.split("/")[0] for members in sequences.values() for name in members}
    if kind == "lasot" and len(folders) > 1:
        unexpected += sorted(f"{folder}/" for folder in folders)[1:]
    return sequences, unexpected


def _check_names(kind: str, sequences: dict[str, list[str]], names: list[str] | None) -> list[str]:
    if names is None:
        count = len(sequences)
        return [] if count == COUNTS[kind] else [f"{count} sequences, {kind} has {COUNTS[kind]}"]
    expected = set(names)
    missing = [f"sequence {name} is missing" for name in names if name not in sequences]
    return missing + [f"{name} is no sequence of {kind}" for name in sequences if name not in expected]


def _check_files(
    kind: str, files: dict[str, bytes], sequences: dict[str, list[str]], lengths: dict[str, int] | None
) -> list[str]:
    problems = []
    for name, members in sequences.items():
        clock = f"{name}/{name}_time.txt"
        runs = [member for member in members if member != clock]
        frames = (lengths or {}).get(name)
        for member in runs:
            boxes, found = _table(kind, member, files[member], columns=4)
            problems += found
            if boxes is None:
                continue
            problems += check_boxes(kind, member, boxes)
            if frames is not None and len(boxes) != frames:
                problems.append(f"{member} has {len(boxes)} boxes for {frames} frames")
            frames = len(boxes) if frames is None else frames
        if kind == "got10k":
            problems += _check_got10k(name, runs, files.get(clock), frames)
    return problems


def _check_got10k(name: str, runs: list[str], clock: bytes | None, frames: int | None) -> list[str]:
    if runs != [f"{name}/{name}_{r:03d}.txt" for r in range(1, len(runs) + 1)] or not runs:
        return [f"{name} must hold {name}_001.txt, then _002, _003 for more repetitions"]
    where = f"{name}/{name}_time.txt"
    if clock is None:
        return [f"{where} is missing"]
    times, problems = _table("got10k", where, clock, columns=len(runs))
    if times is None:
        return problems
    problems += check_times(where, times)
    if frames is not None and len(times) != frames:
        problems.append(f"{where} has {len(times)} lines for {frames} frames")
    return problems


def _table(kind: str, where: str, data: bytes, columns: int) -> tuple[np.ndarray | None, list[str]]:
    try:
        text = data.decode("ascii")
        table = parse_table(text, where, columns)
    except UnicodeDecodeError:
        return None, [f"{where} is not plain text"]
    except ChaseError as e:
        return None, [str(e)]
    commas = text.count(",") == len(table) * (columns - 1)
    if not commas and not (kind == "lasot" and text.count("\t") == 3 * len(table)):
        return table, [f"{where}: the numbers must be separated by commas"]
    return table, []
