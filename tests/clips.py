"""Video files for tests, made with PyAV: every frame carries its number as blocks that survive any codec.

The upper half of a frame holds the number as eight black or white blocks, the lower half is red at the left
and blue at the right: number, orientation and colour can be read back.
"""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np

WIDTH, HEIGHT = 96, 64
RED, BLUE = (200, 40, 40), (40, 60, 190)


def picture(number: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """RGB uint8 [height, width, 3] with its number (0..255)."""
    image = np.zeros((height, width, 3), np.uint8)
    edges = np.linspace(0, width, 9).astype(int)
    for bit, (left, right) in enumerate(pairwise(edges)):
        image[: height // 2, left:right] = 235 if number >> bit & 1 else 20
    image[height // 2 :, : width // 2] = RED
    image[height // 2 :, width // 2 :] = BLUE
    return image


def number_in(image: np.ndarray) -> int:
    """The number of a decoded frame, of any size.

    Raises:
        AssertionError: a block is neither black nor white: the picture is damaged or another one.
    """
    height, width = image.shape[:2]
    edges = np.linspace(0, width, 9).astype(int)
    number = 0
    for bit, (left, right) in enumerate(pairwise(edges)):
        inner = image[height // 8 : height // 2 - height // 8, left + 2 : right - 2].mean()
        assert inner < 90 or inner > 160, f"block {bit} has the grey level {inner:.0f}"
        number |= int(inner > 160) << bit
    return number


def pictures(n: int, width: int = WIDTH, height: int = HEIGHT) -> list[np.ndarray]:
    return [picture(i, width, height) for i in range(n)]


def encode(
    path: Path,
    images: Iterable[np.ndarray],
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    rate: Fraction | int = 25,
    times: Sequence[Fraction | float] | None = None,
    options: dict[str, str] | None = None,
    muxer: dict[str, str] | None = None,
    form: str | None = None,
    prepare=lambda stream: None,
) -> Path:
    """A video file. times: seconds of the frames (variable rate); prepare: called with the new stream."""
    images = list(images)
    height, width = images[0].shape[:2]
    with av.open(str(path), "w", format=form, options=muxer or {}) as out:
        stream = out.add_stream(codec, rate=rate, options=options or {})
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        stream.time_base = Fraction(1, 90000) if times else 1 / Fraction(rate)
        stream.codec_context.time_base = stream.time_base
        prepare(stream)
        for i, image in enumerate(images):
            if image.ndim == 2:
                frame = av.VideoFrame.from_ndarray(
                    image, format="gray" if image.dtype == np.uint8 else "gray16le"
                )
            else:
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = round(Fraction(times[i]) / stream.codec_context.time_base) if times else i
            frame.time_base = stream.codec_context.time_base
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def copy(
    source: Path, path: Path, start: float = 0, form: str | None = None, muxer: dict[str, str] | None = None
) -> Path:
    """Another container by stream copy, from the key frame before `start` on; in mp4 an edit list hides what
    lies before `start`."""
    with av.open(str(source)) as read, av.open(str(path), "w", format=form, options=muxer or {}) as out:
        stream = read.streams.video[0]
        copied = out.add_stream_from_template(stream)
        offset = round(start / stream.time_base)
        if start:
            read.seek(offset, stream=stream)
        for packet in read.demux(stream):
            if packet.dts is None:
                continue
            packet.pts -= offset
            packet.dts -= offset
            packet.stream = copied
            out.mux(packet)
    return path


def damage(path: Path, start: float, stop: float, value: int = 0) -> Path:
    """Overwrites a part of a file (shares of its size)."""
    data = bytearray(path.read_bytes())
    a, b = round(start * len(data)), round(stop * len(data))
    data[a:b] = bytes([value]) * (b - a)
    path.write_bytes(data)
    return path


def cut(path: Path, share: float) -> Path:
    """Cuts a file off."""
    path.write_bytes(path.read_bytes()[: round(share * path.stat().st_size)])
    return path
