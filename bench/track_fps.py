"""Times a tracked frame by stage, ours beside the published structure in eager torch (track_baseline.py):

    python bench/track_fps.py [--network prdimp18] [--threads 1] [--frames 42] [--source VIDEO --box x,y,w,h]
    python bench/track_fps.py --device cuda [--precision bf16] [--compile]

All see every frame in turn, from the same state of the target (ours), in one process, and take turns in
being first: rounding cannot drift apart over frames. Medians per stage; a frame is the median of frames
without a filter update plus the median update times its share of the frames. Boxes and filters are compared
in every frame; where they differ no speed-up is printed. Weights are random (batch norms know the statistics
of the video) or those of a checkpoint, the same in both. The default video is synthetic, enlarged to
1280 x 720; its annotated boxes put the target back in place before each frame, because random weights follow
nothing. Preset: accurate; no frame counts as lost or as a hard negative, so every frame is refined and
updates come at their regular interval. Ten gradient steps on random weights amplify rounding: in the first
JUDGED frames, and in all in which a box is not within BOX_PX of the published one, the published structure
also runs in float64; ours may be JUDGE times as far from that as the published one in float32 is.

On a GPU our frame is one CUDA graph, timed from the frame in host memory to its box, device waited for; its
stages are those of the same functions run eagerly by a second tracker, with a wait after each. The published
structure runs with TF32 off, which is what results are compared with, and with TF32 on (torch's default for
convolutions); --compile adds one whose networks went through torch.compile.
"""

import argparse
import contextlib
import copy
import json
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import cv2  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402

from bench.ops import machine, save  # noqa: E402
from bench.track_baseline import Published  # noqa: E402
from chase_fast.checkpoint import load_tracker  # noqa: E402
from chase_fast.data.synthetic import SyntheticSequence  # noqa: E402
from chase_fast.kernels.localize import Geometry  # noqa: E402
from chase_fast.nn.backbone import MEAN, STD  # noqa: E402
from chase_fast.nn.genotype import CHASE  # noqa: E402
from chase_fast.nn.spec import TrackerSpec  # noqa: E402
from chase_fast.nn.tracker_net import TrackerNet  # noqa: E402
from chase_fast.track import Tracker  # noqa: E402
from chase_fast.track import captured as capturing  # noqa: E402
from chase_fast.track import step as stepping  # noqa: E402
from chase_fast.track.settings import settings_for  # noqa: E402
from chase_fast.track.sources import open_source  # noqa: E402
from chase_fast.track.target import Place, Target  # noqa: E402

NETWORKS = {
    "prdimp18": TrackerSpec(backbone="resnet18"),
    "prdimp50": TrackerSpec(backbone="resnet50"),
    "chase18": TrackerSpec(backbone="resnet18", cell=CHASE, channels=64),
    "chase50": TrackerSpec(backbone="resnet50", cell=CHASE, channels=256),
}
STAGES = ("crop", "backbone", "features", "correlation", "localisation", "box maps", "refinement", "rest")
SIZE = 1280, 720
BOX_PX, FILTER = 5e-3, 1e-4  # largest difference of a box (frame px) and of a filter (relative RMS)
JUDGED, JUDGE = 5, 2.0
JPEG_QUALITY = 90
# every frame is refined, none is a hard negative: updates of the filter come at their regular interval only
REGULAR = {"lost_below": 0.0, "distractor_above": 2.0, "hard_negative_above": 2.0}


class Times:
    """Seconds per stage and frame."""

    def __init__(self, device: torch.device):
        self.device, self.frames = device, []

    def begin(self) -> None:
        self.frames.append(defaultdict(float))

    def timed(self, stage: str, function: Callable) -> Callable:
        def call(*args, **kwargs):
            start = self._now()
            result = function(*args, **kwargs)
            self.frames[-1][stage] += self._now() - start
            return result

        return call

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def median(self, stage: str) -> float:
        return statistics.median(f.get(stage, 0.0) for f in self.frames)

    def update(self) -> tuple[float, float]:
        """Median update and its share of the frames."""
        updates = [f["update"] for f in self.frames if "update" in f]
        return (statistics.median(updates), len(updates) / len(self.frames)) if updates else (0.0, 0.0)

    def frame(self) -> float:
        seconds, share = self.update()
        return statistics.median(f["all"] - f.get("update", 0.0) for f in self.frames) + seconds * share


