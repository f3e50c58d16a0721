"""Command line: python -m chase_fast.track SOURCE --box x,y,w,h --checkpoint FILE [--out DIR]."""

import datetime
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from chase_fast.command import run_command
from chase_fast.commandline import parse as parse_words
from chase_fast.errors import ChaseError

PROG = "python -m chase_fast.track"


@dataclass(frozen=True)
class Track:
    """What to track in what."""

    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")]
    """Video file, folder of frames, number of a camera, or URL of a stream."""
    checkpoint: Path
    """The trained network, made by the train or convert command."""
    box: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """The target in the first frame: x,y,w,h in pixels, top-left corner and size (--box=-3,8,20,20 if x is
    negative). Several targets: --box several times. Without it the target is drawn in a window."""
    out: Path | None = None
    """Folder for boxes.txt, result.json and annotated.mp4. Default: runs/track_DATE_TIME."""
    overwrite: bool = False
    """Replace the results of an earlier run in --out."""
    preset: str = "accurate"
    """Online procedure: accurate (as published), balanced or fast."""
    device: str = "auto"
    """auto, cpu or cuda[:N]."""
    precision: str = "fp32"
    """fp32, or bf16 for the convolutions of backbone, neck and box maps."""
    no_graphs: bool = False
    """On a GPU launch every kernel by itself instead of a CUDA graph per frame."""
    seed: int = 0
    """Decides everything random: the same seed gives the same boxes."""
    start: int = 0
    """Frames to pass over; the box is that of the frame after them."""
    frames: int | None = None
    """Most frames to track, the first one included. Default: all."""
    show: bool = False
    """Show the video while it is tracked; q or Escape stops."""
    no_video: bool = False
    """Write no annotated video."""
    fps: float | None = None
    """Frames per second of the annotated video. Default: those of the source, 30 for folders."""
    quiet: bool = False
    """Print nothing but errors and warnings."""


DESCRIPTION = f"""Track one or several targets through a video.

Examples:
  {PROG} video.mp4 --box 310,142,64,120 --checkpoint best.safetensors --out runs/mine
  {PROG} frames/ --box 310,142,64,120 --box 20,88,40,40 --checkpoint best.safetensors
  {PROG} 0 --show --checkpoint best.safetensors         camera 0; draw the target, q stops
  {PROG} rtsp://camera/stream --box 310,142,64,120 --checkpoint best.safetensors --frames 1000

OUT gets boxes.txt (x,y,w,h per line, the first line is the given box; boxes_0.txt, boxes_1.txt ... for
several targets), result.json (score, state and time of every frame, speed, settings, versions) and
annotated.mp4. Boxes are written as they are found. A box in state lost is the last one that was found.

Folders: images in numerical order; a missing number is leaped over with a warning. Frames may be grey, have
16 bits or change their size (boxes are in pixels of their own frame; a warning says where). Cameras, and
streams that announce no length, run until Ctrl-C, q or --frames; frames that come faster than they are
tracked are dropped.

Exit code: 0; 130 after Ctrl-C (once: after this frame, everything is written); 2 for a wrong command, an
unusable source, or one that breaks off: what was tracked until then is kept."""


def parse(argv: Sequence[str] | None) -> Track:
    return parse_words(Track, argv, PROG, DESCRIPTION)


def given_box(text: str) -> tuple[float, ...]:
    """x,y,w,h -> four numbers.

    Raises:
        ChaseError: it is something else.
    """
    try:
        x, y, w, h = map(float, text.split(","))
    except ValueError:
        raise ChaseError(f"--box {text}: give four numbers x,y,w,h in pixels") from None
    return x, y, w, h


def run(options: Track) -> int:
    boxes = [given_box(text) for text in options.box]
    if options.fps is not None and not 0 < options.fps <= 1000:
        raise ChaseError(f"--fps {options.fps:g} must lie between 0 and 1000")
    if not options.checkpoint.is_file():
        raise ChaseError(f"--checkpoint {options.checkpoint}: no such file")
    now = datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    out = options.out or Path("runs") / f"track_{now}"

    from chase_fast.track.session import Session
    from chase_fast.track.source import open_source
    from chase_fast.track.writer import check_folder

    check_folder(out, options.overwrite)
    source = open_source(options.source, options.start, options.frames)
    try:
        return Session(options, source, out).run(boxes)
    finally:
        source.close()


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code (see `run_command`)."""
    return run_command(lambda: run(parse(argv)), stopped="stopped before anything was tracked")


if __name__ == "__main__":
    sys.exit(main())
