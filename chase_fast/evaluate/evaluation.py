"""One evaluation from beginning to end: run the trackers, read everyone's result files, score, write."""

import math
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.console import Console

from chase_fast.data.evaluation import EvaluationSet, open_evaluation
from chase_fast.data.pixels import Levels
from chase_fast.device import check_device, resolve_device
from chase_fast.distributed import launched
from chase_fast.errors import ChaseError, MissingFile
from chase_fast.evaluate.about import ABOUT, described, read_about, trained_on
from chase_fast.evaluate.about import UNKNOWN as UNKNOWN_TRACKER
from chase_fast.evaluate.options import Evaluate
from chase_fast.evaluate.pack import pack
from chase_fast.evaluate.pack_check import validate
from chase_fast.evaluate.page import write_page
from chase_fast.evaluate.peers import parse_peer
from chase_fast.evaluate.ranks import together
from chase_fast.evaluate.results import read_run
from chase_fast.evaluate.results_zip import unpack
from chase_fast.evaluate.runner import limit_threads
from chase_fast.evaluate.running import RunOnDisk, spread
from chase_fast.evaluate.scoring import Board, Outcome, known_protocols, rate
from chase_fast.evaluate.tables import print_board, write_scores
from chase_fast.evaluate.trackers import Checkpoint, Entrant
from chase_fast.files import user_path
from chase_fast.remarks import Remark, by_kind, sentence
from chase_fast.runs import checkpoint_file
from chase_fast.track.settings import TrackSettings

GENERIC = {"best", "last", "checkpoint", "tracker", "model"}  # file names that say nothing


def split_name(text: str) -> tuple[str, str]:
    """`NAME=PATH` -> both; without NAME that of the file, or of its folder if the file is called best."""
    name, sign, path = text.partition("=")
    if sign and name and os.sep not in name:
        return name, path
    stem = Path(text).resolve().name.removesuffix(".safetensors")
    stem = stem.removesuffix(".zip").removesuffix(".pth").removesuffix(".tar").removesuffix(".pth")
    return (Path(text).resolve().parent.name if stem in GENERIC else stem) or stem, text


def _device(name: str) -> str:
    """`auto` and `cuda` under torchrun: the GPU of this rank."""
    if name in ("auto", "cuda") and (local := os.environ.get("LOCAL_RANK")) is not None:
        import torch

        if torch.cuda.is_available():
            return f"cuda:{local}"
    return name


def _field(options: Evaluate, scratch: Path) -> tuple[dict[str, Entrant], dict[str, Path]]:
    """The trackers to run and the folders of results to read, by name; archives are unpacked into `scratch`.

    Raises:
        ChaseError: none at all, one name twice, or unusable files.
    """
    entrants: dict[str, Entrant] = {}
    folders: dict[str, Path] = {}

    def new(name: str) -> str:
        if name in entrants or name in folders:
            raise ChaseError(f"two trackers are called {name}: write NAME=PATH to tell them apart")
        if not name or "/" in name or name.startswith("."):
            raise ChaseError(f"{name!r} cannot be the name of a tracker: write NAME=PATH")
        return name

    for text in options.checkpoint:
        name, path = split_name(text)
        path = str(checkpoint_file(Path(path)))
        how = options.preset, _device(options.device), not options.no_graphs, options.precision, options.set
        entrants[new(name)] = Checkpoint(path, *how, options.engine)
    for text in options.opencv:
        name, peer = parse_peer(text)
        entrants[new(name)] = peer
    for text in options.results:
        name, path = split_name(text)
        place = user_path(path)
        if os.path.isfile(place) and place.suffix == ".zip":
            place = unpack(place, scratch / str(len(folders)))
        if not os.path.isdir(place):
            raise MissingFile(f"--results {path}: there is no such folder")
        folders[new(name)] = place
    if not entrants and not folders:
        raise ChaseError("no tracker: give --checkpoint FILE, --opencv NAME or --results DIR")
    for entrant in entrants.values():
        if isinstance(entrant, Checkpoint):
            entrant.check()
    return entrants, folders


def _check(options: Evaluate) -> None:
    for name, least in (("workers", 0), ("threads", 1), ("pictures", 0), ("seed", 0)):
        value = getattr(options, name)
        if value is not None and value < least:
            raise ChaseError(f"--{name} {value}: must be {least} or more")
    check_device(options.device)
    TrackSettings.parse_changes(options.set)


class NotTracked(ChaseError):
    """Sequences could not be tracked, so nothing is scored; the finished ones are kept.

    Attributes:
        reasons: one line for each. main: this is the process that speaks for all.
    """

    def __init__(self, count: int, of: int, reasons: list[str], main: bool):
        super().__init__(
            f"{count} of {of} sequences could not be tracked, so nothing is scored; the others are kept, the "
            "same command tries again"
        )
        self.reasons, self.main = reasons, main


