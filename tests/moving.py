"""A textured rectangle moving over a coarse background: the video of the end-to-end goldens."""

import numpy as np


def video(n: int = 6, h: int = 240, w: int = 320, seed: int = 5) -> tuple[list[np.ndarray], np.ndarray]:
    """n frames uint8 [h, w, 3] and boxes [n, 4] of the 40 x 50 object (x, y, w, h)."""
    rng = np.random.RandomState(seed)
    background = np.kron(rng.randint(40, 200, (h // 8, w // 8, 3)), np.ones((8, 8, 1))).astype(np.float64)
    texture = np.kron(rng.randint(0, 256, (10, 8, 3)), np.ones((5, 5, 1)))
    frames, boxes = [], []
    for i in range(n):
        image = background + 3 * rng.standard_normal((h, w, 3))
        x, y = 120 + 7 * i, 90 + 4 * i
        image[y : y + 50, x : x + 40] = texture
        frames.append(np.clip(np.round(image), 0, 255).astype(np.uint8))
        boxes.append([x, y, 40, 50])
    return frames, np.array(boxes, float)
