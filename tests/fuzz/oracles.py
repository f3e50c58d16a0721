"""Silent wrong results: for every kind of input what a command that ends with 0 must have got right.

Each oracle takes a `Trial` and gives what is wrong, or an empty text. A command that says anything that it
does not say of the clean input is not silent: what it does then is its own matter, as long as it says so.
"""

import hashlib
import json
import os
import re
import zipfile
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from tests.fuzz import media, sets
from tests.fuzz.judge import Trial, said
from tests.fuzz.meaning import HUGE, meaning, role

ALIKE = 30.0  # grey levels between the squares of two decoders' pictures (the annotated video is lossy)


def _input(trial: Trial) -> Path:
    return trial.ending.box / "in" / trial.mutation.path


def _same(trial: Trial, kind: str) -> bool:
    """Whether the mutated file says what the clean one says."""
    now = meaning(_input(trial), kind)
    return now is not None and now == meaning(trial.clean.box / "in" / trial.mutation.path, kind)


# ---- what was tracked: the bar codes in the annotated video


def _pictures(path: Path) -> tuple[list[np.ndarray], bool]:
    """Squares of the pictures that FFmpeg decodes from a file, and whether it complained of anything."""
    found, troubled = [], False
    av.logging.set_level(av.logging.ERROR)
    with av.logging.Capture() as said_by_ffmpeg:
        try:
            with av.open(str(path)) as file:
                stream = file.streams.video[0]
                stream.codec_context.thread_count = 1
                for packet in file.demux(stream):
                    try:
                        for frame in packet.decode():
                            troubled |= bool(frame.is_corrupt)
                            found.append(media.squares(frame.to_ndarray(format="rgb24")))
                    except av.FFmpegError:
                        troubled = True
        except (av.FFmpegError, OSError, IndexError, ValueError):
            troubled = True
    return found, troubled or bool(said_by_ffmpeg)


def _annotated(box: Path) -> list[np.ndarray]:
    """Squares of every frame that was tracked, in the order of tracking; pictures shown for longer once."""
    files = sorted((box / "out").glob("annotated.*"))
    found = _pictures(files[0])[0] if files else []
    numbers = [media.number_of(p) for p in found]
    return [p for k, p in enumerate(found) if k == 0 or numbers[k] is None or numbers[k] != numbers[k - 1]]


def _tracked(box: Path) -> int:
    return len((box / "out" / "boxes.txt").read_text().splitlines())


def frames_of_video(trial: Trial) -> str:
    """Every frame that was tracked is one of the video and none is lost, or the command said something, or
    the file itself says so to a decoder that sees no damage."""
    shown, count = _annotated(trial.ending.box), _tracked(trial.ending.box)
    numbers = [media.number_of(p) for p in shown]
    if set(numbers) == set(range(media.COUNT)) and (trial.clean or numbers == list(range(media.COUNT))):
        return ""  # repeated frames are shown twice
    if trial.clean is None:
        return f"the frames of the clean video are shown as {numbers}"
    if said(trial):
        return ""
    reference, troubled = _pictures(_input(trial))
    if troubled:
        return f"silent: {count} frames are shown as {numbers}, though FFmpeg reports damage"
    if count != len(reference):
        return f"silent: {count} frames are tracked, the file holds {len(reference)}"
    if None in numbers and not all(any(_alike(p, r) for r in reference) for p in shown):
        return f"silent: frames are shown as {numbers}, another decoder sees other pictures"
    return ""


def _alike(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(np.abs(a - b).max() < ALIKE)


def _pillow(path: Path) -> np.ndarray | None:
    """Squares of an image as Pillow decodes it, None if it refuses it."""
    try:
        with Image.open(path) as image:
            image.load()
            deep = image.mode.startswith("I")
            pixels = np.asarray(image if deep or image.mode == "F" else image.convert("RGB"), np.float64)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    scale = 1 / 257 if deep and pixels.max() > 255 else 255 if pixels.max() <= 1 else 1
    return media.squares(pixels * scale) if pixels.ndim in (2, 3) and min(pixels.shape[:2]) >= 12 else None


def frames_of_folder(trial: Trial) -> str:
    """As `frames_of_video`, of a folder of images; the other decoder is Pillow."""
    shown, count = _annotated(trial.ending.box), _tracked(trial.ending.box)
    numbers = [media.number_of(p) for p in shown]
    if numbers == list(range(media.FRAMES)) and count == media.FRAMES:
        return ""
    if trial.clean is None:
        return f"the frames of the clean folder are shown as {numbers}"
    if said(trial):
        return ""
    names = [p.name for p in sorted((trial.clean.box / "in" / trial.mutation.path).parent.glob("0*"))]
    outer = Path(trial.mutation.path).name in (names[0], names[-1]) and not _input(trial).exists()
    if count != media.FRAMES:  # nobody misses the first or the last one
        return "" if outer and None not in numbers else f"silent: {count} of {media.FRAMES} frames"
    other = _pillow(_input(trial)) if _input(trial).is_file() else None
    odd = [k for k, n in enumerate(numbers) if n != k]
    if other is not None and len(odd) == 1 and _alike(shown[odd[0]], other):
        return ""
    word = "refuses the file" if other is None else "sees another"
    return f"silent: frames are shown as {numbers}, Pillow {word}"


# ---- datasets and result files


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
    if _same(trial, kind):
        return "" if now == then else "silent: other scores for a file that says the same"
    if kind != "boxes":
        return ""
    wrong = _boxes_differ(trial, now != then)
    if wrong or "got10k" not in now or now != then:
        return wrong
    changed = meaning(_input(trial), "boxes") is not None and _overlap(trial.ending.box) != _overlap(
        trial.clean.box
    )
    return "silent: other boxes give the same scores" if changed else ""


def _listed(trial: Trial, board: Any) -> str:
    """The sequences that are scored are those that the list names; it may name them by number."""
    listed = meaning(_input(trial), "names")
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
    old = meaning(trial.clean.box / "in" / trial.mutation.path, "boxes")
    new = meaning(_input(trial), "boxes")
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
        return (
            ""
            if _same(trial, kind) or _pillow(_input(trial)) is not None
            else "silent: an image that is none"
        )
    if _same(trial, kind):
        return f"silent: {count} visible targets for a file that says the same" if differs else ""
    return _boxes_differ(trial, differs) if kind == "boxes" else ""


# ---- cells, runs, networks


def drawing(trial: Trial) -> str:
    """The same genotype gives the same picture; every operation that it names stands in it."""
    svg = (trial.ending.box / "cell.svg").read_text()
    if trial.clean is None:
        return "" if "<svg" in svg else "no drawing"
    about = meaning(_input(trial), "json")
    before = meaning(trial.clean.box / "in" / trial.mutation.path, "json")
    if not isinstance(about, dict) or "genotype" not in about:
        return "" if said(trial) else "silent: a cell is drawn from a file without one"
    if about["genotype"] == before["genotype"]:
        return (
            "" if svg == (trial.clean.box / "cell.svg").read_text() else "the same cell is drawn differently"
        )
    return ""


def page(trial: Trial) -> str:
    """A page of files that cannot be read is no success without a word."""
    path = _input(trial)
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
    now = _tensors(_input(trial))
    then = _tensors(trial.clean.box / "in" / trial.mutation.path)
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
    path = _input(trial)
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
    path, before = _input(trial), trial.clean.box / "in" / trial.mutation.path
    if path.is_file() and path.read_bytes() == before.read_bytes():
        return ""
    if path.suffix == ".json" and _same(trial, "json"):
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
