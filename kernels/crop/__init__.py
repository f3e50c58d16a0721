"""crop: cut a window out of a frame, resize it bilinearly to a square, normalise it.

    out[c, i, j] = (clamp(gain * bilinear(frame, window)[i, j, c] / 255, 0, 1) - mean[c]) / std[c]

frame   [H, W, 3] uint8 (decoded image) or float32/float64 with values 0..255; RGB
window  (x0, y0, width, height), frame pixels; outside the frame its nearest edge pixel repeats. Integers, or
        floats where the frame is a reduced one and a window's border lies between its pixels
size    side of the square output in pixels
gain    brightness factor, applied before the clamp
out     [3, size, size], channels last in memory; float32 for uint8 frames, else the frame's dtype

Bilinear is OpenCV's INTER_LINEAR: half-pixel centres, no antialiasing; on uint8 its fixed-point arithmetic
(11-bit weights, result rounded to uint8), bit for bit. Which window a box asks for is another matter: see
`window.py`. A window of floats samples at the same half-pixel centres; the pixels that it touches, whole ones
from floor(x0) to ceil(x0 + width), are what it may read.

Backends: `reference` (plain torch, any device) and `cpu` (csrc/cpu/crop.cpp: one thread, releases the GIL).
`crop_into` writes a crop on the CPU into an array that is there already; patches for tracking are read on the
device by `crop_windows`.
Not differentiable: a crop feeds a network, nothing is learned through it, so asking for its gradient raises.
"""

from collections.abc import Sequence

import torch

from chase_fast.lazy import front_door

from .. import _dispatch
from .._autograd import forward_only
from . import native, reference
from .window import Window, crop_window

front_door(__name__, call="crop")
__all__ = [
    "CAN_RUN",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "Window",
    "crop",
    "crop_into",
    "crop_window",
]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

CAN_RUN = {
    "reference": _dispatch.always,
    "cpu": _dispatch.native_cpu(torch.uint8, torch.float32, torch.float64),
}
_RUN = {"reference": reference.crop, "cpu": native.crop}


def crop(
    frame: torch.Tensor,
    window: Sequence[float],
    size: int,
    gain: float = 1.0,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    backend: str | None = None,
) -> torch.Tensor:
    """Normalised crop [3, size, size]; see the module text for the contract.

    Raises:
        ValueError: the frame is not [H, W, 3] uint8/float32/float64, or the window or size is not positive.
        RuntimeError: the frame requires a gradient.
    """
    if frame.ndim != 3 or frame.shape[2] != 3 or 0 in frame.shape:
        raise ValueError(f"crop: frame must be [H, W, 3], got {list(frame.shape)}")
    if frame.dtype not in (torch.uint8, torch.float32, torch.float64):
        raise ValueError(f"crop: frame must be uint8, float32 or float64, got {frame.dtype}")
    if len(window) != 4 or not (window[2] > 0 and window[3] > 0) or size < 1:
        raise ValueError(f"crop: window {tuple(window)} and size {size} must be positive")
    args = frame, [float(v) for v in window], int(size), float(gain), list(mean), list(std)
    if torch.compiler.is_compiling():
        return _crop(*args, backend or "")
    if frame.requires_grad:
        raise RuntimeError("crop is not differentiable: detach the frame before cropping it")
    # without the op's dispatch: its first call imports seconds of torch, in every loader process
    return _run(*args, backend)


def crop_into(
    out: torch.Tensor,
    frame: torch.Tensor,
    window: Sequence[float],
    gain: float = 1.0,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
) -> None:
    """`crop` on the CPU, written into `out` [size, size, 3], contiguous."""
    if _dispatch.resolve("crop", CAN_RUN, frame) == "cpu":
        native.crop_into(out, frame, window, gain, mean, std)
    else:
        out.copy_(crop(frame, window, out.shape[0], gain, mean, std).permute(1, 2, 0))


def _run(frame, window, size, gain, mean, std, backend):
    return _RUN[_dispatch.resolve("crop", CAN_RUN, frame, backend)](frame, window, size, gain, mean, std)


@torch.library.custom_op("chase_fast::crop", mutates_args=())
def _crop(
    frame: torch.Tensor,
    window: list[float],
    size: int,
    gain: float,
    mean: list[float],
    std: list[float],
    backend: str,
) -> torch.Tensor:
    return _run(frame, window, size, gain, mean, std, backend or None)


@_crop.register_fake
def _(frame, window, size, gain, mean, std, backend):
    dtype = torch.float32 if frame.dtype == torch.uint8 else frame.dtype
    return frame.new_empty((size, size, 3), dtype=dtype).permute(2, 0, 1)


forward_only(_crop)
