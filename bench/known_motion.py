"""Where a trained tracker puts targets whose motion is known to a quarter pixel, by form of the settings.

    python bench/known_motion.py runs/A/best.safetensors [runs/B/best.safetensors ...]

Bright rectangles with a texture of waves move over a dim scene, drawn at 4 times the resolution and averaged:
no position is rounded. Targets are so large that search windows are read from every n-th pixel, n = 1 to 4.
A network has a bias of its own on every target, several times as large as what is looked for: each video is
also tracked turned by 180 degrees, which turns that bias and leaves a constant shift as it is. Written are
the mean error of centres in x and y (found less true, px) over both, its standard error over videos, and the
mean overlap.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import numpy as np

from chase_fast.data.boxes import iou
from chase_fast.data.textures import scene
from chase_fast.track import Tracker
from chase_fast.track.patch import search_window

FINE = 4
FORMS = {
    "published": {"preset": "published"},
    "published half pixel, else exact": {"half_pixel_offset": True},
    "exact": {},
}


def video(rng: np.random.Generator, side: float, frames: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Frames RGB uint8 and boxes [frames, 4] of a target of about side x side px."""
    width, height = (int(max(n, 3 * side)) for n in (320, 240))
    backdrop = scene(rng, FINE * height, FINE * width) // 2
    w, h = np.rint(FINE * side * np.exp(rng.uniform(-0.2, 0.2) * np.array([1, -1]))).astype(int)
    look = waves(rng, w, h)
    place = FINE * np.array([width, height]) // 2 - (w, h) // np.array(2)
    room = FINE * np.array([width, height]) - (w, h)
    step = np.rint(FINE * rng.uniform(1, 3, 2) * (1 + side / 100)).astype(int) | 1
    images, boxes = [], []
    for _ in range(frames):
        image = backdrop.copy()
        x, y = place
        image[y : y + h, x : x + w] = look
        images.append(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA))
        boxes.append(np.array([x, y, w, h]) / FINE)
        step = np.where((place + step < 0) | (place + step > room), -step, step)
        place = place + step
    return images, np.array(boxes)


def waves(rng: np.random.Generator, w: int, h: int) -> np.ndarray:
    """A texture [h, w, 3] uint8 of a dozen waves, a few across it, over a bright colour."""
    x, y = np.linspace(0, 2 * np.pi, w)[None, :, None], np.linspace(0, 2 * np.pi, h)[:, None, None]
    image = np.full((h, w, 3), rng.uniform(120, 200, 3))
    for _ in range(12):
        across, down = rng.uniform(-6, 6, 2)
        image = image + rng.normal(0, 18, 3) * np.sin(across * x + down * y + rng.uniform(0, 2 * np.pi))
    return image.clip(0, 255).astype(np.uint8)


def followed(tracker: Tracker, images: list[np.ndarray], boxes: np.ndarray) -> np.ndarray:
    """Boxes found in all frames but the first."""
    tracker.init(images[0], boxes[0])
    return np.array([tracker.update(np.ascontiguousarray(image)).box for image in images[1:]])


def turned(images: list[np.ndarray], boxes: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """A video turned by 180 degrees."""
    end = np.array(images[0].shape[1::-1])
    boxes = np.concatenate([end - boxes[:, :2] - boxes[:, 2:], boxes[:, 2:]], 1)
    return [np.ascontiguousarray(image[::-1, ::-1]) for image in images], boxes


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", nargs="+")
    parser.add_argument("--videos", type=int, default=12)
    parser.add_argument("--frames", type=int, default=10)
    args = parser.parse_args(argv)
    print("| n | form | error x | error y | overlap |\n|---|---|---|---|---|")
    for n in range(1, 5):
        for name, form in FORMS.items():
            errors, overlaps = [], []
            for checkpoint in args.checkpoint:
                tracker = Tracker.load(checkpoint, device="cpu", **form)
                size, area = tracker.settings.image_size, tracker.settings.search_area
                side = (0.9 if n == 1 else n + 0.35) * size / area
                for k in range(args.videos):
                    straight = video(np.random.default_rng(k), side, args.frames)
                    assert search_window((0, 0), side * area, straight[0][0].shape[:2], size).every == n
                    pair = []
                    for images, boxes in (straight, turned(*straight)):
                        found, true = followed(tracker, images, boxes), boxes[1:]
                        centre, middle = (b[:, :2] + b[:, 2:] / 2 for b in (found, true))
                        pair.append((centre - middle).mean(0))
                        overlaps.append(np.mean([iou(*both) for both in zip(found, true)]))
                    errors.append(np.mean(pair, 0))
            mean, spread = np.mean(errors, 0), np.std(errors, 0, ddof=1) / len(errors) ** 0.5
            cells = [f"{m:+.2f} ± {s:.2f}" for m, s in zip(mean, spread)]
            print(f"| {n} | {name} | {' | '.join(cells)} | {np.mean(overlaps):.3f} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
