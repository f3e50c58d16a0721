"""Where frames come from: one file per kind of source; `open_source` finds out which kind it is."""

import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from chase_fast.errors import ChaseError, MissingFile
from chase_fast.track.sources.base import Frame, Source
from chase_fast.track.sources.masking import masked

if TYPE_CHECKING:
    from chase_fast.track.frames import Levels

__all__ = ["Frame", "Source", "check_source", "open_source"]

TIMEOUT, RECONNECTS = 10.0, 5
_DEVICE = re.compile(r"/dev/video(\d+)")


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
    if camera_number(text) is not None:
        return "camera"
    if "://" in text:
        return "stream"
    raise MissingFile(
        f"{masked(text, address=True)}: no such file or folder; give a video, a folder of frames, a camera's "
        "number or a URL"
    )


def camera_number(text: str) -> int | None:
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
    levels: str | None = None,
) -> Source:
    """Opens a folder of frames, a video file, a named pipe, a stream URL (has ://) or a camera (a number that
    is no file, or /dev/videoN).

    start: frames to pass over. count: most frames to give. timeout: seconds without a picture after which a
    live source counts as broken off; it is opened again at most `reconnects` times in a row. levels:
    LOW,HIGH, the values of frames of more than 8 bits that become black and white, of folders and files.

    Raises:
        ChaseError: there is no such thing, it cannot be read, or it has no frame after `start`.
    """
    check_source(text, start, count)
    kind = kind_of(text)
    if kind == "folder":
        from chase_fast.track.sources.folder import Folder

        return Folder(Path(text), start, count, _levels(levels))
    from chase_fast.track.sources import opening

    if kind == "video":
        return opening.open_file(Path(text), start, count, _levels(levels))
    if levels is not None:
        raise ChaseError("--levels: only folders and files have them, not cameras and streams")
    if kind == "camera" and (number := camera_number(text)) is not None:
        return opening.open_camera(text, number, start, count, timeout, reconnects)
    return opening.open_stream(text, kind == "pipe", start, count, timeout, reconnects)


def _levels(text: str | None) -> "Levels | None":
    from chase_fast.track.frames import Levels

    return None if text is None else Levels.parse(text)
