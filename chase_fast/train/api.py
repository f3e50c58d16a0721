"""The training from Python: `chase_fast.train("small", cell="runs/mine/cell.json", train=..., val=...)`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

from chase_fast.errors import MissingFile
from chase_fast.recipes import TrainConfig
from chase_fast.runs import RunFolder
from chase_fast.runs.command import make
from chase_fast.runs.folder import BEST, REPORT
from chase_fast.train import RESULT
from chase_fast.train.options import TrainCommand


@dataclass(frozen=True)
class TrainResult:
    """A finished training.

    Attributes:
        out: the run folder.
        val_loss: of the network that was kept.
        about: what result.json says: epoch, parameters, macs, seed, versions, ...
    """

    out: Path
    val_loss: float
    about: Mapping[str, Any] = field(repr=False)

    @property
    def checkpoint(self) -> Path:
        """best.safetensors, which `Tracker.load` takes."""
        return self.out / BEST

    @property
    def report(self) -> Path:
        """report.html."""
        return self.out / REPORT

    @classmethod
    def read(cls, out: str | PathLike[str]) -> "TrainResult":
        """Of the folder of a finished training; raises ChaseError where there is no result."""
        try:
            about = RunFolder(Path(out)).read_json(RESULT)
        except FileNotFoundError:
            raise MissingFile(f"{Path(out) / RESULT}: no such file; the training has not finished") from None
        return cls(Path(out), about.number("val_loss"), about)


def train(
    config: TrainConfig | str | None = None,
    out: str | PathLike[str] | None = None,
    *,
    resume: bool = False,
    seeds: Sequence[int] = (),
    quiet: bool = False,
    **values: Any,
) -> TrainResult:
    """Trains a tracker; what `python -m chase_fast.train` does.

        result = chase_fast.train("demo", out="runs/tracker", cell="runs/mine/cell.json", epochs=2)
        tracker = chase_fast.Tracker.load(result.checkpoint)

    Args:
        config: the name of a recipe (`chase_fast.recipes.TRAIN`; default: demo) or a `TrainConfig`.
        out: run folder to make; default runs/RECIPE_DATE_TIME.
        resume: continue the run in `out` from its last checkpoint, with its own configuration.
        seeds: run once with each, in out/seed_K, and take the network with the smallest validation loss.
        quiet: print nothing but warnings.
        values: fields of `TrainConfig` that are to differ, e.g. train="got10k:/data/GOT-10k:train".

    Raises:
        ChaseError: unusable values, data, folder or checkpoint, a loss that is not finite; the text says the
            way out.
        KeyboardInterrupt: Ctrl-C; `resume` continues from the checkpoint that was written.
    """
    folder = make(TrainCommand(), config, out, resume, seeds, quiet, values)
    return TrainResult.read(folder)
