"""Where frames come from: one file per kind of source; `open_source` finds out which kind it is."""

import os
import re
import stat
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from chase_fast.errors import ChaseError
from chase_fast.track.sources.base import Frame, Source
from chase_fast.track.sources.masking import masked

__all__ = ["Frame", "Source", "check_source", "open_source"]

TIMEOUT, RECONNECTS = 10.0, 5
_DEVICE = re.compile(r"/dev/video(\d+)")
_NETWORK = {"rtsp": {"rtsp_flags": "prefer_tcp"}, "rtsps": {"rtsp_flags": "prefer_tcp"}}  # options of FFmpeg
_PATIENT = ("http", "https", "ftp", "sftp", "file", "data", "smb")  # protocols that fetch what is asked for
_UNREADABLE = "is no video that can be read"
T = TypeVar("T")


def kind_of(text: str) -> str:
    """folder, video, pipe, camera or stream; standard input (-) is a pipe.

    Raises:
        ChaseError: there is no such file, folder or device.
    """
    path = Path(text)
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        mode = 0
    if stat.S_ISDIR(mode):
        return "folder"
    if stat.S_ISREG(mode):
        return "video"
    if stat.S_ISFIFO(mode) or text == "-":
        return "pipe"
    if _camera(text) is not None:
        return "camera"
    if "://" in text:
        return "stream"
    raise ChaseError(
        f"{masked(text, address=True)}: no such file or folder; give a video, a folder of frames, a camera's "
        "number or a URL"
    )


def _camera(text: str) -> int | None:
    """Number of a camera: 0, or /dev/video0 and links to it."""
    if text.isascii() and text.isdecimal():
        return int(text)
    found = _DEVICE.fullmatch(os.path.realpath(text)) or _DEVICE.fullmatch(text)
    return int(found[1]) if found else None


def check_source(text: str, start: int, count: int | None) -> None:
    """What can be said without opening it.

    Raises:
        ChaseError: there is no such source, or --start or --frames cannot be.
    """
    if start < 0 or (count is not None and count < 1):
        raise ChaseError("--start must be 0 or more and --frames 1 or more")
    kind_of(text)


def open_source(
    text: str,
    start: int = 0,
    count: int | None = None,
    timeout: float = TIMEOUT,
    reconnects: int = RECONNECTS,
) -> Source:
    """Opens a folder of frames, a video file, a named pipe, a stream URL (has ://) or a camera (a number that
    is no file, or /dev/videoN).

    start: frames to pass over. count: most frames to give. timeout: seconds without a picture after which a
    live source counts as broken off; it is opened again at most `reconnects` times in a row.

    Raises:
        ChaseError: there is no such thing, it cannot be read, or it has no frame after `start`.
    """
    check_source(text, start, count)
    kind = kind_of(text)
    if kind == "folder":
        from chase_fast.track.sources.folder import Folder

        return Folder(Path(text), start, count)
    if kind == "video":
        return _open_file(Path(text), start, count)
    if kind == "camera":
        return _open_camera(text, start, count, timeout, reconnects)
    return _open_stream(text, kind, start, count, timeout, reconnects)


def _open_file(path: Path, start: int, count: int | None) -> Source:
    from chase_fast.track.sources.opencv import CapturedVideo, silence
    from chase_fast.track.sources.pages import Pages, page_count

    if path.stat().st_size == 0:
        raise ChaseError(f"{path} {_UNREADABLE}: it is empty")
    try:
        import av

        from chase_fast.track.sources.container import Container, Unseekable, reason
        from chase_fast.track.sources.video import Video
    except ImportError as e:
        return CapturedVideo(str(path), f"PyAV is not there ({e})", start, count)
    address = f"file:{path.absolute()}"  # so that no part of a name is taken for a protocol
    try:
        container = Container(address, str(path), path)
    except av.FFmpegError as e:
        try:
            container = Container(Unseekable(path), str(path), path)
        except av.FFmpegError:
            if _without_index(path):
                raise ChaseError(
                    f"{path} {_UNREADABLE}: it is cut off, its index (moov) was never written"
                ) from None
            return CapturedVideo(str(path), f"PyAV cannot open it: {reason(e)}", start, count)
        container.notes.append(f"{path} is cut off within its index: what lies before is read")
    if container.still:
        container.close()
        silence()
        if page_count(path) > 1:
            return Pages(path, start, count)
        raise ChaseError(f"{path} is a single image: give the folder of the frames, or a video")
    return Video(container, str(path), "video", start, count)


