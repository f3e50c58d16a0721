"""Part of a JPEG -> RGB, by csrc/cpu/jpeg.cpp: the pixels of a whole decoding. Not an op.

torch and the native module are imported by the first call: datasets are opened without them.
"""

import numpy as np


def jpeg_size(data: bytes) -> tuple[int, int] | None:
    """(height, width) of a JPEG that `jpeg_part` decodes: baseline, one scan, grey or YCbCr 4:4:4, 4:2:2 or
    4:2:0, at least 16 x 16. None for other data."""
    from ._dispatch import native

    try:
        height, width = native().cpu_jpeg_size(data)
    except ImportError:  # not built: whole images have the same pixels
        return None
    return (height, width) if height else None


def jpeg_part(data: bytes, x0: int, y0: int, x1: int, y1: int) -> np.ndarray | None:
    """RGB uint8 [y1 - y0, x1 - x0, 3]: these columns and rows, bit for bit as libjpeg-turbo decodes the whole
    image; None if the data are damaged. Blocks after row y1 are not looked at, those elsewhere outside only
    skipped over. Releases the GIL.

    Raises:
        ValueError: the rectangle is empty or leaves the image.
    """
    import torch

    from ._dispatch import native

    out = torch.empty((y1 - y0, x1 - x0, 3), dtype=torch.uint8)
    return out.numpy() if native().cpu_jpeg_part(data, x0, y0, out) else None
