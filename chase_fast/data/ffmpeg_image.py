"""Pictures that only FFmpeg (PyAV) reads here."""

import io

import av
import numpy as np

_FLOATS = {"f16le": np.dtype("<f2"), "f32le": np.dtype("<f4")}


def read(data: bytes) -> np.ndarray | None:
    """The picture as [H, W] or RGB [H, W, 3] of floats or 16 bits; None where FFmpeg cannot read it."""
    try:
        with av.open(io.BytesIO(data)) as container:
            frame = next(container.decode(video=0))
            form = frame.format.name
            if form[-5:] in _FLOATS:
                return _floats(frame, _FLOATS[form[-5:]])
            return frame.to_ndarray(format="gray16le" if form.startswith("gray") else "rgb48le")
    except (av.FFmpegError, StopIteration, ValueError):
        return None


def _floats(frame: av.VideoFrame, kind: np.dtype) -> np.ndarray:
    """Planes of floats: grey, or green, blue, red and perhaps alpha."""
    planes = []
    for plane in frame.planes[:3]:
        line = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
        planes.append(line[:, : plane.width * kind.itemsize].copy().view(kind))
    return planes[0] if len(planes) < 3 else np.stack([planes[2], planes[0], planes[1]], -1)