def run(options: Evaluate, console: Console) -> Board | None:
    """Runs an evaluation (see Evaluate); returns its scores, to the main process.

    Raises:
        ChaseError: wrong options, unusable data, or results that do not fit it.
        NotTracked: a tracker failed.
    """
    with tempfile.TemporaryDirectory() as scratch:
        return _run(options, console, Path(scratch))


def _run(options: Evaluate, console: Console, scratch: Path) -> Board | None:
    _check(options)
    quiet = options.quiet or not launched().main
    say = (lambda text: None) if quiet else (lambda text: console.print(text, markup=False))
    say(f"reading {options.data} ...")
    kind = options.data.split(":")[0]
    data = open_evaluation(options.data)
    if options.levels is not None:
        data = data.scaled(Levels.parse(options.levels))
    protocols = known_protocols(options.protocol, kind)
    say(data.summary())
    for what, remarks in by_kind(data.remarks).items():
        say(f"  {sentence(what, remarks)}")
    entrants, folders = _field(options, scratch)
    gpu = bool(options.checkpoint) and resolve_device(_device(options.device)).type == "cuda"
    effort = spread(options.workers, options.threads, gpu, len(data.sequences))
    if effort.workers == 0 and options.threads:
        limit_threads(effort.threads)
    if ran := next((e for e in entrants.values() if isinstance(e, Checkpoint)), None):
        say(f"checkpoints run on {ran.about(effort.threads if effort.workers else options.threads)}")
    # before hours of tracking: unusable results of others
    others = [_outcome(name, folder, data) for name, folder in folders.items()]
    with together(effort) as meet:
        runs = [
            RunOnDisk(options.out, name, data, entrant, options.seed, effort.rank == 0)
            for name, entrant in entrants.items()
        ]
        failures = [f for run in runs for f in run.track(data.sequences, effort, console, options.quiet)]
        meet()
    open_ends = {s.name for run in runs for s in data.sequences if not run.finished(s)}
    if open_ends:
        raise NotTracked(len(open_ends), len(data.sequences), failures, effort.rank == 0)
    if effort.rank != 0:
        return None
    ours = [_outcome(run.name, run.folder, data) for run in runs]
    board = rate(data, ours + others, protocols, options.unknown)
    _write(options, board, console, say)
    folders |= {run.name: run.folder for run in runs}
    if options.pack:
        for outcome in board.outcomes:
            archive = options.out / f"{outcome.name}_{options.pack}.zip"
            say(f"submission: {_pack(options.pack, folders[outcome.name], archive, data)}")
    return board


def _outcome(name: str, folder: Path, data: EvaluationSet) -> Outcome:
    """The result files of a tracker, and what is beside them about it."""
    found = read_run(folder, {s.name: (s.name, *s.also) for s in data.sequences})
    remarks = found.remarks
    try:
        about = read_about(found.folder)
        note, seen = described(about), trained_on(about, [s.name for s in data.sequences])
    except ChaseError:
        about, note, seen = None, UNKNOWN_TRACKER, None
        remarks += (Remark(f"{ABOUT} is not one of this package and is left aside"),)
    return Outcome(name, found.boxes, found.times, note, dict(about or {}), seen, remarks)


def _write(options: Evaluate, board: Board, console: Console, say: Callable[[str], None]) -> None:
    """The scores on the console, in OUT and on a page."""
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise ChaseError(f"cannot make the folder {options.out}: {e.strerror}") from e
    if not options.quiet:
        print_board(board, console)
    unknown = any(np.isnan(s.boxes).any() for s in board.data.scored)  # predictions have remarks of their own
    for protocol, scores in board.scores.items() if unknown else ():
        first = next(iter(next(iter(scores.values())).metrics))
        if any(math.isnan(s.metrics[first]) for s in scores.values()):
            say(
                f"{first} ({protocol}) is not a number: this toolkit does not expect frames without"
                " a known box; see --unknown"
            )
    if not board.scores:
        say("nothing to score: only the first frames are annotated; --pack makes an archive for the server")
    write_scores(board, options.out, options.unknown)
    page = write_page(board, options.out, options.pictures)
    say(f"scores: {options.out / 'scores.json'}, page: {page}")


def _pack(kind: str, folder: Path, archive: Path, data: EvaluationSet) -> Path:
    names, lengths = [s.name for s in data.sequences], {s.name: len(s.frames) for s in data.sequences}
    pack(kind, folder, archive, names, lengths)
    if problems := validate(kind, archive, names, lengths):
        raise ChaseError(f"{archive}: {problems[0]} ({len(problems)} problems)")
    return archive
