"""Clean inputs, made when they are first asked for: folders that every input begins as a copy of."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import torch

from tests import golden, public_files
from tests.fuzz import media, sets
from tests.fuzz.server import Limits, Main, call, run

_SHAPE = "--image-size 64 --train-frames 1 --test-frames 1 --batch 2 --channels 4 --threads 1"
_SEARCH = (
    "--warmup-epochs 1 --iterations 1 --holdout-batches 1 --calibration-batches 1 --patience 0 --nodes 2"
)
_NET = "--backbone resnet18 --backbone-weights random"
_VIDEO = "--train synthetic:a --val synthetic:b"
SEARCH = f"search demo {_SHAPE} {_SEARCH} {_NET} {_VIDEO} --holdout synthetic:c --checkpoint-iterations 1"
TRAIN = f"train demo {_SHAPE} {_VIDEO} --epochs 1 --iterations 1 --val-batches 1 --calibration-batches 1"
PACK = "data.pack {spec} --size 64 --shard-frames 20 --workers 1 --quiet"
_BUILD = Limits(seconds=600)


class Corpus:
    """The folders of clean inputs below `root`, by name (`video/h264.mp4`, `benchmark/otb` ...)."""

    def __init__(self, root: Path, main: Main | None):
        self._root, self._main = root, main

    def __call__(self, name: str) -> Path:
        """The folder of a clean input, made if it is not there yet."""
        path = self._root / name
        if not path.exists():
            kind, _, which = name.partition("/")
            unfinished = path.with_name(f"{path.name}.unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir(parents=True)
            _MAKERS[kind](self, unfinished, which)
            unfinished.rename(path)
        return path

    def command(self, text: str, box: Path, main: Main | None = None, code: int = 0) -> None:
        """Runs a command of the product in `box`; its own folders there are removed again."""
        ending = run(main or self._main, text.split(), box, _BUILD)
        if ending.code != code:
            raise RuntimeError(f"the clean input cannot be made: {text}\n{ending.stdout}{ending.stderr}")
        for name in ("home", "cache", "tmp"):
            shutil.rmtree(box / name)
        for name in ("stdout", "stderr", "start_mb"):
            (box / name).unlink()


def _video(corpus: Corpus, folder: Path, which: str) -> None:
    call(media.write_video, folder / which)


def _images(corpus: Corpus, folder: Path, which: str) -> None:
    call(media.write_images, folder / "frames" / "walk", which)


def _benchmark(corpus: Corpus, folder: Path, which: str) -> None:
    call(sets.write_benchmark, folder, which)


def _results(corpus: Corpus, folder: Path, which: str) -> None:
    call(sets.write_benchmark, folder, "got10k", which)


def _training(corpus: Corpus, folder: Path, which: str) -> None:
    call(sets.write_training, folder, which, limits=_BUILD)


def _net(corpus: Corpus, folder: Path, which: str) -> None:
    """best.safetensors of a training of one step."""
    shutil.copy(corpus("run/train") / "run" / "best.safetensors", folder)


def _run(corpus: Corpus, folder: Path, which: str) -> None:
    """A finished `search`, a `pair` of it, a finished `train`, a search `stopped` at its third checkpoint."""
    if which == "train":
        corpus.command(f"{TRAIN} --out run", folder)
    elif which == "search":
        corpus.command(f"{SEARCH} --epochs 2 --out run", folder)
    elif which == "pair":
        for name in ("run", "other"):
            shutil.copytree(corpus("run/search") / "run", folder / name)
    else:
        corpus.command(f"{SEARCH} --epochs 3 --out run", folder, _stopped(corpus._main, 3), code=130)


def _stopped(main: Main, after: int) -> Main:
    """`main` that is interrupted when last.ckpt has been replaced `after` times."""

    def interrupted(argv: list[str]) -> int | None:
        replace, count = os.replace, 0

        def counting(source, target, **options):
            nonlocal count
            replace(source, target, **options)
            count += Path(target).name == "last.ckpt"
            if count == after:
                raise KeyboardInterrupt

        os.replace = counting
        return main(argv)

    return interrupted


def _cell(corpus: Corpus, folder: Path, which: str) -> None:
    shutil.copy(corpus("run/search") / "run" / "cell.json", folder)


def _public(corpus: Corpus, folder: Path, which: str) -> None:
    """A public PrDiMP-18 file, `zip` or `legacy`: all keys and shapes, one stored number per tensor."""
    listed = json.loads((golden.DATA / "prdimp/prdimp18_state_dict.json").read_text())
    call(_save_public, folder / "net.pth.tar", listed, which == "legacy")


def _save_public(path: Path, listed: dict[str, list[int]], legacy: bool) -> None:
    state = {key: torch.full((), 0.5).expand(shape) for key, shape in listed.items()}
    public_files.save(path, state, legacy)


def _packed(corpus: Corpus, folder: Path, which: str) -> None:
    """A packed training set, `raw` or `jpeg`."""
    spec = f"got10k:{corpus('training/got10k')}/data:train"
    corpus.command(f"{PACK.format(spec=spec)} --format {which} --out packed", folder)


def _everything(corpus: Corpus, folder: Path, which: str) -> None:
    """What command lines name: a video, frames, a benchmark with results, a cell and a run."""
    for name in ("video/mpeg4.avi", "images/jpeg", "benchmark/got10k", "cell/search"):
        shutil.copytree(corpus(name), folder, dirs_exist_ok=True)
    for name in ("searched", "other"):
        shutil.copytree(corpus("run/search") / "run", folder / name)


_MAKERS: dict[str, Callable[[Corpus, Path, str], None]] = {
    "video": _video,
    "images": _images,
    "benchmark": _benchmark,
    "results": _results,
    "training": _training,
    "net": _net,
    "run": _run,
    "cell": _cell,
    "public": _public,
    "packed": _packed,
    "everything": _everything,
}
