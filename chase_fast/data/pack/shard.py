"""One shard: its frames read, cut into levels, written with a checksum; whole or not at all."""

import hashlib
import io
import json
import os
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np

from chase_fast.data.decode import simplejpeg
from chase_fast.data.pack.plan import Options, Table, unpacked
from chase_fast.data.packed import ENTRY, shard_file
from chase_fast.data.reach import Level, levels
from chase_fast.data.sequences import BrokenFrame, problem_of
from chase_fast.data.sources import Source
from chase_fast.errors import ChaseError
from chase_fast.fields import load_arrays, load_object
from chase_fast.files import cannot_write, temporary, write_atomic

KEPT = "finished shards are kept; free space and run the same command again"


def pixels_of(frame: np.ndarray, level: Level) -> np.ndarray:
    """RGB uint8 [h, w, 3] of a level of a frame; reduced by averaging areas."""
    r = level.rectangle
    part = frame[r.y0 : r.y0 + r.height, r.x0 : r.x0 + r.width]
    if (level.height, level.width) != (r.height, r.width):
        part = cv2.resize(part, (level.width, level.height), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(part)


def encode(pixels: np.ndarray, options: Options) -> bytes:
    if options.format == "raw":
        return pixels.tobytes()
    if simplejpeg is not None:
        return simplejpeg.encode_jpeg(pixels, options.quality, "RGB", "420", fastdct=False)
    flags = [cv2.IMWRITE_JPEG_QUALITY, options.quality]
    return cv2.imencode(".jpg", pixels[..., ::-1], flags)[1].tobytes()


def pack_frame(frame: np.ndarray, box: np.ndarray, options: Options) -> tuple[np.ndarray, list[bytes]]:
    """One frame -> its entry (`start` counts from the frame's first byte) and the bytes of its levels."""
    entry, parts, start = np.zeros(1, ENTRY), [], 0
    entry["hw"] = frame.shape[:2]
    for name, level in zip(("near", "far"), levels(box, frame.shape[:2], options.limits, options.detail)):
        if level is None:
            continue
        parts.append(encode(pixels_of(frame, level), options))
        r = level.rectangle
        values = ((r.x0, r.y0, r.width, r.height), (level.height, level.width), start, len(parts[-1]))
        entry[name] = np.array([values], entry[name].dtype)
        start += len(parts[-1])
    return entry, parts


def record_file(folder: Path, number: int) -> Path:
    return shard_file(folder, number).with_suffix(".npz")


def read_record(folder: Path, number: int) -> dict | None:
    """What is known of a finished shard: entries, bytes, digest, problems. None where it is not finished."""
    file = record_file(folder, number)
    try:
        arrays = load_arrays(file, {"about": "u", "entries": "u"})
        about = load_object(arrays["about"].tobytes(), str(file))
        entries = arrays["entries"].view(ENTRY).reshape(-1)
        record = {"bytes": about.integer("bytes"), "digest": about.text("digest"), "entries": entries}
        record["problems"] = [problem_of(p) for p in about.many("problems")]
        there = shard_file(folder, number).stat().st_size
    except (OSError, ValueError, ChaseError):
        return None
    return record if there == record["bytes"] else None


def make_shard(folder: Path, number: int, frames: np.ndarray, source: Source, table: Table, options: Options):
    """Writes shard `number` of these frames (places in the table): its pixels, then its record.

    Raises:
        BrokenFrame: a frame cannot be decoded (with skip_bad it is left out and recorded).
        ChaseError: it cannot be written.
    """
    entries, problems, digest, size = [], [], hashlib.sha256(), 0
    path = shard_file(folder, number)
    unfinished, last, frame = temporary(path), None, None
    try:
        with open(unfinished, "wb") as file:
            for flat in frames.tolist():
                k, i = table.place(flat)
                sequence = unpacked(source, k)
                path_of = getattr(sequence, "path", None)
                this = path_of(i) if path_of else (k, i)
                if this != last:  # several annotations of one still image follow one another
                    try:
                        last, frame = this, sequence.frame(i)
                    except BrokenFrame as e:
                        if not options.skip_bad:
                            raise
                        problems.append(e.problem)
                        last = None
                        continue
                assert frame is not None
                entry, parts = pack_frame(frame, table.boxes[flat], options)
                entry["flat"], entry["shard"] = flat, number
                for name in ("near", "far"):
                    entry[name]["start"] += size
                entries.append(entry)
                for part in parts:
                    file.write(part)
                    digest.update(part)
                    size += len(part)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except OSError as e:
        raise cannot_write(folder, e, KEPT) from None
    finally:
        unfinished.unlink(missing_ok=True)
    about = {"bytes": size, "digest": digest.hexdigest(), "problems": [asdict(p) for p in problems]}
    buffer = io.BytesIO()
    np.savez(
        buffer,
        about=np.frombuffer(json.dumps(about).encode(), np.uint8),
        entries=(np.concatenate(entries) if entries else np.zeros(0, ENTRY)).view(np.uint8),
    )
    write_atomic(record_file(folder, number), buffer.getvalue(), KEPT)
