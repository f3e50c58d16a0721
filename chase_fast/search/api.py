"""The search from Python: `chase_fast.search("demo", out="runs/mine", epochs=20)`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

from chase_fast.cells import load_cell
from chase_fast.nn.genotype import Genotype
from chase_fast.recipes import SearchConfig
from chase_fast.runs.command import make
from chase_fast.runs.folder import REPORT
from chase_fast.search import CELL
from chase_fast.search.options import SearchCommand


@dataclass(frozen=True)
class SearchResult:
    """A finished search.

    Attributes:
        out: the run folder.
        genotype: the cell found.
        holdout_loss: of the network that it was derived from.
        about: what cell.json says besides: flavour, channels, epoch, seed, versions, ...
    """

    out: Path
    genotype: Genotype
    holdout_loss: float
    about: Mapping[str, Any] = field(repr=False)

    @property
    def cell(self) -> Path:
        """cell.json, which `train(cell=...)` takes."""
        return self.out / CELL

    @property
    def report(self) -> Path:
        """report.html."""
        return self.out / REPORT

    @classmethod
    def read(cls, out: str | PathLike[str]) -> "SearchResult":
        """Of the folder of a finished search; raises ChaseError where there is no cell."""
        genotype, about = load_cell(str(Path(out) / CELL))
        return cls(Path(out), genotype, float(about["holdout_loss"]), about)


def search(
    config: SearchConfig | str | None = None,
    out: str | PathLike[str] | None = None,
    *,
    resume: bool = False,
    seeds: Sequence[int] = (),
    quiet: bool = False,
    **values: Any,
) -> SearchResult:
    """Searches a tracking cell; what `python -m chase_fast.search` does.

        result = chase_fast.search("demo", out="runs/mine", epochs=20, channels=32)
        print(result.genotype, result.holdout_loss)

    Args:
        config: the name of a recipe (`chase_fast.recipes.SEARCH`; default: demo) or a `SearchConfig`.
        out: run folder to make; default runs/RECIPE_DATE_TIME.
        resume: continue the run in `out` from its last checkpoint, with its own configuration.
        seeds: run once with each, in out/seed_K, and take the cell with the smallest hold-out loss.
        quiet: print nothing but warnings.
        values: fields of `SearchConfig` that are to differ, e.g. train="got10k:/data/GOT-10k:train".

    Raises:
        ChaseError: unusable values, data, folder or checkpoint, a loss that is not finite; the text says the
            way out.
        KeyboardInterrupt: Ctrl-C; `resume` continues from the checkpoint that was written.
    """
    folder = make(SearchCommand(), config, out, resume, seeds, quiet, values)
    return SearchResult.read(folder)
