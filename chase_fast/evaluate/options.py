"""The flags of the evaluate command."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from chase_fast.track.options import Preset


@dataclass(frozen=True)
class Evaluate:
    """What to evaluate."""

    data: Annotated[str, tyro.conf.arg(metavar="KIND:PATH[:SPLIT]")]
    """The benchmark; the kinds are listed above."""
    out: Path = Path("runs/evaluation")
    """Folder for result files, scores.json, scores.csv and evaluation.html. The same command again continues
    there: finished sequences are kept."""
    checkpoint: Annotated[tuple[str, ...], tyro.conf.arg(metavar="[NAME=]FILE ...")] = ()
    """Trackers to run, made by the train or convert command, or folders of training runs. The name defaults
    to the file's."""
    results: Annotated[tuple[str, ...], tyro.conf.arg(metavar="[NAME=]DIR ...")] = ()
    """Result files of other trackers to score beside them, in any public layout; a zip archive of them."""
    opencv: Annotated[tuple[str, ...], tyro.conf.arg(metavar="mil|nano:BACKBONE.onnx:HEAD.onnx ...")] = ()
    """OpenCV's trackers to run in the same way."""
    protocol: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME ...")] = ()
    """Whose rules to score by, one or several of those listed above. Default: those of the benchmark."""
    preset: Preset = "accurate"
    """Online procedure of the checkpoints, one of those listed above."""
    set: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE ...")] = ()
    """Settings of the checkpoints' online procedure that differ from the preset's, e.g. lost_below=0.1. An
    unknown name lists all."""
    seed: int = 0
    """With the name of a sequence it decides everything random in tracking it."""
    device: Annotated[str, tyro.conf.arg(metavar="{auto,cpu,cuda,cuda:N}")] = "auto"
    """What the checkpoints run on."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16: for the convolutions of the checkpoints."""
    engine: Literal["torch", "openvino", "onnxruntime"] | None = None
    """What computes the checkpoints' convolutions, on a CPU: torch with our kernels; openvino or onnxruntime,
    which are extras. Default: torch, or the engine of an exported folder."""
    no_graphs: bool = False
    """On a GPU launch every kernel by itself instead of a CUDA graph per frame."""
    workers: int | None = None
    """Processes that track side by side; 0: none but this one. Default: one per core, 8 at most; 1 on a GPU.
    The boxes do not depend on it, the measured speed does: use 1 to measure speed."""
    threads: int | None = None
    """CPU threads of each process; default: the cores shared evenly. Last digits can depend on it."""
    levels: Annotated[str | None, tyro.conf.arg(metavar="LOW,HIGH")] = None
    """Values of frames of more than 8 bits (16-bit, thermal, floats) that become black and white. Default: as
    the first frame of each sequence has them."""
    unknown: Literal["toolkit", "zero", "remove"] = "toolkit"
    """Frames without a known box (NaN): as the protocol's toolkit treats them (some refuse), zero (a frame of
    no size) or remove."""
    pack: Literal["got10k", "trackingnet", "lasot", "visdrone"] | None = None
    """Also make a submission OUT/NAME_KIND.zip of every tracker."""
    pictures: int = 40
    """Pictures of bad frames on the page, the worst first; 0: none."""
    quiet: bool = False
    """Print nothing but errors and warnings."""
