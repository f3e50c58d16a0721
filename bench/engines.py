"""Times a tracked frame engine by engine: python bench/engines.py [--checkpoint FILE] [--threads 2]

Every engine tracks the same frames, from the same state of the target in each (torch's in float32), one
after the other within a frame, so that the load of the machine falls on all. Printed: median time of a
frame without filter updates, of its convolutions (network), of learning the first frame, the gain over
torch in float32, the relative difference of the features, and the mean IoU with torch's boxes in float32.
Weights are random, their batch norms calibrated on the video, or those of a checkpoint; int8 is calibrated on
the video's search windows. Video: synthetic, or a folder of frames with --source and --box. --opencv runs one
of OpenCV's trackers on the same frames. --json prints one object.
"""

import argparse
import importlib.util
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
from chase_fast.engines.openvino_engine import OpenVINO  # noqa: E402
from chase_fast.engines.outputs import LATER  # noqa: E402
from chase_fast.engines.program import to_openvino, to_program  # noqa: E402
from chase_fast.evaluate.peers import parse_peer  # noqa: E402
from chase_fast.export.quantize import quantized  # noqa: E402
from chase_fast.nn.backbone import calibrate  # noqa: E402
from chase_fast.nn.spec import TrackerSpec  # noqa: E402
from chase_fast.nn.tracker_net import TrackerNet  # noqa: E402
from chase_fast.track import Tracker  # noqa: E402
from chase_fast.track.patch import search_window, take  # noqa: E402
from chase_fast.track.settings import PRESETS, TrackSettings, settings_for  # noqa: E402
from chase_fast.track.sources import open_source  # noqa: E402
from chase_fast.track.target import Place  # noqa: E402

ENGINES = [
    ("torch", "fp32"),
    ("onnxruntime", "fp32"),
    ("openvino", "fp32"),
    ("torch", "bf16"),
    ("openvino", "bf16"),
    ("openvino", "int8"),
]
FORMS = {"difference": ".1e", "mean_iou": ".4f", "frame_ms": ".1f", "network_ms": ".1f", "init_ms": ".0f"}
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
    parser.add_argument("--opencv", metavar="mil|nano:BACKBONE.onnx:HEAD.onnx", help="beside them")
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", action="store_true", help="one object instead of a table")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    frames, boxes = video(options)
    net, spec, public = network(options, frames)
    changes = {} if options.checkpoint else REGULAR
    settings = settings_for(spec, options.preset, not public, **changes)
    seen = np.stack([window(frame, box or boxes[0], settings) for frame, box in zip(frames, boxes)])
    trackers = {}
    for engine, precision in ENGINES:
        if precision == "int8":
            if importlib.util.find_spec("nncf"):
                model = quantized(to_openvino(to_program(net, settings.image_size)), seen, False)
                made = OpenVINO(model, "bf16")  # of what is not of 8 bits
                trackers[engine, precision] = Tracker(net, spec, settings, "cpu", engine=made)
            continue
        tracker = Tracker(net, spec, settings, "cpu", precision=precision, engine=engine)
        trackers[engine, precision] = tracker
    rows = measure(trackers, frames, boxes)
    if options.opencv:
        rows.append(peer(options.opencv, frames, boxes[0]))
    about = machine(torch.device("cpu")) | {
        "network": options.checkpoint or options.network,
        "threads": options.threads,
    }
    about |= {"preset": options.preset, "size": settings.image_size, "frames": len(frames)}
    if options.json:
        print(json.dumps(about | {"engines": rows}))
        return
    print(", ".join(f"{k} {v}" for k, v in about.items()))
    columns = "features", "mean IoU", "frame ms", "network", "init ms", "gain"
    print(f"{'engine':24}" + "".join(f"{name:>10}" for name in columns))
    first = rows[0]["frame_ms"]
    for row in rows:
        name = f"{row['engine']} {row['precision']}"
        texts = [f"{row[k]:{form}}" if row[k] is not None else "" for k, form in FORMS.items()]
        print(f"{name:24}" + "".join(f"{text:>10}" for text in (*texts, f"{first / row['frame_ms']:.2f}x")))