@contextlib.contextmanager
def instrumented(tracker: Tracker, times: Times, stages: bool = True) -> Iterator[None]:
    """Our tracker with its filter updates, and unless they are one graph its stages, timed from outside."""
    network, target = tracker._network, tracker._target
    methods = {
        (network.layers, "backbone"): "backbone",
        (network.layers, "features"): "features",
        (network, "scores"): "correlation",
        (network.layers, "box_maps"): "box maps",
    }
    functions = {
        (stepping, "take"): "crop",
        (capturing, "crop_windows"): "crop",
        (stepping.localize, "start"): "localisation",
        (stepping, "refine"): "refinement",
    }
    methods, functions = (methods, functions) if stages else ({}, {})
    kept = {place: getattr(*place) for place in functions}
    learn = target.learn

    def learned(*args):
        before, start = target.filter, times._now()
        learn(*args)
        if target.filter is not before:
            times.frames[-1]["update"] += times._now() - start

    for place, stage in methods.items():
        setattr(*place, times.timed(stage, getattr(*place)))
    for place, stage in functions.items():
        setattr(*place, times.timed(stage, kept[place]))
    target.learn = learned
    try:
        yield
    finally:
        for place in methods:
            delattr(*place)
        for place, function in kept.items():
            setattr(*place, function)
        del target.learn


@contextlib.contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """TF32 in convolutions and products, on a GPU."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


@dataclass
class Rival:
    """A form of the published structure, what it took and how far its results are from ours."""

    name: str
    published: Published
    times: Times
    tf32: bool = False
    box_error: float = 0.0
    filter_error: float = 0.0
    rounding: tuple[float, float] = 0.0, 0.0  # px from the box of float64: ours, its own

    @property
    def right(self) -> bool:
        ours, own = self.rounding
        return (self.box_error <= BOX_PX or ours <= JUDGE * own) and self.filter_error <= FILTER

    def judge(self, found: list[float], expected: list[float], exact: list[float]) -> None:
        """Compares with a box of float64."""
        errors = (max(abs(a - b) for a, b in zip(box, exact)) for box in (found, expected))
        self.rounding = tuple(max(pair) for pair in zip(self.rounding, errors))


def rivals_of(net: TrackerNet, settings, device: torch.device, args: argparse.Namespace) -> list[Rival]:
    """The first one is what results and stages are compared with."""
    published = Published(net, settings, device)
    rivals = [Rival("published structure", published, Times(device))]
    if device.type == "cuda":
        rivals.append(Rival("published structure, TF32", published, Times(device), tf32=True))
    if args.compile:
        compiled = Published(net, settings, device).compiled()
        rivals.append(Rival("published structure, compiled", compiled, Times(device)))
    return rivals


@torch.no_grad()
def run_published(published: Published, times: Times, target: Target, frame: np.ndarray) -> list[float]:
    """One frame from the target's state, which stays as it is: position and size, frame px."""
    t, call = times, published
    target.frame += 1
    window = target.window(frame)
    size = published.settings.image_size
    row = (*target.place.position, *target.place.size, *window.centre, window.scale(size), *frame.shape[:2])
    dtype, device = published.dtype, published.device
    where = Geometry(*torch.tensor([row], dtype=dtype, device=device).split((2, 2, 2, 1, 2), 1))
    noise = target.random(target.frame).random((1, published.settings.random_boxes, 4))
    images = t.timed("crop", call.crop)(frame, window)
    maps = t.timed("backbone", call.backbone)(images)
    features = t.timed("features", call.features)(maps)
    scores = t.timed("correlation", call.scores)(features, target.filter.to(dtype))
    position, _, _ = t.timed("localisation", call.localise)(scores, where)
    boxes = call.first_boxes(where, position, torch.from_numpy(noise).to(device, dtype))
    box_maps = t.timed("box maps", call.box_maps)(maps)
    modulation = tuple(m.to(dtype) for m in target.modulation)
    boxes, score = t.timed("refinement", call.refine)(modulation, box_maps, boxes)
    position, extent = call.chosen(where, boxes, score)
    return torch.cat((position, extent), 1)[0].tolist()


