"""What is visible of a synthetic target: inside the image and not behind an occluder.

Coordinates are pixels with (0, 0) at the corner of the image, boxes are x0, y0, x1, y1. Outlines are polygons
[..., 2, N]; a target is the union of the outlines of its parts.
"""

from collections.abc import Sequence as Many

import cv2
import numpy as np

FINE = 2  # masks have this many pixels per image pixel and axis
_FRACTION = 4  # bits behind the point of a mask coordinate


def bounds_inside(outlines: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Boxes [T, 4] of the parts of outlines [T, P, 2, N] that lie inside an image (width, height); where
    there is none, x0 > x1.

    The extreme points of such a part lie on the edges of the outlines, as far as these are inside, or are
    corners of the image.
    """
    limit = np.array(size, float)[:, None]
    start, way = outlines, np.roll(outlines, -1, axis=-1) - outlines  # edges
    with np.errstate(divide="ignore", invalid="ignore"):
        sides = np.stack([-start / way, (limit - start) / way])  # where an edge crosses the image's sides
    still = way == 0
    beside = still & ((start < 0) | (start > limit))
    enter = np.where(still, np.where(beside, 2.0, 0.0), sides.min(0)).max(2).clip(0, None)
    leave = np.where(still, 1.0, sides.max(0)).min(2).clip(None, 1)
    ends = np.stack([start + way * at[:, :, None] for at in (enter, leave)])  # [2, T, P, 2, N]
    inside = (enter <= leave)[:, :, None]
    low = np.where(inside, ends, np.inf).min((0, 2, 4))  # [T, 2]
    high = np.where(inside, ends, -np.inf).max((0, 2, 4))
    for corner in ((x, y) for x in (0, size[0]) for y in (0, size[1])):
        at = np.array(corner, float)[:, None]
        about = (outlines.min(-1, keepdims=True) <= at) & (at <= outlines.max(-1, keepdims=True))
        for t, part in np.argwhere(about.all((2, 3))):
            if _holds(outlines[t, part], corner):
                low[t], high[t] = np.minimum(low[t], corner), np.maximum(high[t], corner)
    return np.concatenate([low.clip(0, None), high.clip(None, size)], 1)


def _holds(outline: np.ndarray, point: tuple[int, int]) -> bool:
    """Whether a point is inside an outline [2, N]."""
    return cv2.pointPolygonTest(np.ascontiguousarray(outline.T, np.float32), point, False) >= 0


def behind(
    box: np.ndarray, outlines: np.ndarray, hiding: Many[np.ndarray], size: tuple[int, int]
) -> tuple[np.ndarray, float]:
    """What occluders leave of the box of outlines [P, 2, N] inside an image, and the visible share of the
    whole target. Sides that are hidden come from a mask, to about 1 / FINE pixel.

    Args:
        box: of `bounds_inside`.
        hiding: outlines [2, N] of occluders.
        size: of the image, (width, height).
    """
    x, y = (int(v * FINE // 1) for v in outlines.min((0, 2)))  # the mask is that of the whole target
    right, bottom = (int(v * FINE // 1) + 2 for v in outlines.max((0, 2)))
    mask = np.zeros((bottom - y, right - x), np.uint8)
    _fill(mask, outlines, (x, y), 1)
    whole = max(cv2.countNonZero(mask), 1)
    left, top = max(x, 0), max(y, 0)
    seen = mask[top - y : max(size[1] * FINE - y, 0), left - x : max(size[0] * FINE - x, 0)]
    if not hiding or not seen.size:
        return box, (cv2.countNonZero(seen) if seen.size else 0) / whole
    before = _bounds(seen)
    _fill(mask, np.stack(hiding), (x, y), 0)
    after = _bounds(seen)
    edges = (after + (left, top, left, top)) / FINE
    return np.where(after != before, edges, box), cv2.countNonZero(seen) / whole


def _fill(mask: np.ndarray, outlines: np.ndarray, corner: tuple[int, int], value: int) -> None:
    """Fills outlines [P, 2, N], in image pixels, of a mask that begins at `corner`."""
    points = (outlines.transpose(0, 2, 1) * FINE - np.add(corner, 0.5)) * 2**_FRACTION
    for polygon in np.rint(points).astype(np.int32):
        cv2.fillPoly(mask, [polygon], value, shift=_FRACTION)


def _bounds(mask: np.ndarray) -> np.ndarray:
    """Box of what is not 0; empty if all is."""
    x, y, w, h = cv2.boundingRect(mask)
    return np.array([x, y, x + w, y + h])
