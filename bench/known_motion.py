"""Where a trained tracker puts targets whose motion is known to a quarter pixel, by form of the settings.

    python bench/known_motion.py runs/A/best.safetensors [runs/B/best.safetensors ...]

Textured rectangles move over a textured scene, drawn at 4 times the resolution and averaged: no position is
rounded. Targets are so large that search windows are read from every n-th pixel, n = 1 to 4. Written are the
mean error of centres in x and y (found less true, px), its spread over videos, and the mean overlap.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import numpy as np

from chase_fast.data.boxes import iou
from chase_fast.data.textures import scene, texture
from chase_fast.track import Tracker
from chase_fast.track.patch import search_window

FINE = 4
FORMS = {
    "published": {"preset": "published"},
    "exact but the half pixel": {"half_pixel_offset": True},
    "exact but thinning": {"thinning_offset": True},
    "exact but the first box": {"first_box_offset": True},
    "exact": {},
}


def video(rng: np.random.Generator, side: float, frames: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Frames RGB uint8 and boxes [frames, 4] of a target of about side x side px."""
    width, height = (int(max(n, 3 * side)) for n in (320, 240))
    backdrop = scene(rng, FINE * height, FINE * width)
    w, h = np.rint(FINE * side * np.exp(rng.uniform(-0.2, 0.2) * np.array([1, -1]))).astype(int)
    look = texture(rng, max(w, h), 0.8, 2)[:h, :w]
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


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", nargs="+")
    parser.add_argument("--videos", type=int, default=6)
    parser.add_argument("--frames", type=int, default=40)
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
                    images, boxes = video(np.random.default_rng(k), side, args.frames)
                    assert search_window((0, 0), side * area, images[0].shape[:2], size).every == n
                    tracker.init(images[0], boxes[0])
                    found = np.array([tracker.update(image).box for image in images[1:]])
                    centre, true = (b[:, :2] + b[:, 2:] / 2 for b in (found, boxes[1:]))
                    errors.append((centre - true).mean(0))
                    overlaps.append(np.mean([iou(a, b) for a, b in zip(found, boxes[1:])]))
            mean, spread = np.mean(errors, 0), np.std(errors, 0, ddof=1)
            cells = [f"{m:+.2f} ± {s:.2f}" for m, s in zip(mean, spread)]
            print(f"| {n} | {name} | {' | '.join(cells)} | {np.mean(overlaps):.3f} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
