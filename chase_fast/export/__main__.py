"""Command line: python -m chase_fast.export FILE --out DIR."""

import functools
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from chase_fast.command import run_command
from chase_fast.commandline import parse
from chase_fast.files import check_new, user_path
from chase_fast.runs.folder import checkpoint_file
from chase_fast.track.options import Preset
from chase_fast.track.settings import presets

PROG = "python -m chase_fast.export"
DESCRIPTION = f"""Export a tracker for OpenVINO or ONNX Runtime, whose convolutions are faster on many CPUs.

FILE is the best.safetensors or the folder of a training run, or a public checkpoint of PrDiMP, DiMP or
CHASE. OUT gets the model (backbone, neck, box maps: patches of 0..255 in, normalised classification features,
box maps and the layers that the first frame needs out, for 1 to 64 patches), the checkpoint for what stays
with this package (filter, refinement), and manifest.json with checksums, versions, the origin and the check:
features on crops of synthetic video and whole tracked boxes are compared with torch; a model beyond the
limits is not written. Every command that takes a checkpoint takes OUT.

Presets, which decide the size of the patches:
{presets()}

Examples:
  {PROG} prdimp50.pth.tar --out exported            then: chase-fast track video.mp4 --checkpoint exported ...
  {PROG} runs/mine --out exported --format onnx
  {PROG} runs/mine --out exported --precision fp16

Needs pip install "chase-fast[openvino]", or "chase-fast[onnx,onnxruntime]" for --format onnx. Exit code: 0; 2
for a wrong command, an unusable checkpoint, or a model that is not what torch computes."""


@dataclass(frozen=True)
class Export:
    """What to export."""

    checkpoint: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE|RUN")]
    """The trained network."""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """Folder to make."""
    format: Literal["openvino", "onnx"] = "openvino"
    """openvino: .xml and .bin; onnx: one file for ONNX Runtime and OpenVINO."""
    precision: Literal["fp32", "fp16", "int8"] = "fp32"
    """fp32, fp16 (half the size, openvino only): how weights are stored; what is computed with is chosen when
    it is run: track --precision bf16. int8: weights and maps of 8 bits, the fastest; needs pip install
    "chase-fast[int8]"."""
    calibrate: Annotated[str, tyro.conf.arg(metavar="KIND:PATH")] = ""
    """Dataset, as train takes it, on whose frames the model is checked, and which tells int8 how large maps
    become; video like yours is best. Default: synthetic video."""
    preset: Preset = "accurate"
    """Decides the size of the patches; track with the same one."""
    quiet: bool = False
    """Print nothing but errors."""


def run(options: Export) -> None:
    check_new(user_path(options.out))
    checkpoint_file(options.checkpoint, "FILE")
    say = (lambda text: None) if options.quiet else functools.partial(print, flush=True)
    say(f"loading {options.checkpoint} ...")
    from chase_fast.export.export import export

    how = options.format, options.precision, options.preset, say, options.calibrate
    export(options.checkpoint, options.out, *how)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code (see `run_command`)."""
    return run_command(lambda: run(parse(Export, argv, PROG, DESCRIPTION)))


if __name__ == "__main__":
    sys.exit(main())
