"""A long run of the track command: three targets, frames that change their size, memory that must stay flat.

    python -m tests.soak                     20,000 frames of a folder, then of a video file
    python -m tests.soak --frames 2000 --source folder

The command runs as users run it, in a process of its own, and writes boxes and an annotated video. Its
memory is read whenever so many more lines of boxes are on disk: the anonymous part of it, since the
kernel may drop pages of libraries at any time, which would hide a leak. What the command must remember of
a frame, for result.json, is `KEPT`: per target a tuple of four floats, a score and references to them
(280 bytes), per frame its number, file name and times. Beyond that, memory may grow by `LEAK` per frame:
a small object of every target is more.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np

from chase_fast.checkpoint import pack_tracker
from chase_fast.nn.genotype import CHASE
from chase_fast.nn.spec import TrackerSpec

ROOT = Path(__file__).parents[1]
TARGETS = ((40, 50, 40, 50), (150, 120, 36, 30), (230, 40, 30, 44))  # x, y, w, h in the first frame
PERIOD = 240  # frames after which the pictures repeat
SIZES = ((320, 240), (296, 216), (320, 208))  # width, height, in turn
BLOCK = 80  # frames of one size
KEPT = 1000.0  # bytes per frame
LEAK = 256.0  # bytes per frame
SETTLED = 0.2  # of the frames: caches and sample memories fill up
_FOURCC = cv2.VideoWriter_fourcc(*"mp4v")


@dataclass(frozen=True)
class Growth:
    """Memory over the frames of one source.

    count: all frames. frames, megabytes: the samples. slope: bytes per frame, by least squares over the
    samples behind the first `SETTLED` of the frames. tracked: share of boxes that are not in state lost.
    """

    source: str
    count: int
    frames: tuple[int, ...]
    megabytes: tuple[float, ...]
    slope: float
    seconds: float
    tracked: float

    @property
    def flat(self) -> bool:
        return self.slope <= KEPT + LEAK

    def __str__(self) -> str:
        rows = [f"{f:8d} {m:10.1f} MB" for f, m in zip(self.frames, self.megabytes)]
        word = "flat" if self.flat else "GROWS"
        rows.append(
            f"{self.source}: {self.count} frames in {self.seconds:.0f} s "
            f"({self.count / self.seconds:.0f} fps), {self.tracked:.0%} of the boxes found; "
            f"{self.slope:.0f} bytes per frame of {KEPT:.0f} + {LEAK:.0f} allowed: {word}"
        )
        return "\n".join(rows)


def slope(frames: Sequence[int], megabytes: Sequence[float]) -> float:
    """Bytes per frame, by least squares, of the samples behind the first `SETTLED` of the frames."""
    x, y = np.array(frames, float), np.array(megabytes) * 2**20
    late = x >= SETTLED * x[-1]
    if late.sum() < 3:
        raise ValueError(
            f"{late.sum()} samples are too few for a slope: take more frames, or sample more often"
        )
    return float(np.polyfit(x[late], y[late], 1)[0])


def picture(number: int) -> np.ndarray:
    """BGR uint8 [240, 320, 3]: three textured targets that go round in circles over a coarse background."""
    rng = np.random.default_rng(5)
    image = np.kron(rng.integers(40, 200, (30, 40, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    angle = 2 * np.pi * (number % PERIOD) / PERIOD
    for k, (x, y, w, h) in enumerate(TARGETS):
        texture = np.random.default_rng(k).integers(0, 256, (h // 5 + 1, w // 4 + 1, 3), dtype=np.uint8)
        patch = np.kron(texture, np.ones((5, 4, 1), np.uint8))[:h, :w]
        left, top = x + round(20 * np.sin(angle)), y + round(20 * (1 - np.cos(angle)))
        image[top : top + h, left : left + w] = patch
    return image


def write_folder(folder: Path, frames: int) -> Path:
    """JPEG files of changing sizes; those of later periods are links to the first ones."""
    folder.mkdir()
    for number in range(frames):
        path = folder / f"{number:06d}.jpg"
        if number >= PERIOD:
            os.link(folder / f"{number % PERIOD:06d}.jpg", path)
            continue
        width, height = SIZES[number // BLOCK % len(SIZES)]
        cv2.imwrite(str(path), picture(number)[:height, :width])
    return folder


def write_video(path: Path, frames: int) -> Path:
    pictures = [picture(number) for number in range(min(frames, PERIOD))]
    out = cv2.VideoWriter(str(path), _FOURCC, 25, (320, 240))
    for number in range(frames):
        out.write(pictures[number % PERIOD])
    out.release()
    return path


SOURCES = {"folder": ("frames", write_folder), "video": ("video.mp4", write_video)}


def environment(home: Path) -> dict[str, str]:
    return os.environ | {
        "PYTHONPATH": str(ROOT),
        "CHASE_FAST_CACHE": str(home / "cache"),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }


def network(home: Path) -> Path:
    """A cell on ResNet-18 with random weights that looks at 64 x 64 pixels: small, learns as any other."""
    spec = TrackerSpec("prdimp", "resnet18", CHASE, channels=16, feature_size=4)
    path = home / "random.safetensors"
    path.write_bytes(pack_tracker(spec.build("random", 0), spec, {}))
    return path


def watched(process: subprocess.Popen, boxes: Path, frames: int, every: int) -> Iterator[tuple[int, float]]:
    """(lines of `boxes`, anonymous MB of the process) whenever `every` more lines are there; not when all
    `frames` are, where result.json is made."""
    count, position, due = 0, 0, every
    while process.poll() is None:
        if boxes.is_file():
            with boxes.open("rb") as file:
                file.seek(position)
                text = file.read()
            position, count = position + len(text), count + text.count(b"\n")
        if due <= count < frames:
            status = Path(f"/proc/{process.pid}/status").read_text()
            yield count, int(re.search(r"RssAnon:\s+(\d+) kB", status)[1]) / 1024
            due = count - count % every + every
        time.sleep(0.02)


def soak(
    source: str, frames: int, every: int, home: Path, checkpoint: Path, preset: str = "accurate"
) -> Growth:
    """Tracks `frames` frames of a source. home: where everything is written.

    Raises:
        RuntimeError: the command failed, or wrote another number of boxes.
    """
    name, write = SOURCES[source]
    path, out = write(home / name, frames), home / f"out_{source}"
    words = [str(path), *(w for box in TARGETS for w in ("--box", ",".join(map(str, box))))]
    words += ["--checkpoint", str(checkpoint), "--out", str(out), "--preset", preset]
    start = time.monotonic()
    with (home / "said").open("w+") as said:
        command = [sys.executable, "-m", "chase_fast.track", *words]
        process = subprocess.Popen(command, stdout=said, stderr=said, env=environment(home))
        try:
            samples = list(watched(process, out / "boxes_0.txt", frames, every))
        finally:
            process.kill()
            process.wait()
        said.seek(0)
        if process.returncode:
            raise RuntimeError(f"track ended with exit code {process.returncode}: {said.read()[-2000:]}")
    rows = [len((out / f"boxes_{k}.txt").read_text().splitlines()) for k in range(len(TARGETS))]
    about = json.loads((out / "result.json").read_text())
    states = [state for target in about["targets"] for state in target["state"]]
    if rows != [frames] * len(TARGETS) or len(about["frames"]) != frames:
        raise RuntimeError(f"track wrote {rows} boxes for {frames} frames")
    x, y = zip(*samples)
    tracked = 1 - states.count("lost") / len(states)
    return Growth(source, frames, x, y, slope(x, y), time.monotonic() - start, tracked)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 1 if memory grows."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=20_000)
    parser.add_argument("--source", choices=[*SOURCES, "both"], default="both")
    parser.add_argument("--every", type=int, default=500, help="frames between two samples")
    parser.add_argument("--json", type=Path, help="file for the samples and slopes")
    arguments = parser.parse_args(argv)
    found = []
    with tempfile.TemporaryDirectory(prefix="chase_fast_soak_") as name:
        home = Path(name)
        checkpoint = network(home)
        for source in SOURCES if arguments.source == "both" else (arguments.source,):
            found.append(soak(source, arguments.frames, arguments.every, home, checkpoint))
            print(found[-1], flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(g) | {"flat": g.flat} for g in found], indent=1) + "\n")
    return 0 if all(growth.flat for growth in found) else 1


if __name__ == "__main__":
    sys.exit(main())