def peer(text: str, frames: Frames, box: tuple[float, ...]) -> dict:
    """One of OpenCV's trackers, as `evaluate --opencv` names it."""
    name, entrant = parse_peer(text)
    session, times = entrant.start(0), []
    session.init(frames[0], box)
    for frame in frames[1:]:
        start = time.perf_counter()
        session.update(frame)
        times.append((time.perf_counter() - start) * 1e3)
    return dict.fromkeys(FORMS) | {"engine": name, "precision": "", "frame_ms": statistics.median(times)}


class Timed:
    """The convolutions of a tracker, timed: an engine, or torch's layers."""

    def __init__(self, inner):
        self.inner, self.times = inner, []

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def run(self, *arguments):
        return self._timed(self.inner.run, *arguments)

    def frame(self, *arguments):
        return self._timed(self.inner.frame, *arguments)

    def _timed(self, function, *arguments):
        start = time.perf_counter()
        result = function(*arguments)
        self.times.append((time.perf_counter() - start) * 1e3)
        return result


def timed(tracker: Tracker) -> Timed:
    """Puts a clock around its convolutions."""
    if tracker.engine:
        tracker._native.engine = Timed(tracker._native.engine)
        return tracker._native.engine
    tracker._network.layers = Timed(tracker._network.layers)
    return tracker._network.layers


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
    clocks = {key: timed(tracker) for key, tracker in trackers.items()}
    keys = list(trackers)
    for number, (frame, box) in enumerate(zip(frames[1:], boxes[1:])):
        found = {}
        for key in keys[number % len(keys) :] + keys[: number % len(keys)]:
            tracker = trackers[key]
            result = tracker.update(frame)
            if (number + 1) % first.settings.update_interval:  # else the filter was updated
                times[key].append(result.seconds * 1e3)
            found[key] = result.box
        for key in trackers:
            overlaps[key].append(iou(*(np.array(found[k]) for k in (key, ("torch", "fp32")))))
        for tracker in trackers.values():  # all go on from the same place
            put(tracker, box or found["torch", "fp32"])
    network_ms = {key: statistics.median(clock.times) for key, clock in clocks.items()}
    size = first.settings.image_size
    patches = np.random.default_rng(0).integers(0, 256, (1, size, size, 3)).astype(np.float32)
    features = {key: features_of(tracker, patches) for key, tracker in trackers.items()}
    exact = features["torch", "fp32"]
    return [
        {
            "engine": engine,
            "precision": precision,
            "difference": float(np.linalg.norm(features[engine, precision] - exact) / np.linalg.norm(exact)),
            "mean_iou": float(np.mean(overlaps[engine, precision])),
            "frame_ms": statistics.median(times[engine, precision]),
            "network_ms": network_ms[engine, precision],
            "init_ms": init[engine, precision],
        }
        for engine, precision in trackers
    ]


def window(frame: np.ndarray, box: tuple[float, ...], settings: TrackSettings) -> np.ndarray:
    """What a tracker sees of a frame about a box."""
    place, size = Place.of(box, settings), settings.image_size
    cut = search_window(place.position, place.scale * size, frame.shape[:2], size)
    return take(frame, cut, size)


def put(tracker: Tracker, box: tuple[float, ...]) -> None:
    """Puts the target there, as a first frame would."""
    target = tracker._target
    if tracker.engine:
        target.move(box)
    else:
        target.place = type(target.place).of(box, tracker.settings)


@torch.no_grad()
def features_of(tracker: Tracker, patches: np.ndarray) -> np.ndarray:
    """Classification features."""
    if tracker.engine:
        return tracker._native.engine.run(patches, LATER)[0].copy()
    return tracker._network.layers.frame(torch.from_numpy(patches))[0].float().numpy()


if __name__ == "__main__":
    main()
