"""Checkpoint -> exported folder, checked against torch before it is written."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from chase_fast.checkpoint import Checkpoint, load_tracker, pack_tracker
from chase_fast.data.boxes import iou
from chase_fast.data.synthetic import SyntheticSequences
from chase_fast.engines.engine import Engine
from chase_fast.engines.folder import EXPORTED, MODEL, ExportedFolder, digest, write_folder
from chase_fast.engines.onnx_engine import OnnxRuntime
from chase_fast.engines.openvino_engine import OpenVINO
from chase_fast.engines.program import OUTPUTS, to_onnx, to_openvino, to_program
from chase_fast.errors import ChaseError
from chase_fast.files import check_new, user_path
from chase_fast.runs import checkpoint_file, git_commit, versions
from chase_fast.track.layers import LIMIT
from chase_fast.track.network import Network
from chase_fast.track.settings import TrackSettings, settings_for
from chase_fast.track.tracker import Tracker

LEAST_IOU = {"fp32": 0.999, "fp16": 0.99}  # median over the checked boxes
LEAST_MEAN = 0.98  # rounding may decide a tie between start boxes of the refinement in another way
FEATURES = {"fp32": LIMIT["fp32"], "fp16": 5e-3}  # most relative difference of an output
PAIRS = 12  # frames to track from, each into the next one


def export(
    checkpoint: Path,
    out: Path,
    format: str = "openvino",
    precision: str = "fp32",
    preset: str = "accurate",
    say: Callable[[str], None] = print,
) -> ExportedFolder:
    """Writes the folder that `python -m chase_fast.export` describes.

    Args:
        preset: decides the size of the patches.
        say: takes lines for the user.

    Raises:
        ChaseError: an unusable checkpoint or folder, a missing package, a precision that the format does not
            have, or a model that does not compute what torch computes.
    """
    if format == "onnx" and precision != "fp32":
        raise ChaseError(f"--format onnx stores fp32: take --format openvino for --precision {precision}")
    out = user_path(out)
    check_new(out)
    file = checkpoint_file(checkpoint, "FILE")
    loaded = load_tracker(file)
    settings = settings_for(loaded.spec, preset, not loaded.public)
    say(f"{file}: {loaded.spec.classifier} on {loaded.spec.backbone}, patches of {settings.image_size} px")
    files = _model(loaded, settings.image_size, format, precision)
    with tempfile.TemporaryDirectory() as scratch:
        for name, data in files.items():
            (Path(scratch) / name).write_bytes(data)
        kind = OpenVINO if format == "openvino" else OnnxRuntime
        engine = kind(Path(scratch) / MODEL[format])
        check = compare(loaded, settings, engine)
    texts = [f"{name} {check['outputs'][name]:.1e}" for name in OUTPUTS]
    say(f"{engine.about} against torch, relative differences: {', '.join(texts)}")
    say(f"{PAIRS} tracked boxes: IoU {check['median_iou']:.6f} (median), {check['mean_iou']:.6f} (mean)")
    same = check["median_iou"] >= LEAST_IOU[precision] and check["mean_iou"] >= LEAST_MEAN
    if not same or max(check["outputs"].values()) > FEATURES[precision]:
        raise ChaseError(
            f"the {format} model does not compute what torch computes (limits: {FEATURES[precision]:g}, "
            f"median IoU {LEAST_IOU[precision]}): nothing is written"
        )
    files[EXPORTED] = pack_tracker(loaded.net, loaded.spec, loaded.about)
    about = {
        "format": format,
        "precision": precision,
        "size": settings.image_size,
        "preset": preset,
        "origin": {"file": file.name, "sha256": digest(file.read_bytes())},
        "check": {"engine": engine.about, **check},
        "versions": versions(),
        "commit": git_commit(),
    }
    write_folder(out, files, about)
    size = sum(len(data) for data in files.values()) / 2**20
    say(f"{out}: {', '.join(files)} ({size:.0f} MiB)")
    folder = ExportedFolder.find(out)
    assert folder is not None, "it was just written"
    return folder


def _model(loaded: Checkpoint, size: int, format: str, precision: str) -> dict[str, bytes]:
    """Files of the model."""
    program = to_program(loaded.net, size)
    if format == "onnx":
        return {MODEL[format]: to_onnx(program)}
    import openvino

    model = to_openvino(program)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / MODEL[format]
        openvino.save_model(model, path, compress_to_fp16=precision == "fp16")
        return {p.name: p.read_bytes() for p in (path, path.with_suffix(".bin"))}


@torch.no_grad()
def compare(loaded: Checkpoint, settings: TrackSettings, engine: Engine) -> dict[str, Any]:
    """An engine against torch on synthetic video.

    Returns:
        outputs: largest relative difference of each output, over crops of one and of several patches;
        mean_iou, median_iou: of boxes found in one frame after learning the one before, by both.
    """
    network = Network(loaded.net, "cpu")
    frames = [SyntheticSequences("export")[k].frame(0) for k in range(PAIRS)]
    size = settings.image_size
    tiles = [np.resize(frame[:size, :size], (size, size, 3)) for frame in frames]
    patches = torch.from_numpy(np.stack(tiles).astype(np.float32))
    worst = dict.fromkeys(OUTPUTS, 0.0)
    for part in (patches[:1], patches[1:4], patches[4:]):
        features, layers = network.layers.first(part)
        maps = network.layers.frame(part)[1]
        expected = (features, *(m.permute(0, 2, 3, 1) for m in (*maps, *layers)))
        for name, found, wanted in zip(OUTPUTS, engine.run(part), expected, strict=True):
            difference = float(torch.linalg.norm(found - wanted) / torch.linalg.norm(wanted))
            worst[name] = max(worst[name], difference)
    both = [Tracker(loaded.net, loaded.spec, settings, "cpu", engine=e) for e in ("torch", engine)]
    overlaps = []
    for k in range(PAIRS):
        sequence = SyntheticSequences("export")[k]
        start = int(np.flatnonzero(~np.isnan(sequence.boxes[:-1]).any(1))[0])
        boxes = []
        for tracker in both:
            tracker.init(sequence.frame(start), tuple(sequence.boxes[start]))
            boxes.append(tracker.update(sequence.frame(start + 1)).box)
        overlaps.append(float(iou(*map(np.array, boxes))))
    return {"outputs": worst, "mean_iou": float(np.mean(overlaps)), "median_iou": float(np.median(overlaps))}
