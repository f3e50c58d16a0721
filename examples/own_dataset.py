"""Your own annotated frames: python examples/own_dataset.py

A dataset is a folder per sequence: its frames, and groundtruth.txt with a box x,y,w,h per frame in pixels
(NaN where the target is absent). `folder:PATH:0-80%` names a share of it, everywhere where chase_fast takes
data.
"""

from pathlib import Path

import cv2
import numpy as np

import chase_fast
from chase_fast.doctor.__main__ import main as doctor

OUT = Path("runs/example_data")

if __name__ == "__main__":
    # ten lines that write a dataset; yours come from wherever your frames are
    rng = np.random.default_rng(0)
    for number in range(5):
        folder = OUT / "data" / f"sequence_{number}"
        folder.mkdir(parents=True, exist_ok=True)
        scene = cv2.resize(rng.integers(0, 256, (15, 20, 3), np.uint8), (320, 240))
        boxes = [(40 + 5 * i, 60 + 10 * number, 50, 40) for i in range(30)]
        for i, (x, y, w, h) in enumerate(boxes):
            frame = scene.copy()
            frame[y : y + h, x : x + w] = 255 - frame[y : y + h, x : x + w]
            cv2.imwrite(str(folder / f"{i:04d}.png"), frame)
        (folder / "groundtruth.txt").write_text("".join(f"{x},{y},{w},{h}\n" for x, y, w, h in boxes))

    data = f"folder:{OUT / 'data'}"
    doctor(["--data", data])  # decodes every image, compares boxes with frames
    run = chase_fast.train(
        "demo",
        OUT / "tracker",
        resume=(OUT / "tracker").exists(),
        train=f"{data}:0-60%",
        val=f"{data}:60-80%",
        epochs=1,
        iterations=10,
    )
    board = chase_fast.evaluate(f"{data}:80-100%", run.checkpoint, OUT / "evaluation", preset="fast")
    for protocol, trackers in board.scores.items():
        for name, scores in trackers.items():
            print(
                protocol, name, {metric: round(float(value), 3) for metric, value in scores.metrics.items()}
            )
