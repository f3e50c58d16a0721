"""Opening a video file, a camera or a stream: PyAV where it can, OpenCV where it cannot."""

import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from chase_fast.errors import ChaseError
from chase_fast.track.frames import Levels
from chase_fast.track.sources.base import Source
from chase_fast.track.sources.camera import Camera
from chase_fast.track.sources.live import Live
from chase_fast.track.sources.masking import masked
from chase_fast.track.sources.opencv import CapturedVideo, silence
from chase_fast.track.sources.pages import Pages, page_count

T = TypeVar("T")
_PYAV = 18  # its first version that is used
_UNREADABLE = "is no video that can be read"
_NETWORK = {"rtsp": {"rtsp_flags": "prefer_tcp"}, "rtsps": {"rtsp_flags": "prefer_tcp"}}  # options of FFmpeg
_PATIENT = ("http", "https", "ftp", "sftp", "file", "data", "smb")  # protocols that fetch what is asked for


def pyav_problem() -> str | None:
    """Why PyAV cannot be used, or None."""
    try:
        import av
    except ModuleNotFoundError:
        return "PyAV (av) is not installed"
    except ImportError as e:
        return f"PyAV cannot be imported ({e})"
    return None if int(av.__version__.partition(".")[0]) >= _PYAV else f"PyAV {av.__version__} is too old"


def open_file(path: Path, start: int, count: int | None, levels: Levels | None = None) -> Source:
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except OSError as e:
        raise ChaseError(f"cannot read {path}: {e.strerror or e}") from None
    if empty:
        raise ChaseError(f"{path} {_UNREADABLE}: it is empty")
    if problem := pyav_problem():
        return CapturedVideo(str(path), problem, start, count)
    import av

    from chase_fast.track.sources.container import Container, Unseekable, reason
    from chase_fast.track.sources.video import Video

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
            return Pages(path, start, count, levels)
        raise ChaseError(f"{path} is a single image: give the folder of the frames, or a video")
    return Video(container, str(path), "video", start, count, levels)


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


def open_camera(
    text: str, number: int, start: int, count: int | None, timeout: float, reconnects: int
) -> Source:
    def connect() -> Camera:
        return Camera(number)

    advice = "cannot be opened: no such device, or another program uses it"
    first = _answer(connect, timeout, f"camera {text} {advice}")
    return Live(first, connect, text, "camera", start, count, timeout, reconnects)


def open_stream(
    text: str, pipe: bool, start: int, count: int | None, timeout: float, reconnects: int
) -> Source:
    name = "standard input" if text == "-" else text if pipe else masked(text, address=True)
    advice = "does anybody write a video into it?" if pipe else "check address, network and server"
    advice = f"{name} cannot be opened: {advice}"
    if problem := pyav_problem():
        if pipe:
            raise ChaseError(f"{name} cannot be read: {problem}; pip install 'av>={_PYAV}'")

        def captured() -> Camera:
            return Camera(text, [f"{problem}: OpenCV decodes {name} instead"])

        first = _answer(captured, timeout, advice)
        return Live(first, captured, name, "stream", start, count, timeout, reconnects)
    import av

    from chase_fast.track.sources.container import Container, reason
    from chase_fast.track.sources.stream import SEGMENTED, Stream
    from chase_fast.track.sources.video import Video

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

    attempts = 0 if pipe else reconnects
    return Live(
        Stream(opened, ended), connect, name, "stream", start, count, timeout, attempts, drop=not pipe
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
