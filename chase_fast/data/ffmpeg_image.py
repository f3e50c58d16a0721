"""Pictures that only FFmpeg (PyAV) reads here: EXR, and JPEGs of 12 bits or without loss."""

import io
import struct

import av
import numpy as np

_FLOATS: dict[str, np.dtype] = {"f16le": np.dtype("<f2"), "f32le": np.dtype("<f4")}
# lines per block of an EXR file, by compression: none, RLE, ZIPS, ZIP, PIZ, PXR24, B44, B44A, DWAA, DWAB
_LINES = (1, 1, 1, 16, 32, 16, 32, 32, 32, 256)
_TILED, _PARTS = 0x200, 0x1000


def read(data: bytes) -> np.ndarray | None:
    """The picture as [H, W] or RGB [H, W, 3] of floats or 16 bits; None where FFmpeg cannot read it."""
    try:
        with av.open(io.BytesIO(data), "r") as container:
            container.streams.video[0].codec_context.options = {"err_detect": "explode"}
            frame = next(container.decode(video=0))
            form = frame.format.name
            if form[-5:] in _FLOATS:
                return _floats(frame, _FLOATS[form[-5:]]) if exr_is_whole(data) else None
            return frame.to_ndarray(format="gray16le" if form.startswith("gray") else "rgb48le")
    except (av.FFmpegError, StopIteration, IndexError, ValueError):
        return None


def _floats(frame: av.VideoFrame, kind: np.dtype) -> np.ndarray:
    """Planes of floats: grey, or green, blue, red and perhaps alpha."""
    planes = []
    for plane in frame.planes[:3]:
        line = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
        planes.append(line[:, : plane.width * kind.itemsize].copy().view(kind))
    return planes[0] if len(planes) < 3 else np.stack([planes[2], planes[0], planes[1]], -1)


def exr_is_whole(data: bytes) -> bool:
    """Whether all blocks of an EXR file are there: FFmpeg leaves lines that are missing black without a word.

    Files of tiles or of several parts are not looked into.
    """
    try:
        (flags,) = struct.unpack_from("<I", data, 4)
        at, attributes = 8, {}
        while data[at : at + 1] != b"\0":
            name, form, rest = data[at : at + 600].split(b"\0", 2)
            start = at + len(name) + len(form) + 6
            (size,) = struct.unpack_from("<I", rest)
            attributes[name] = data[start : start + size]
            at = start + size
        if flags & (_TILED | _PARTS):
            return True
        _, top, _, bottom = struct.unpack("<4i", attributes[b"dataWindow"])
        count = -(-(bottom - top + 1) // _LINES[attributes[b"compression"][0]])
        offsets = struct.unpack_from(f"<{count}Q", data, at + 1)
        return all(o + 8 + struct.unpack_from("<I", data, o + 4)[0] <= len(data) for o in offsets)
    except (struct.error, ValueError, KeyError, IndexError, OverflowError):
        return False
