"""K patches of one frame, resized bilinearly, not normalised. Everything that changes from frame to frame is
a tensor on the device, so that a CUDA graph can hold it.

    thin = frame[first_row::every, first_column::every]
    out[k, i, j, c] = bilinear(thin, window k)[i, j, c],   0..255

pixels   [N >= H W 3] uint8 or float: a buffer that begins with a frame [H, W, 3] in rows; frames of several
         sizes share one buffer
windows  [K, 9] integers, columns COLUMNS: size of the frame, `every` and `first` pixel of the thinned-out
         frame, and the window x0, y0, width, height in it; beyond its border the nearest pixel repeats
out      [K, size, size, 3], contiguous; float32 for uint8, else the dtype of pixels

Bilinear is OpenCV's INTER_LINEAR on floats: half-pixel centres, positions in float64 (in float32 a pixel
would be off by up to 0.006 grey levels). uint8 pixels are taken as floats, not in its fixed point: see
`crop`, which cuts one normalised window on the CPU. Not differentiable.
Source: the search patches of PrDiMP, as chase_fast/track/patch.py takes them on the host.
"""

import torch
from torch import Tensor

from chase_fast.lazy import front_door

from .. import _dispatch
from .._autograd import forward_only
from . import reference

COLUMNS = ("height", "width", "every", "first_row", "first_column", "x0", "y0", "columns", "rows")
front_door(__name__, call="crop_windows")
CAN_RUN = {
    "reference": _dispatch.always,
    "triton": _dispatch.triton(torch.uint8, torch.float32),
}
_DTYPES = (torch.uint8, torch.float32, torch.float64)


def crop_windows(pixels: Tensor, windows: Tensor, size: int, backend: str | None = None) -> Tensor:
    """Patches [K, size, size, 3]; shapes: see the module text. Values in `windows` are not checked: a frame
    larger than the buffer, or a window without pixels, reads elsewhere in memory.

    Args:
        size: side of the patches in pixels.
        backend: force `reference | triton`.

    Raises:
        ValueError: wrong shapes or dtypes, no size.
        RuntimeError: pixels require a gradient, or the forced backend cannot run.
    """
    if pixels.dim() != 1 or pixels.dtype not in _DTYPES:
        raise ValueError(
            f"crop_windows: pixels must be a buffer [N] of uint8 or floats, not {pixels.dtype} "
            f"{list(pixels.shape)}"
        )
    if windows.dim() != 2 or windows.shape[1] != len(COLUMNS) or windows.dtype != torch.int64:
        raise ValueError(
            f"crop_windows: windows must be int64 [K, {len(COLUMNS)}], not {windows.dtype} "
            f"{list(windows.shape)}"
        )
    if windows.device != pixels.device or size < 1:
        raise ValueError("crop_windows: pixels and windows must be on one device, and size positive")
    backend = _dispatch.resolve("crop_windows", CAN_RUN, pixels, backend)
    return _crop_windows(pixels, windows, size, backend)


@torch.library.custom_op("chase_fast::crop_windows", mutates_args=())
def _crop_windows(pixels: Tensor, windows: Tensor, size: int, backend: str) -> Tensor:
    if backend == "reference":
        return reference.crop_windows(pixels, windows, size)
    return _dispatch.implementation("crop_windows", backend).forward(pixels, windows, size)


@_crop_windows.register_fake
def _(pixels, windows, size, backend):
    dtype = torch.float32 if pixels.dtype == torch.uint8 else pixels.dtype
    return pixels.new_empty((windows.shape[0], size, size, 3), dtype=dtype)


forward_only(_crop_windows)
