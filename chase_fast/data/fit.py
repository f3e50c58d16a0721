"""Boxes against the frames they are annotated on: what is wrong with all boxes of a sequence at once.

Boxes that leave their frame in part are normal, and so are a few that lie outside of it.
"""

import numpy as np

from chase_fast.data.annotations import has_pixel

_MANY = 0.25  # share of boxes that lie mostly outside their frames from which on something is wrong with all
_ALL = 0.98
_FEW = 10  # boxes from which on their motion says something
_MOVES = 3.0  # px, standard deviation
_FOLLOWS = 8.0  # times as much as the size changes the second corner moves


def mismatch(boxes: np.ndarray, sizes: np.ndarray) -> str | None:
    """What boxes look like that do not fit their frames, or None.

    Args:
        boxes: [T, 4] x, y, w, h with a size; sizes: [T, 2] width and height of their frames, px.
    """
    if not len(boxes):
        return None
    if _normalised(boxes, sizes):
        return "the boxes look normalised (0 to 1): multiply them by the width and height of the frames"
    beyond = _mostly_outside(boxes, sizes)
    many = beyond.mean() >= _MANY
    if _corners(boxes, sizes, many):
        return "the boxes look like x1, y1, x2, y2: the third and fourth number must be width and height"
    if not many:
        return None
    if _fit(boxes[:, [1, 0, 3, 2]], sizes):
        return "the boxes look as if x and y were swapped, or drawn on frames that were turned by 90 degrees"
    return _too_far(boxes, sizes)


def _too_far(boxes: np.ndarray, sizes: np.ndarray) -> str:
    lost = np.count_nonzero(~has_pixel(boxes, *sizes.T))
    reach = np.quantile((boxes[:, :2] + boxes[:, 2:]) / sizes, 0.99, axis=0)
    text = f"{lost} of {len(boxes)} boxes have no pixel in their frames"
    if (reach > 1.05).all():
        across, down = reach
        return (
            f"{text}; they reach to {across:.2g} times the width and {down:.2g} times the height of frames:"
            " boxes of larger frames (resized afterwards?) or of another video"
        )
    return f"{text}, or little of them: boxes of another video?"


def _normalised(boxes: np.ndarray, sizes: np.ndarray) -> bool:
    return bool(sizes.min() > 8 and (boxes[:, :2] + boxes[:, 2:]).max() <= 1.5 and boxes[:, :2].min() >= -0.5)


def _mostly_outside(boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """[T] bool: less than half of the box's area lies in its frame."""
    start = np.clip(boxes[:, :2], 0, sizes)
    end = np.clip(boxes[:, :2] + boxes[:, 2:], 0, sizes)
    return (end - start).prod(1) < 0.5 * boxes[:, 2:].prod(1)


def _fit(boxes: np.ndarray, sizes: np.ndarray) -> bool:
    """Nearly all boxes end inside their frames."""
    return bool(((boxes[:, :2] + boxes[:, 2:]) <= sizes + 1).all(1).mean() >= _ALL)


def _corners(boxes: np.ndarray, sizes: np.ndarray, many: bool) -> bool:
    """Read as corners the boxes fit; read as sizes they do not, or their sizes follow their positions."""
    first, second = boxes[:, :2], boxes[:, 2:]
    if not ((second > first).all(1).mean() >= _ALL and (second <= sizes + 1).all(1).mean() >= _ALL):
        return False
    if many:
        return True
    follow = (second - first).std(0) <= second.std(0) / _FOLLOWS
    return len(boxes) >= _FEW and bool((first.std(0) >= _MOVES).all() and follow.all())
