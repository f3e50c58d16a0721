"""TraX server for the VOT toolkit: python -m chase_fast.track.adapters.trax --checkpoint FILE.

Needs the package vot-trax (4 or later), which the VOT toolkit installs anyway.
"""

import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import tyro

from chase_fast.command import run_command
from chase_fast.errors import ChaseError

PROG = "python -m chase_fast.track.adapters.trax"


@dataclass(frozen=True)
class Server:
    """Track what a TraX client (the VOT toolkit) sends: one or several rectangles. See docs/vot.md."""

    checkpoint: Path
    """The trained network, made by the train or convert command."""
    preset: str = "accurate"
    """Online procedure: accurate (as published), balanced or fast."""
    device: str = "auto"
    """auto, cpu or cuda[:N]."""
    precision: str = "fp32"
    """fp32, or bf16 for the convolutions of backbone, neck and box maps."""
    engine: str | None = None
    """torch, openvino, onnxruntime or auto, see the track command."""
    no_graphs: bool = False
    """On a GPU launch every kernel by itself instead of a CUDA graph per frame."""
    seed: int = 0
    """Decides everything random: the same seed gives the same boxes."""
    levels: str | None = None
    """LOW,HIGH: values of frames of more than 8 bits that become black and white. Default: as the first
    frame has
    them."""


def load(options: Server):
    """A tracker that has tracked once: whatever is loaded or built at the first frame is ready before the
    client starts to count the seconds that a reply may take.

    Raises:
        ChaseError: see `MultiTracker.load`.
    """
    from chase_fast.track.multi import MultiTracker

    how = options.preset, options.device, options.seed, not options.no_graphs, options.precision
    tracker = MultiTracker.load(options.checkpoint, *how, options.engine)
    tracker.warm_up()
    return tracker


def serve(server: Any, tracker: Any, levels: Any = None) -> None:
    """Answers requests until the client quits.

    server: trax.Server; tracker: `MultiTracker`. Objects may join at any frame and stay in this order.
    levels: `Levels` of frames of more than 8 bits; None: as the frame of `initialize` has them.

    Raises:
        ChaseError: a frame that cannot be read, or a box that is no target.
    """
    import trax

    from chase_fast.data.decode import BrokenImage, read_frame
    from chase_fast.data.first_look import first_levels

    own = levels
    while (request := server.wait()).type in ("initialize", "frame"):
        path = request.image["color"].path()
        if request.type == "initialize":
            own = levels or partial(first_levels, [path])
        try:
            image = read_frame(path, own)
        except BrokenImage as e:
            raise ChaseError(f"frame {path} cannot be read: {e}") from None
        new = [region.bounds() for region, _ in request.objects or ()]
        if request.type == "initialize":
            tracker.init(image, new)
            found = []
        else:
            found = [(r.box, r.score) for r in tracker.update(image)]
            for box in new:
                tracker.add(image, box)
        reply = found + [(box, 1.0) for box in new]
        server.status([(trax.Rectangle.create(*box), {"confidence": f"{score:.6f}"}) for box, score in reply])


def run(options: "Server") -> None:
    try:
        trax = importlib.import_module("trax")
    except ImportError as e:
        raise ChaseError(f"the TraX server needs the package vot-trax ({e}): pip install vot-trax") from None
    from chase_fast.data.pixels import Levels

    levels = None if options.levels is None else Levels.parse(options.levels)
    tracker = load(options)
    server = trax.Server(
        [trax.Region.RECTANGLE],
        [trax.Image.PATH],
        ["color"],
        tracker_name="chase_fast",
        tracker_description=f"chase_fast, {tracker.settings.name}, preset {options.preset}",
        multiobject=True,
    )
    try:
        serve(server, tracker, levels)
    except ChaseError as e:
        server.quit(str(e))
        raise
    except trax.TraxException as e:
        raise ChaseError(f"the TraX client went away: {e}") from None


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code (see `run_command`)."""
    return run_command(lambda: run(tyro.cli(Server, prog=PROG, args=None if argv is None else list(argv))))


if __name__ == "__main__":
    sys.exit(main())
