"""Times a tracked frame engine by engine: python bench/engines.py [--checkpoint FILE] [--threads 2]

Every engine tracks the same frames, from the same state of the target in each (torch's in float32), one
after the other within a frame, so that the load of the machine falls on all. Printed: median time of a
frame without filter updates, of learning the first frame, the gain over torch in the same precision, the
relative difference of the features, and the mean IoU with torch's boxes in float32. Weights are random,
their batch norms calibrated on the video, or those of a checkpoint. Video: synthetic, or a folder of
frames with --source and --box. --json prints one object.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import torch  # noqa: E402

from bench.ops import machine  # noqa: E402
from bench.track_fps import NETWORKS, REGULAR  # noqa: E402
from chase_fast.checkpoint import load_tracker  # noqa: E402
from chase_fast.data.boxes import iou  # noqa: E402
from chase_fast.data.synthetic import SyntheticSequence  # noqa: E402
from chase_fast.nn.backbone import calibrate  # noqa: E402
from chase_fast.nn.spec import TrackerSpec  # noqa: E402
from chase_fast.nn.tracker_net import TrackerNet  # noqa: E402
from chase_fast.track import Tracker  # noqa: E402
from chase_fast.track.settings import PRESETS, settings_for  # noqa: E402
from chase_fast.track.sources import open_source  # noqa: E402

ENGINES = [
    ("torch", "fp32"),
    ("onnxruntime", "fp32"),
    ("openvino", "fp32"),
    ("torch", "bf16"),
    ("openvino", "bf16"),
]
Frames = list[np.ndarray]


def video(options: argparse.Namespace) -> tuple[Frames, list[tuple[float, ...] | None]]:
    """Frames, and the boxes to put the target back to where they are known."""
    if options.source:
        box = tuple(map(float, options.box.split(",")))
        source = open_source(options.source)
        frames = [frame.image for _, frame in zip(range(options.frames), source.frames())]
        return frames, [box] + [None] * (len(frames) - 1)
    sequence = next(s for k in range(99) if not np.isnan((s := SyntheticSequence("engines", k)).boxes).any())
    length = min(options.frames, len(sequence.boxes))
    return [sequence.frame(i) for i in range(length)], [tuple(b) for b in sequence.boxes[:length]]


def network(options: argparse.Namespace, frames: Frames) -> tuple[TrackerNet, TrackerSpec, bool]:
    """Network, its architecture, whether it is a public one."""
    if options.checkpoint:
        loaded = load_tracker(options.checkpoint)
        return loaded.net, loaded.spec, loaded.public
    spec = NETWORKS[options.network]
    net = spec.build()
    images = torch.from_numpy(np.stack(frames[:4])).permute(0, 3, 1, 2).float()[..., :192, :192] / 64 - 2
    calibrate(net.feature_extractor, [images])
    net.train()
    with torch.no_grad():
        layers = net.feature_extractor(images)
        net.neck(*layers)
        net.bb_regressor.features(*layers)
    return net.eval(), spec, False


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", choices=NETWORKS, default="chase18")
    parser.add_argument("--checkpoint", help="a trained network instead")
    parser.add_argument("--source", help="video or folder of frames")
    parser.add_argument("--box", help="x,y,w,h of the target in its first frame")
    parser.add_argument("--preset", choices=PRESETS, default="accurate")
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", action="store_true", help="one object instead of a table")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    frames, boxes = video(options)
    net, spec, public = network(options, frames)
    changes = {} if options.checkpoint else REGULAR
    settings = settings_for(spec, options.preset, not public, **changes)
    trackers = {
        (engine, precision): Tracker(net, spec, settings, "cpu", precision=precision, engine=engine)
        for engine, precision in ENGINES
    }
    rows = measure(trackers, frames, boxes)
    about = machine(torch.device("cpu")) | {
        "network": options.checkpoint or options.network,
        "threads": options.threads,
    }
    about |= {"preset": options.preset, "size": settings.image_size, "frames": len(frames)}
    if options.json:
        print(json.dumps(about | {"engines": rows}))
        return
    print(", ".join(f"{k} {v}" for k, v in about.items()))
    print(f"{'engine':24}{'features':>10}{'mean IoU':>10}{'frame ms':>10}{'init ms':>9}{'gain':>7}")
    for row in rows:
        name = f"{row['engine']} {row['precision']}"
        print(
            f"{name:24}{row['difference']:10.1e}{row['mean_iou']:10.4f}{row['frame_ms']:10.1f}"
            f"{row['init_ms']:9.0f}{row['gain']:6.2f}x"
        )


def measure(trackers: dict, frames: Frames, boxes: list) -> list[dict]:
    """One row per engine."""
    first = trackers["torch", "fp32"]
    init, times = {}, {key: [] for key in trackers}
    for key, tracker in trackers.items():
        tracker.init(frames[0], boxes[0])
        tracker.update(frames[1])  # whatever is compiled at the first frame
        start = time.perf_counter()
        tracker.init(frames[0], boxes[0])
        init[key] = (time.perf_counter() - start) * 1e3
    overlaps = {key: [] for key in trackers}
    keys = list(trackers)
    for number, (frame, box) in enumerate(zip(frames[1:], boxes[1:])):
        state = first._target.place
        found = {}
        for key in keys[number % len(keys) :] + keys[: number % len(keys)]:
            tracker = trackers[key]
            tracker._target.place, before = state, tracker._target.filter
            result = tracker.update(frame)
            if tracker._target.filter is before:  # else the filter was updated
                times[key].append(result.seconds * 1e3)
            found[key] = result.box
        for key in trackers:
            overlaps[key].append(iou(*(np.array(found[k]) for k in (key, ("torch", "fp32")))))
        if box is not None:
            first._target.place = type(state).of(box, first.settings)
    size = first.settings.image_size
    patches = torch.randint(0, 256, (1, size, size, 3)).float()
    with torch.no_grad():
        features = {key: t._network.layers.frame(patches)[0].clone() for key, t in trackers.items()}
    exact = features["torch", "fp32"]
    return [
        {
            "engine": engine,
            "precision": precision,
            "difference": float(torch.dist(features[engine, precision], exact) / exact.norm()),
            "mean_iou": float(np.mean(overlaps[engine, precision])),
            "frame_ms": statistics.median(times[engine, precision]),
            "init_ms": init[engine, precision],
            "gain": statistics.median(times["torch", precision])
            / statistics.median(times[engine, precision]),
        }
        for engine, precision in trackers
    ]


if __name__ == "__main__":
    main()
