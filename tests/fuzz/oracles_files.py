"""Silent wrong results of cells, runs, networks and packed sets; oracles_frames.py says what an oracle is."""

import hashlib
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from tests.fuzz.judge import Trial, said
from tests.fuzz.meaning import meaning
from tests.fuzz.oracles_sets import same


def drawing(trial: Trial) -> str:
    """The same genotype gives the same picture; every operation that it names stands in it."""
    svg = (trial.ending.box / "cell.svg").read_text()
    if trial.clean is None:
        return "" if "<svg" in svg else "no drawing"
    about = meaning(trial.path, "json")
    before = meaning(trial.clean_path, "json")
    if not isinstance(about, dict) or "genotype" not in about:
        return "" if said(trial) else "silent: a cell is drawn from a file without one"
    if about["genotype"] == before["genotype"]:
        return (
            "" if svg == (trial.clean.box / "cell.svg").read_text() else "the same cell is drawn differently"
        )
    return ""


def page(trial: Trial) -> str:
    """A page of files that cannot be read is no success without a word."""
    path = trial.path
    if trial.clean is None or said(trial) or not os.path.lexists(path):
        return ""
    data = path.read_bytes() if path.is_file() else b""
    parts = data.splitlines() if path.suffix == ".jsonl" else [data]
    whole = all(isinstance(_loads(part), dict) for part in parts if part.strip() or path.suffix == ".json")
    return "" if whole else "silent: a page is made though a file is damaged"


def _loads(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _rows(box: Path) -> list:
    return [json.loads(line) for line in (box / "in/run/history.jsonl").read_text().splitlines()]


def resumed(trial: Trial) -> str:
    """A run that goes on ends as the undamaged one does."""
    if trial.clean is None:
        return "" if (trial.ending.box / "in/run/cell.json").is_file() else "the run did not end"
    if said(trial):
        return ""
    try:
        now, then = _rows(trial.ending.box), _rows(trial.clean.box)
    except (OSError, ValueError) as e:
        return f"silent: history.jsonl is {e}"
    cells = [
        json.loads((box / "in/run/cell.json").read_text()) for box in (trial.ending.box, trial.clean.box)
    ]
    if now != then:
        return "silent: the resumed run has another history.jsonl"
    return "" if cells[0]["genotype"] == cells[1]["genotype"] else "silent: the resumed run has another cell"


def _tensors(path: Path) -> Any:
    """What a safetensors file says of its network, and digests of its tensors; None if it cannot be read.

    Where a network comes from (`about`) does not decide what it does.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            about = {k: _loads(v.encode()) for k, v in (file.metadata() or {}).items()}
            about = {k: v | {"about": None} if isinstance(v, dict) else v for k, v in about.items()}
            digest = {k: _digest(file.get_tensor(k)) for k in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError):
        return None
    return about, digest


def _digest(tensor) -> str:
    shape = f"{tensor.dtype}{tuple(tensor.shape)}"
    return shape + hashlib.sha256(tensor.contiguous().view(-1).numpy().tobytes()).hexdigest()


def weights(trial: Trial) -> str:
    """A network whose weights or description are not those of the clean file is refused."""
    if trial.clean is None or said(trial):
        return ""
    now = _tensors(trial.path)
    then = _tensors(trial.clean_path)
    if now == then:
        return ""
    return (
        "silent: a file that safetensors refuses" if now is None else "silent: other weights or description"
    )


def converted(trial: Trial) -> str:
    """The tensors are those of the clean file, or its checksums say that it is whole."""
    if trial.clean is None or said(trial):
        return ""
    now, then = (_tensors(box / "new.safetensors") for box in (trial.ending.box, trial.clean.box))
    if now is None:
        return "the written file cannot be read"
    if now[1] == then[1]:
        return ""
    path = trial.path
    if path.read_bytes()[:2] != b"PK":
        return ""  # the older format has no checksums
    try:
        with zipfile.ZipFile(path) as archive:
            bad = archive.testzip()
    except (zipfile.BadZipFile, OSError, NotImplementedError, RuntimeError) as e:
        bad = str(e)
    return f"silent: other weights, though the archive is damaged ({bad})" if bad else ""


def whole_pack(trial: Trial) -> str:
    """The doctor does not call a packed set whole of which one byte has changed."""
    if trial.clean is None or said(trial):
        return ""
    path, before = trial.path, trial.clean_path
    if path.is_file() and path.read_bytes() == before.read_bytes():
        return ""
    if path.suffix == ".json" and same(trial, "json"):
        return ""
    if path.suffix == ".npz" and _arrays(path) == _arrays(before):
        return ""
    return f"silent: {path.name} is damaged and the set is called whole"


def _arrays(path: Path) -> Any:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {k: (v.dtype.str, v.shape, v.tobytes()) for k, v in file.items()}
    except Exception:  # numpy and zipfile raise a dozen types on damaged files
        return str(path)
