"""Pictures that carry their number as a bar code, and files of them in every container and image format.

The upper half of a picture is the code: two rows of six squares, the second row the negative of the first.
Below it a textured target moves over a coarse background. A picture is 96 x 64 pixels unless said otherwise.
"""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from PIL import Image

COUNT = 12
WIDTH, HEIGHT, CELL = 96, 64, 16
BITS = 6
DARK, BRIGHT = 50, 205
CONTRAST = 60  # grey levels between a square and its negative, at least
BOX = (10, 44, 20, 14)  # the target of the first picture: x, y, w, h


def picture(number: int) -> np.ndarray:
    """RGB uint8 [64, 96, 3]."""
    rng = np.random.default_rng(7)
    ground = np.kron(rng.integers(60, 160, (4, 12, 3)), np.ones((8, 8, 1)))
    texture = np.kron(rng.integers(0, 256, (7, 10, 3)), np.ones((2, 2, 1)))
    image = np.empty((HEIGHT, WIDTH, 3))
    bits = [(number + 1) >> k & 1 for k in range(BITS)]
    code = np.array([bits, [1 - b for b in bits]]) * (BRIGHT - DARK) + DARK
    image[:32] = np.kron(code, np.ones((CELL, CELL)))[..., None]
    image[32:] = ground
    x, y, w, h = BOX
    x += 4 * number
    image[y : y + h, x : x + w] = texture
    return image.astype(np.uint8)


def squares(image: np.ndarray) -> np.ndarray:
    """Medians of the code's squares [2, 6], in an image [H, W, ...] of any size."""
    grey = np.asarray(image, np.float64)
    grey = grey[..., :3].mean(-1) if grey.ndim == 3 else grey
    rows, columns = grey.shape[0] / 4, grey.shape[1] / BITS
    found = np.empty((2, BITS))
    for r, c in np.ndindex(2, BITS):
        inner = [int((k + edge) * size) for k, size in ((r, rows), (c, columns)) for edge in (0.25, 0.75)]
        found[r, c] = np.median(grey[inner[0] : inner[1] + 1, inner[2] : inner[3] + 1])
    return found


def number_of(found: np.ndarray) -> int | None:
    """The number that squares [2, 6] say; None if they are no code."""
    apart = found[0] - found[1]
    if not np.isfinite(apart).all() or abs(apart).min() < CONTRAST:
        return None
    number = int(sum((d > 0) << k for k, d in enumerate(apart))) - 1
    return number if 0 <= number < COUNT else None


# name: container, encoder, pixel format, encoder's options
VIDEOS = {
    "h264.mp4": ("mp4", "libx264", "yuv420p", {"g": "6", "bf": "2"}),
    "h264.mkv": ("matroska", "libx264", "yuv420p", {"g": "4"}),
    "h264.ts": ("mpegts", "libx264", "yuv420p", {"g": "4", "bf": "1"}),
    "interlaced.mp4": ("mp4", "libx264", "yuv420p", {"x264-params": "interlaced=1"}),
    "hevc.mkv": ("matroska", "libx265", "yuv420p", {"x265-params": "log-level=none:pools=none:keyint=6"}),
    "tenbit.mkv": ("matroska", "libx264", "yuv420p10le", {}),
    "mpeg4.avi": ("avi", "mpeg4", "yuv420p", {"g": "4"}),
    "mjpeg.avi": ("avi", "mjpeg", "yuvj420p", {}),
    "mpeg2.ts": ("mpegts", "mpeg2video", "yuv420p", {"g": "4"}),
    "vp8.webm": ("webm", "libvpx", "yuv420p", {"crf": "10", "b": "1M"}),
    "vp9.webm": ("webm", "libvpx-vp9", "yuv420p", {"crf": "20", "lag-in-frames": "0"}),
    "av1.mp4": ("mp4", "libsvtav1", "yuv420p", {"crf": "20", "svtav1-params": "lp=1"}),
    "ffv1.mkv": ("matroska", "ffv1", "yuv420p", {}),
    "variable.mkv": ("matroska", "libx264", "yuv420p", {"g": "6"}),
}
_RATE = 25


