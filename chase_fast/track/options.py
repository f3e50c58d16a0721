"""Options of the track command, and what can be said about them before anything heavy is imported."""

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from chase_fast.commandline import parse as parse_words
from chase_fast.device import check_device
from chase_fast.errors import ChaseError
from chase_fast.track.settings import PRESETS, TrackSettings, presets
from chase_fast.track.sources.masking import masked

PROG = "python -m chase_fast.track"
if TYPE_CHECKING:
    Preset = str
else:
    Preset = Literal[tuple(PRESETS)]
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_NUMBERS = re.compile(rf"[\[(]?\s*{_NUMBER}(?:\s*[,;\s]\s*{_NUMBER})*\s*,?\s*[\])]?|,")


@dataclass(frozen=True)
class Track:
    """What to track in what."""

    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")]
    """Video file, folder of frames, camera (its number or /dev/videoN), named pipe (- for standard input) or
    URL of a stream."""
    checkpoint: Annotated[Path, tyro.conf.arg(metavar="FILE|RUN")]
    """The trained network, made by the train or convert command, or the folder of a training run or of the
    export command."""
    box: Annotated[tuple[str, ...], tyro.conf.arg(metavar="X,Y,W,H")] = ()
    """The target in the first frame, in pixels: top-left corner and size, as 310,142,64,120 or as four
    numbers 310 142 64 120. Several targets: --box several times. Without it the target is drawn in a
    window."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Folder for boxes.txt, result.json and annotated.mp4. Default: runs/track_DATE_TIME."""
    overwrite: bool = False
    """Replace the results of an earlier run in --out."""
    preset: Preset = "accurate"
    """Online procedure, one of those listed above."""
    set: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE")] = ()
    """A setting of the online procedure that differs from the preset's, e.g. lost_below=0.1; several: --set
    several times. An unknown name lists all."""
    device: Annotated[str, tyro.conf.arg(metavar="{auto,cpu,cuda,cuda:N}")] = "auto"
    """auto takes a GPU if there is one."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16: convolutions of backbone, neck and box maps in 16 bits."""
    engine: Literal["auto", "torch", "openvino", "onnxruntime"] | None = None
    """What computes the convolutions, on a CPU: torch with our kernels; openvino or onnxruntime, which are
    extras; auto: the fastest of those installed, measured at the start. Default: torch, or the engine of an
    exported folder."""
    no_graphs: bool = False
    """On a GPU launch every kernel by itself instead of a CUDA graph per frame."""
    seed: int = 0
    """Decides everything random: the same seed gives the same boxes."""
    start: int = 0
    """Frames to pass over (decoded ones); the box is that of the frame after them."""
    frames: int | None = None
    """Most frames to track, the first one included. Default: all."""
    levels: Annotated[str | None, tyro.conf.arg(metavar="LOW,HIGH")] = None
    """Values of frames of more than 8 bits (16-bit, thermal, floats) that become black and white. Default: as
    the first frame has them."""
    timeout: float = 10.0
    """Seconds without a picture after which a camera or stream counts as broken off."""
    reconnects: int = 5
    """Attempts in a row to open a camera or stream again after it broke off."""
    show: bool = False
    """Show the video while it is tracked; q or Escape stops."""
    no_video: bool = False
    """Write no annotated video."""
    fps: float | None = None
    """Frames per second of the annotated video. Default: the times of the source's own frames, 30 per second
    for folders."""
    quiet: bool = False
    """Print nothing but errors and warnings."""