@torch.no_grad()
def compare(network: str, video, args: argparse.Namespace) -> dict:
    """One network: all trackers on the video."""
    device = torch.device(args.device)
    on_gpu = device.type == "cuda"
    frames, boxes = video
    net, spec = loaded(args.checkpoint) if args.checkpoint else random_net(NETWORKS[network], frames)
    settings = settings_for(spec, "published", **REGULAR)
    tracker = Tracker(net, spec, settings, device, precision=args.precision)
    staged = Tracker(net, spec, settings, device, graphs=False, precision=args.precision) if on_gpu else None
    rivals = rivals_of(net, settings, device, args)
    init = []
    for _ in range(2):
        start = time.perf_counter()
        tracker.init(frames[0], boxes[0])
        init.append(time.perf_counter() - start)
    if staged:
        staged.init(frames[0], boxes[0])
        for rival in rivals:  # choices of algorithms belong to no update
            with tf32(rival.tf32):
                updates = settings.update_iterations
                rival.published.update(staged._target, staged._target.filter, updates)
    ours, eager, unused = Times(device), Times(device), Times(device)
    exact = Published(net, settings, device, torch.float64)
    for i in range(1, len(frames)):
        target, frame = tracker._target, frames[i]
        for t in (tracker, staged):
            if t and boxes[i - 1] is not None and i > 1:
                t._target.place = Place.of(boxes[i - 1], settings)
        before = copy.copy(target)
        if staged:
            eager.begin()
            run_ours(staged, eager, frame, stages=True)
        expected = {}
        order = [None, *rivals]
        for rival in order[i % len(order) :] + order[: i % len(order)]:
            times = rival.times if rival else ours
            times.begin()
            if rival is None:
                run_ours(tracker, times, frame, stages=not on_gpu)
                continue
            start = times._now()
            with tf32(rival.tf32):
                expected[rival.name] = run_published(rival.published, times, copy.copy(before), frame)
            times.frames[-1]["all"] += times._now() - start
        found = [*target.place.position, *target.place.size]
        apart = max(abs(a - b) for a, b in zip(found, expected[rivals[0].name]))
        if i <= JUDGED or apart > BOX_PX:
            unused.begin()
            rivals[0].judge(
                found, expected[rivals[0].name], run_published(exact, unused, copy.copy(before), frame)
            )
        for rival in rivals:
            errors = (abs(a - b) for a, b in zip(found, expected[rival.name]))
            rival.box_error = max(rival.box_error, *errors)
            if target.filter is not before.filter:
                update_rival(rival, target, before.filter, settings.update_iterations)
        if i == args.warmup:
            for times in (ours, eager, *(r.times for r in rivals)):
                times.frames.clear()
    for times in (ours, eager, *(r.times for r in rivals)):
        for f in times.frames:
            f["rest"] = f["all"] - sum(f.get(stage, 0.0) for stage in (*STAGES[:-1], "update"))
    print(f"{network}  {settings.image_size} px  {tracker.about}  {len(ours.frames)} frames")
    return report(network, settings, ours, eager if staged else ours, rivals, statistics.median(init), args)


def run_ours(tracker: Tracker, times: Times, frame: np.ndarray, stages: bool) -> None:
    start = times._now()
    with instrumented(tracker, times, stages):
        tracker.update(frame)
    times.frames[-1]["all"] += times._now() - start


def update_rival(rival: Rival, target: Target, start_filter: torch.Tensor, iterations: int) -> None:
    """Its filter update from the same samples."""
    start = rival.times._now()
    with tf32(rival.tf32):
        updated = rival.published.update(target, start_filter, iterations)
    seconds = rival.times._now() - start
    rival.times.frames[-1]["update"] += seconds
    rival.times.frames[-1]["all"] += seconds
    rival.filter_error = max(rival.filter_error, float((target.filter - updated).norm() / updated.norm()))


def report(network, settings, ours, stages, rivals, init: float, args: argparse.Namespace) -> dict:
    """Prints one network's table; what is saved of it."""
    first = rivals[0]
    for rival in rivals:
        print(
            f"  largest difference to the {rival.name}: box {rival.box_error:.1e} px, filter "
            f"{rival.filter_error:.1e} (relative RMS)"
        )
    ours_px, own_px = first.rounding
    print(f"  from the box in float64: {ours_px:.1e} px, published structure {own_px:.1e} px")
    if not first.right:
        print(f"  results differ (allowed {BOX_PX:.0e} px, {FILTER:.0e}): no speed-up is claimed")
    rows = {stage: (stages.median(stage), first.times.median(stage)) for stage in STAGES}
    (update, share), (other, _) = stages.update(), first.times.update()
    rows["update"] = update, other
    if stages is not ours:
        rows["frame, eager"] = stages.frame(), first.times.frame()
        rows["update"] = ours.update()[0], other
    rows["frame"] = ours.frame(), first.times.frame()
    for stage, (a, b) in rows.items():
        gain = f"{b / a:6.2f} x" if first.right and a > 1e-6 and stage != "rest" else ""
        print(f"  {stage:13}{1e3 * a:9.2f} ms   published structure{1e3 * b:9.2f} ms   {gain}")
    for rival in rivals[1:]:
        print(f"  frame of the {rival.name}: {1e3 * rival.times.frame():.2f} ms")
    frame, other = rows["frame"]
    print(f"  an update in {share:.3f} of the frames, counted in frame; first frame {1e3 * init:.0f} ms")
    print(
        f"  {1 / frame:.2f} frames/s, published structure {1 / other:.2f}; with decoding "
        f"(JPEG, {args.decode * 1e3:.1f} ms) {1 / (frame + args.decode):.2f} "
        f"and {1 / (other + args.decode):.2f}"
    )
    return {
        "network": network,
        "precision": args.precision,
        "image_size": settings.image_size,
        "ms": {stage: [1e3 * a, 1e3 * b] for stage, (a, b) in rows.items()},
        "others_ms": {rival.name: 1e3 * rival.times.frame() for rival in rivals[1:]},
        "update_share": share,
        "first_frame_ms": 1e3 * init,
        "decode_ms": 1e3 * args.decode,
        "box_mismatch_px": first.box_error,
        "filter_mismatch": first.filter_error,
        "box_from_float64_px": list(first.rounding),
        "speedup": other / frame if first.right else None,
    }