def times(name: str) -> Iterator[int]:
    """Presentation times of the pictures of a video, in units of 1/25 s."""
    time = 0
    for i in range(COUNT):
        yield time
        time += (1, 3, 1, 2)[i % 4] if name.startswith("variable") else 1


def write_video(path: Path) -> None:
    """A file of VIDEOS: COUNT pictures, encoded by one thread so that it has the same bytes every time."""
    container, encoder, pixels, options = VIDEOS[path.name]
    with av.open(str(path), "w", format=container, container_options={"fflags": "+bitexact"}) as out:
        stream = out.add_stream(encoder, rate=_RATE, options={"threads": "1", "flags": "+bitexact"} | options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pixels
        stream.codec_context.time_base = Fraction(1, _RATE)
        stream.codec_context.thread_count = 1
        for number, time in enumerate(times(path.name)):
            frame = av.VideoFrame.from_ndarray(picture(number), format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, _RATE)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def _deep(image: np.ndarray) -> np.ndarray:
    return image.astype(np.uint16) * 257


def _opencv(path: Path, image: np.ndarray, *flags: int) -> None:
    if not cv2.imwrite(str(path), image[..., ::-1] if image.ndim == 3 else image, list(flags)):
        raise OSError(f"OpenCV cannot write {path}")


def _pillow(path: Path, image: np.ndarray, mode: str = "RGB", **options) -> None:
    Image.fromarray(image).convert(mode).save(path, **options)


def _with_alpha(path: Path, image: np.ndarray) -> None:
    alpha = np.full((*image.shape[:2], 1), 255, np.uint8)
    Image.fromarray(np.concatenate([image, alpha], -1)).save(path)


# folder of frames: ending, writer
IMAGES = {
    "jpeg": (".jpg", lambda p, i: _opencv(p, i, cv2.IMWRITE_JPEG_QUALITY, 95)),
    "jpeg_progressive": (".jpg", lambda p, i: _pillow(p, i, progressive=True, quality=90)),
    "jpeg_restarts": (".jpeg", lambda p, i: _opencv(p, i, cv2.IMWRITE_JPEG_RST_INTERVAL, 2)),
    "jpeg_cmyk": (".jpg", lambda p, i: _pillow(p, i, "CMYK", quality=95)),
    "jpeg_grey": (".jpg", lambda p, i: _pillow(p, i, "L", quality=95)),
    "png": (".png", _opencv),
    "png_16": (".png", lambda p, i: _opencv(p, _deep(i))),
    "png_16_grey": (".png", lambda p, i: _opencv(p, _deep(i[..., 0]))),
    "png_palette": (".png", lambda p, i: _pillow(p, i, "P")),
    "png_alpha": (".png", _with_alpha),
    "tiff": (".tif", lambda p, i: _pillow(p, i)),
    "tiff_lzw": (".tiff", lambda p, i: _pillow(p, i, compression="tiff_lzw")),
    "tiff_16": (".tif", lambda p, i: _opencv(p, _deep(i))),
    "tiff_float": (".tif", lambda p, i: _opencv(p, i[..., 0].astype(np.float32) / 255)),
    "bmp": (".bmp", _opencv),
    "webp": (".webp", lambda p, i: _pillow(p, i, lossless=True)),
    "ppm": (".ppm", _opencv),
}
FRAMES = 6


def write_images(folder: Path, kind: str) -> None:
    """FRAMES files of one kind of IMAGES, and the boxes of the target in groundtruth.txt."""
    ending, write = IMAGES[kind]
    folder.mkdir(parents=True)
    x, y, w, h = BOX
    for number in range(FRAMES):
        write(folder / f"{number + 1:08d}{ending}", picture(number))
    lines = (f"{x + 4 * number},{y},{w},{h}\n" for number in range(FRAMES))
    (folder / "groundtruth.txt").write_text("".join(lines))
