"""The flags of the evaluate command."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Evaluate:
    """What to evaluate."""

    data: str
    """The benchmark, KIND:PATH[:SPLIT]; the kinds are listed above."""
    out: Path = Path("runs/evaluation")
    """Folder for result files, scores.json, scores.csv and evaluation.html. The same command again continues
    there: finished sequences are kept."""
    checkpoint: tuple[str, ...] = ()
    """Trackers to run: [NAME=]FILE, made by the train or convert command. The name defaults to the file's."""
    results: tuple[str, ...] = ()
    """Result files of other trackers to score beside them: [NAME=]DIR, any public layout."""
    opencv: tuple[str, ...] = ()
    """OpenCV's trackers to run in the same way: mil, or nano:BACKBONE.onnx:HEAD.onnx."""
    protocol: tuple[str, ...] = ()
    """Whose rules to score by, one or several; default: those of the benchmark."""
    preset: str = "accurate"
    """Online procedure of the checkpoints: accurate, balanced or fast."""
    seed: int = 0
    """With the name of a sequence it decides everything random in tracking it."""
    device: str = "auto"
    """auto, cpu or cuda[:N] for the checkpoints."""
    precision: str = "fp32"
    """fp32, or bf16 for the convolutions of the checkpoints."""
    no_graphs: bool = False
    """On a GPU launch every kernel by itself instead of a CUDA graph per frame."""
    workers: int | None = None
    """Processes that track side by side; 0: none but this one. Default: one per core, 8 at most; 1 on a GPU.
    The boxes do not depend on it, the measured speed does: use 1 to measure speed."""
    threads: int | None = None
    """CPU threads of each process; default: the cores shared evenly. Last digits can depend on it."""
    unknown: str = "toolkit"
    """Frames without a known box (NaN): as the protocol's toolkit treats them (some refuse), zero (a frame of
    no size) or remove."""
    pack: str | None = None
    """Also make a submission OUT/NAME_KIND.zip of every tracker: got10k, trackingnet, lasot or visdrone."""
    pictures: int = 40
    """Pictures of bad frames on the page, the worst first; 0: none."""
    quiet: bool = False
    """Print nothing but errors and warnings."""