def synthetic_video(count: int) -> tuple[list[np.ndarray], list]:
    """Frames of SIZE and the boxes annotated in them (None: absent)."""
    sequence = SyntheticSequence("track_fps", 1)
    order = [*range(sequence.length), *range(sequence.length - 2, 0, -1)]  # there and back again
    first = sequence.frame(0)
    factor = SIZE[0] / first.shape[1], SIZE[1] / first.shape[0]
    frames, boxes = [], []
    for i in range(count + 1):
        k = order[i % len(order)]
        frames.append(cv2.resize(sequence.frame(k), SIZE))
        box = [float(v) * f for v, f in zip(sequence.boxes[k], factor * 2)]
        boxes.append(None if any(np.isnan(box)) else box)
    return frames, boxes


def read_video(args: argparse.Namespace) -> tuple[list[np.ndarray], list]:
    if not args.source:
        return synthetic_video(args.frames)
    source = open_source(args.source, 0, args.frames + 1)
    frames = [f.image for f in source.frames()]
    source.close()
    return frames, [[float(v) for v in args.box.split(",")], *[None] * (len(frames) - 1)]


@torch.no_grad()
def random_net(spec: TrackerSpec, frames: list[np.ndarray]) -> tuple[TrackerNet, TrackerSpec]:
    """A network with random weights whose BatchNorms know the statistics of the video."""
    net = spec.build("random")
    norms = [m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 0.5
    pictures = [cv2.resize(f, (288, 288)).astype(np.float32) / 255 for f in frames[:4]]
    images = torch.from_numpy((np.stack(pictures) - MEAN) / STD).float().permute(0, 3, 1, 2)[None]
    box = torch.tensor([100.0, 90.0, 80.0, 100.0]).expand(1, 4, 4)
    jitter = 20 * torch.randn(1, 4, 16, 4, generator=torch.Generator().manual_seed(0))
    for _ in range(8):
        net.train()(images, images, box, box[:, :, None] + jitter)
    net.bb_regressor.iou_predictor.weight *= 0.1  # boxes move by some pixels, as with trained weights
    return net.eval(), spec


def loaded(path: str) -> tuple[TrackerNet, TrackerSpec]:
    tracker = load_tracker(path)
    return tracker.net.eval(), tracker.spec


def decode_seconds(frames: list[np.ndarray]) -> float:
    """Median time to decode one frame from JPEG."""
    seconds = []
    for frame in frames[:10]:
        _, data = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        start = time.perf_counter()
        cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", action="append", choices=NETWORKS, help="default: all; may be repeated")
    parser.add_argument("--checkpoint", help="a PrDiMP tracker instead of random weights")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32", help="ours: fp32 or bf16")
    parser.add_argument("--compile", action="store_true", help="also the published structure, compiled")
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's choice)")
    parser.add_argument("--frames", type=int, default=42)
    parser.add_argument("--warmup", type=int, default=2, help="frames not counted")
    parser.add_argument("--source", help="a folder or video instead of the synthetic one; needs --box")
    parser.add_argument("--box", help="x,y,w,h in the first frame of --source")
    parser.add_argument("--save", action="store_true", help="write bench/results/DATE_DEVICE.json")
    args = parser.parse_args()
    if args.source and not args.box:
        parser.error("--source needs --box")
    if args.threads:
        torch.set_num_threads(args.threads)
        cv2.setNumThreads(args.threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    result = {"machine": machine(torch.device(args.device)), "rows": []}
    print(json.dumps(result["machine"]))
    video = read_video(args)
    args.decode = decode_seconds(video[0])
    for network in ("checkpoint",) if args.checkpoint else args.network or NETWORKS:
        result["rows"].append(compare(network, video, args))
    if args.save:
        print(save(result, f"track_fps, {torch.get_num_threads()} threads"))


if __name__ == "__main__":
    main()
