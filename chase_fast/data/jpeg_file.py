"""The parts of a JPEG file (ITU-T T.81), to tell harmless oddities from missing pixels.

libjpeg warns of both in the same way, and only its first warning can be seen. So a file that it warns of
is put in order here (`mend`); what it warns of then is about pixels.
"""

import re
from dataclasses import dataclass

_MARKER = re.compile(rb"\xff[\xc0-\xcf\xd8-\xef\xfe]")
_SCAN_END = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
_SEQUENTIAL, _PROGRESSIVE = (0xC0, 0xC1, 0xC9), (0xC2, 0xCA)
_ZEROS = 4  # at the end of a file without an end marker: a hole, no picture


@dataclass(frozen=True)
class Mended:
    """A JPEG of the same pixels.

    data: without bytes between its segments and after its end, with an end marker, and with the values that
    every decoder assumes where a header holds impossible ones.
    ended: an end marker was there. whole: as far as headers tell, everything of every component was sent.
    rare: not of 8 bits, or coded without cosines.
    """

    data: bytes
    ended: bool
    whole: bool
    rare: bool


class _Picture:
    """What the headers say of the picture."""

    def __init__(self):
        self.progressive = False
        self.bits = 0
        self.missing: dict[int, list[int]] = {}  # component -> bits of its 64 coefficients not sent yet
        self.units = self.interval = self.restarts = 0

    def frame(self, body: bytes, progressive: bool) -> None:
        height, width = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
        parts = [body[6 + 3 * k : 9 + 3 * k] for k in range(body[5] if len(body) > 5 else 0)]
        parts = [p for p in parts if len(p) == 3]
        self.progressive, self.bits = progressive, body[0] if body else 0
        self.missing = {p[0]: [16] * 64 for p in parts}
        h, v = (max((f(p[1]) for p in parts), default=1) or 1 for f in (lambda s: s >> 4, lambda s: s & 15))
        if len(parts) == 1:
            h = v = 1
        self.units = -(-width // (8 * h)) * -(-height // (8 * v))

    def scan(self, body: bytes) -> None:
        count = body[0] if body else 0
        first, last, low = (*body[1 + 2 * count : 3 + 2 * count], 0, 0)[:2] + (body[-1] & 15 if body else 0,)
        for component in body[1 : 1 + 2 * count : 2]:
            if component in self.missing:
                self.missing[component][first : last + 1] = [low] * (last + 1 - first)

    @property
    def whole(self) -> bool:
        enough = not self.interval or self.progressive or self.restarts >= -(-self.units // self.interval) - 1
        return bool(self.missing) and not any(map(any, self.missing.values())) and enough


def mend(data: bytes) -> Mended:
    """Puts a JPEG in order without looking at its entropy-coded data."""
    out, at, ended, picture, adobe = bytearray(b"\xff\xd8"), 2, False, _Picture(), None
    while match := _MARKER.search(data, at):
        at, code = match.start(), data[match.start() + 1]
        if code == 0xD9:
            ended = True
            break
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if code == 0xD8 or end < at + 4:
            at += 2
            continue
        segment = bytearray(data[at:end])
        body = bytes(segment[4:])
        if code in _SEQUENTIAL or code in _PROGRESSIVE:
            picture.frame(body, code in _PROGRESSIVE)
        elif code == 0xDD:
            picture.interval = int.from_bytes(body[:2], "big")
        elif code == 0xE0 and body[:5] == b"JFIF\0" and len(body) > 5:
            segment[9] = 1
        elif code == 0xEE and body[:5] == b"Adobe" and len(body) > 11:
            adobe = len(out) + 15
        elif code == 0xDA:
            if not picture.progressive:
                segment[-3:] = b"\0\x3f\0"
            picture.scan(bytes(segment[4:]))
            limit = _SCAN_END.search(data, end)
            scan_end = limit.start() if limit else len(data)
            picture.restarts += len(_RESTART.findall(data, end, scan_end))
            segment += data[end:scan_end]
            end = scan_end
        out += segment
        at = end
    if adobe is not None and out[adobe] > 2:
        out[adobe] = 2 if len(picture.missing) == 4 else 1
    hole = not ended and not any(data[-_ZEROS:])
    return Mended(bytes(out) + b"\xff\xd9", ended, picture.whole and not hole, picture.bits != 8)
