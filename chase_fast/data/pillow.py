"""Pictures of Pillow (PIL) as arrays of their own numbers."""

import struct

import cv2
import numpy as np
from PIL import Image

# what Pillow's readers raise for damaged files
UNREADABLE = (
    OSError, ValueError, TypeError, KeyError, IndexError, EOFError, OverflowError, ZeroDivisionError,
    RuntimeError, MemoryError, SyntaxError, struct.error, Image.DecompressionBombError,
)  # fmt: skip
_AS_THEY_ARE = ("1", "L", "RGB", "I", "F", "I;16", "I;16B", "I;16L", "I;16N")
_PREMULTIPLIED = {"La": "LA", "RGBa": "RGBA"}


def samples(image: Image.Image) -> np.ndarray:
    """A picture of any mode -> [H, W] or RGB [H, W, 3] of its own type; see `pixels.to_rgb8`.

    Alpha is dropped, palettes and other colour spaces become RGB uint8. Raises ValueError for a mode that
    Pillow itself cannot convert.
    """
    if image.mode in _PREMULTIPLIED:
        image = image.convert(_PREMULTIPLIED[image.mode])
    if image.mode in _AS_THEY_ARE:
        return np.asarray(image)
    if image.mode == "LA":
        return np.asarray(image)[..., 0]
    if image.mode in ("RGBA", "RGBX"):
        return np.asarray(image)[..., :3]
    if image.mode == "CMYK":
        return rgb_of_ink(np.asarray(image))
    if image.mode == "LAB":  # Pillow alone cannot; L of 0..255, a and b about 128 are OpenCV's too
        return cv2.cvtColor(np.asarray(image), cv2.COLOR_LAB2RGB)
    return np.asarray(image.convert("RGB"))


def rgb_of_ink(ink: np.ndarray) -> np.ndarray:
    """Cyan, magenta, yellow, black [H, W, 4], 0 = no ink, uint8 or uint16 -> RGB of that type."""
    full = np.iinfo(ink.dtype).max
    paper = full - ink.astype(np.float64)
    return np.rint(paper[..., :3] * paper[..., 3:] / full).astype(ink.dtype)
