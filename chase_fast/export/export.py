"""Checkpoint -> exported folder, checked against torch before it is written."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save

from chase_fast.checkpoint import Checkpoint, load_tracker, pack_tracker
from chase_fast.data.boxes import iou
from chase_fast.data.synthetic import SyntheticSequences
from chase_fast.engines.constants import constants_of
from chase_fast.engines.folder import CONSTANTS, EXPORTED, MODEL, ExportedFolder, digest, write_folder
from chase_fast.engines.onnx_engine import OnnxRuntime
from chase_fast.engines.openvino_engine import OpenVINO
from chase_fast.engines.outputs import OUTPUTS, Engine
from chase_fast.engines.packages import need
from chase_fast.engines.program import to_onnx, to_openvino, to_program
from chase_fast.errors import ChaseError
from chase_fast.export.quantize import quantized, windows_of
from chase_fast.files import check_new, user_path
from chase_fast.runs import checkpoint_file, git_commit, versions
from chase_fast.track.fastest import LIMIT
from chase_fast.track.native import settings_numbers
from chase_fast.track.network import Network
from chase_fast.track.settings import TrackSettings, settings_for
from chase_fast.track.tracker import Tracker

LEAST_IOU = {"fp32": 0.999, "fp16": 0.99, "int8": 0.9}  # median over the checked boxes
# mean: rounding may decide a tie between start boxes of the refinement in another way
LEAST_MEAN = {"fp32": 0.98, "fp16": 0.98, "int8": 0.8}
FEATURES = {"fp32": LIMIT["fp32"], "fp16": 5e-3, "int8": 0.25}  # most relative difference of an output
SYNTHETIC = "synthetic:train"
PAIRS = 12  # frames to track from, each into the next one


def export(
    checkpoint: Path,
    out: Path,
    format: str = "openvino",
    precision: str = "fp32",
    preset: str = "accurate",
    say: Callable[[str], None] = print,
    calibrate: str = "",
) -> ExportedFolder:
    """Writes the folder that `python -m chase_fast.export` describes.

    Args:
        preset: decides the size of the patches.
        say: takes lines for the user.
        calibrate: dataset, KIND:PATH[:SPLIT], on whose frames outputs are checked, and whose maps say to int8
            how large they become; empty: synthetic video.

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
    with tempfile.TemporaryDirectory() as scratch:
        if precision == "int8":
            engine, check, kept = _quantized(loaded, settings, calibrate, Path(scratch), say)
        else:
            _write(loaded, settings.image_size, format, precision, Path(scratch))
            kind = OpenVINO if format == "openvino" else OnnxRuntime
            engine = kind(Path(scratch) / MODEL[format])
            seen = windows_of(calibrate, settings) if calibrate else None
            check, kept = compare(loaded, settings, engine, seen), ""
        files = {p.name: p.read_bytes() for p in sorted(Path(scratch).iterdir())}
    texts = [f"{name} {check['outputs'][name]:.1e}" for name in OUTPUTS]
    say(f"{engine.about} against torch, relative differences: {', '.join(texts)}")
    say(f"{PAIRS} tracked boxes: IoU {check['median_iou']:.6f} (median), {check['mean_iou']:.6f} (mean)")
    same = check["median_iou"] >= LEAST_IOU[precision] and check["mean_iou"] >= LEAST_MEAN[precision]
    if not same or max(check["outputs"].values()) > FEATURES[precision]:
        raise ChaseError(
            f"the {format} model does not compute what torch computes (limits: {FEATURES[precision]:g}, "
            f"median IoU {LEAST_IOU[precision]}): nothing is written"
        )
    numbers, arrays = constants_of(loaded.net)
    files[CONSTANTS] = save(arrays)
    files[EXPORTED] = pack_tracker(loaded.net, loaded.spec, loaded.about)
    about = {
        "format": format,
        "precision": precision,
        **(
            {"calibrated_on": calibrate or SYNTHETIC, "higher_precision": kept} if precision == "int8" else {}
        ),
        "size": settings.image_size,
        "preset": preset,
        "tracker": loaded.spec.to_data(),
        "public": loaded.public,
        "settings": settings_numbers(settings),
        "constants": numbers,
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


def _write(loaded: Checkpoint, size: int, format: str, precision: str, folder: Path) -> None:
    """The files of the model."""
    program = to_program(loaded.net, size)
    if format == "onnx":
        (folder / MODEL[format]).write_bytes(to_onnx(program))
        return
    import openvino

    openvino.save_model(to_openvino(program), folder / MODEL[format], compress_to_fp16=precision == "fp16")


def _quantized(
    loaded: Checkpoint, settings: TrackSettings, calibrate: str, folder: Path, say: Callable[[str], None]
) -> tuple[Engine, dict[str, Any], str]:
    """Writes a model of 8 bits; its engine, check, and what was left in higher precision: the neck, where the
    features would be beyond their limit."""
    (openvino,) = need("openvino")
    windows = windows_of(calibrate or SYNTHETIC, settings)
    others = windows[::4]
    patches = np.delete(windows, np.s_[::4], 0)
    say(f"calibrated on {len(patches)} search windows of {calibrate or SYNTHETIC}, checked on others")
    model = to_openvino(to_program(loaded.net, settings.image_size))
    for kept in ("", "neck"):
        openvino.save_model(
            quantized(model, patches, not kept), folder / MODEL["openvino"], compress_to_fp16=False
        )
        engine = OpenVINO(folder / MODEL["openvino"])
        check = compare(loaded, settings, engine, others)
        if check["outputs"]["features"] <= FEATURES["int8"]:
            break
    say(f"8 bits, {f'but for the {kept}' if kept else 'all layers'}")
    return engine, check, kept


@torch.no_grad()
def compare(
    loaded: Checkpoint, settings: TrackSettings, engine: Engine, seen: np.ndarray | None = None
) -> dict[str, Any]:
    """An engine against torch on synthetic video; outputs on the patches `seen` [n, size, size, 3], if given.

    Returns:
        outputs: largest relative difference of each output, over crops of one and of several patches;
        mean_iou, median_iou: of boxes found in one frame after learning the one before, by both.
    """
    network = Network(loaded.net, "cpu")
    frames = [SyntheticSequences("export")[k].frame(0) for k in range(PAIRS)]
    size = settings.image_size
    tiles = [np.resize(frame[:size, :size], (size, size, 3)) for frame in frames]
    chosen = (
        np.stack(tiles).astype(np.float32) if seen is None else seen[:: max(1, len(seen) // PAIRS)][:PAIRS]
    )
    patches = torch.from_numpy(chosen)
    worst = dict.fromkeys(OUTPUTS, 0.0)
    for part in (patches[:1], patches[1:4], patches[4:]):
        features, layers = network.layers.first(part)
        maps = *network.layers.frame(part)[1], *network.reference_maps(layers)
        expected = (features, *(m.permute(0, 2, 3, 1) for m in maps))
        for name, found, tensor in zip(OUTPUTS, engine.run(part.numpy()), expected, strict=True):
            wanted = tensor.numpy()
            difference = float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))
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
