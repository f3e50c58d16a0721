"""The pixels of a window as an array of their own, by OpenCV: a view, padded only where it leaves the frame."""

from collections.abc import Sequence

import cv2
import numpy as np


def window_pixels(frame: np.ndarray, window: Sequence[int]) -> np.ndarray:
    """[height, width, 3]: the window of the frame, a view where it lies inside."""
    x0, y0, width, height = window
    rows, columns = frame.shape[:2]
    part = frame[max(y0, 0) : max(y0 + height, 0), max(x0, 0) : max(x0 + width, 0)]
    if part.size == 0:  # wholly outside: only repeated edge pixels
        y = np.arange(y0, y0 + height).clip(0, rows - 1)
        x = np.arange(x0, x0 + width).clip(0, columns - 1)
        part = frame[y[:, None], x]
    elif part.shape[:2] != (height, width):
        top, left = max(0, -y0), max(0, -x0)
        bottom, right = height - top - part.shape[0], width - left - part.shape[1]
        part = cv2.copyMakeBorder(part, top, bottom, left, right, cv2.BORDER_REPLICATE)
    return part