DESCRIPTION = f"""Track one or several targets through a video.

Examples:
  {PROG} video.mp4 --box 310,142,64,120 --checkpoint best.safetensors --out runs/mine
  {PROG} frames/ --box 310 142 64 120 --box 20 88 40 40 --checkpoint runs/tracker
  {PROG} 0 --show --checkpoint best.safetensors         camera 0; draw the target, q stops
  {PROG} rtsp://camera/stream --box 310,142,64,120 --checkpoint best.safetensors --frames 1000

OUT gets boxes.txt (x,y,w,h per line, the first line is the given box; boxes_0.txt, boxes_1.txt ... for
several targets), result.json (numbers and times of the frames; box, score and state of every target in
each; speed, settings, versions) and annotated.mp4 (H.264; small frames are enlarged). Boxes are written as
they are found. A box in state lost is the last one that was found: the score is below lost_below, or what
was found can be no target (no pixel in the frame, a side below 1 px or above 4 frames; not with public
networks).

Presets of the online procedure, of public networks (PrDiMP, DiMP, CHASE) all in the published form:
{presets()}

Videos are decoded by PyAV, by OpenCV if that cannot be; frames are as a player shows them: turned as the
file says, interlaced ones deinterlaced. Behind a damaged place tracking goes on: a warning and result.json
say where it is, and frame numbers count what is missing. Folders: images in natural order, what is no frame
(masks, previews) left out; a missing number is leaped over with a warning. Frames may be grey, have 16 bits
or floats (--levels) or change their size (boxes are in pixels of their own frame; a warning says where).

Cameras, and streams that announce no length, run until Ctrl-C, q or --frames. The network is ready before
their first frame is taken; frames that come faster than they are tracked are dropped; one that breaks off is
opened again (--timeout, --reconnects). Of an address, user, password, keys and tokens are never printed or
stored.

Exit code: 0; 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP (once: after this frame, everything is
written); 2 for a wrong command, an unusable source, or one that breaks off before its end: what was tracked
until then is kept."""


def parse(argv: Sequence[str] | None) -> Track:
    """The options (see `chase_fast.commandline.parse`). What may be printed on the way holds no secrets.

    Raises:
        ChaseError: --box is not four numbers.
    """
    given = [_file_or_flag(word) for word in joined_boxes(sys.argv[1:] if argv is None else argv)]
    shown = {masked(word, address=True): word for word in given}
    options = parse_words(Track, [masked(word, address=True) for word in given], PROG, DESCRIPTION)
    return replace(options, source=shown.get(options.source, options.source))


def _file_or_flag(argument: str) -> str:
    """A file whose name begins with - is no flag."""
    known = {"--" + f.name.replace("_", "-") for f in fields(Track)} | {"--help", "-h", "-", "--"}
    name = argument.partition("=")[0].replace("_", "-")
    file = argument.startswith("-") and name not in known and Path(argument).exists()
    return f"./{argument}" if file else argument


def joined_boxes(arguments: Sequence[str]) -> list[str]:
    """`--box 1 2 3 4`, `--box "1, 2, 3, 4"` and the like -> `--box=1,2,3,4`.

    Raises:
        ChaseError: numbers for a second target follow.
    """
    result, rest = [], list(arguments)
    while rest:
        argument = rest.pop(0)
        flag, equals, first = argument.partition("=")
        if flag != "--box":
            result.append(argument)
            continue
        parts = _split(first) if equals else []
        if equals and not _NUMBERS.fullmatch(first.strip()):
            result.append(argument)
            continue
        while rest and len(parts) < 4 and _NUMBERS.fullmatch(rest[0].strip()):
            parts += _split(rest.pop(0))
        if not parts and rest and not rest[0].startswith("--"):
            parts = [rest.pop(0)]  # no number: `given_box` says so
        if len(parts) == 4 and len(rest) >= 4 and all(re.fullmatch(_NUMBER, r) for r in rest[:4]):
            raise ChaseError("--box takes four numbers: give --box once for each target")
        result.append("--box=" + ",".join(parts))
    return result


def _split(text: str) -> list[str]:
    return [part for part in re.split(r"[,;\s\[\]()]+", text) if part]


def given_box(text: str) -> tuple[float, float, float, float]:
    """x,y,w,h -> four numbers.

    Raises:
        ChaseError: it is something else.
    """
    try:
        x, y, w, h = map(float, _split(text))
    except ValueError:
        raise ChaseError(
            f"--box {text}: give four numbers x,y,w,h in pixels, as --box 310,142,64,120"
        ) from None
    from chase_fast.track.frames import check_box

    return check_box((x, y, w, h))


def check(options: Track) -> list[tuple[float, float, float, float]]:
    """The boxes, if the options can be.

    Raises:
        ChaseError: they cannot.
    """
    boxes = [given_box(text) for text in options.box]
    TrackSettings.parse_changes(options.set)
    if options.fps is not None and not 0 < options.fps <= 1000:
        raise ChaseError(f"--fps {options.fps:g} must lie between 0 and 1000")
    check_device(options.device)
    if not 0 < options.timeout <= 3600:
        raise ChaseError(f"--timeout {options.timeout:g} must lie between 0 and 3600 seconds")
    if options.reconnects < 0:
        raise ChaseError(f"--reconnects {options.reconnects} must be 0 or more")
    return boxes