def _without_index(path: Path) -> bool:
    """A QuickTime or MP4 file without moov: written when a recording is finished."""
    with path.open("rb") as file:
        head = file.read(12)
        if head[4:8] not in (b"ftyp", b"mdat", b"wide", b"free"):
            return False
        while block := file.read(1 << 20):
            if b"moov" in block:
                return False
    return True


def _open_camera(text: str, start: int, count: int | None, timeout: float, reconnects: int) -> Source:
    from chase_fast.track.sources.live import Live
    from chase_fast.track.sources.stream import Camera

    def connect() -> Camera:
        return Camera(_camera(text))

    advice = "cannot be opened: no such device, or another program uses it"
    first = _answer(connect, timeout, f"camera {text} {advice}")
    return Live(first, connect, text, "camera", start, count, timeout, reconnects)


def _open_stream(
    text: str, kind: str, start: int, count: int | None, timeout: float, reconnects: int
) -> Source:
    from chase_fast.track.sources.live import Live
    from chase_fast.track.sources.stream import SEGMENTED, Camera, Stream

    pipe = kind == "pipe"
    name = "standard input" if text == "-" else text if pipe else masked(text, address=True)
    advice = "does anybody write a video into it?" if pipe else "check address, network and server"
    advice = f"{name} cannot be opened: {advice}"
    try:
        import av

        from chase_fast.track.sources.container import Container, reason
        from chase_fast.track.sources.video import Video
    except ImportError as e:
        missing = f"PyAV is not there ({e}): OpenCV decodes {name} instead"
        if pipe:
            raise ChaseError(f"{name} can be read only with PyAV: pip install av") from None

        def captured() -> Camera:
            return Camera(text, [missing])

        first = _answer(captured, timeout, advice)
        return Live(first, captured, name, "stream", start, count, timeout, reconnects)
    address = "pipe:0" if text == "-" else f"file:{Path(text).absolute()}" if pipe else text
    options = _NETWORK.get(text.partition(":")[0].lower(), {})

    def container() -> Container:
        try:
            return Container(address, name, None, options, timeout)
        except ChaseError:
            raise
        except av.FFmpegError as e:
            raise ChaseError(reason(e)) from None
        except ValueError as e:  # a port that is no number and the like
            raise ChaseError(masked(str(e))) from None

    opened = _answer(container, timeout, advice)
    if not pipe and _is_whole(opened, text):
        return Video(opened, name, "stream", start, count)

    def ended() -> bool:
        """A pipe ends when nobody writes any more; a playlist, when it has a mark of its end by now."""
        if opened.format not in SEGMENTED:
            return pipe
        with closing(container()) as now:
            return _is_whole(now, text)

    def connect() -> Stream:
        return Stream(container(), ended)

    first = Stream(opened, ended)
    return Live(
        first, connect, name, "stream", start, count, timeout, 0 if pipe else reconnects, drop=not pipe
    )


def _is_whole(container, address: str) -> bool:
    """A video on a server, not a live stream: it has a length, and waits until it is read."""
    scheme = address.partition(":")[0].lower()
    return container.length is not None and scheme in _PATIENT


def _answer(function: Callable[[], T], timeout: float, advice: str) -> T:
    """What the function returns; it runs in a thread, so that Ctrl-C works while a device is silent.

    Raises:
        ChaseError: it raised one, or takes longer than a little more than the timeout; begins with `advice`.
    """
    found: list[T | BaseException] = []

    def run() -> None:
        try:
            found.append(function())
        except BaseException as e:
            found.append(e)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    limit = time.monotonic() + timeout + 2
    while thread.is_alive() and time.monotonic() < limit:
        thread.join(0.1)
    if not found:
        raise ChaseError(f"{advice} (no answer within {timeout:g} s)")
    if isinstance(found[0], ChaseError):
        raise ChaseError(f"{advice} ({found[0]})")
    if isinstance(found[0], BaseException):
        raise found[0]
    return found[0]
