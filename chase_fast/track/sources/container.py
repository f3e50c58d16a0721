"""One opened file or stream of FFmpeg (by PyAV): which of its video streams is shown, and its packets."""

import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av

from chase_fast.errors import ChaseError

_STILL = ("image2", "_pipe")  # demuxers of single images
_NAMES = {"hevc": "HEVC (H.265)", "h264": "H.264", "av1": "AV1", "vp9": "VP9", "vp8": "VP8"}
_TRIES = 8  # to go on behind a place where no packet can be read
_ERRORS = 4  # reads in a row that may fail: buffered packets may come behind an error
_EXACT = "matroska", "avi", "flv"  # formats whose packets follow each other but for their heads:
_HOLE = 64  # at most so many bytes
_LOOSE = (
    "mpeg",
    "mxf",
    "asf",
)  # more lies between them; if time leaps as well, some are missing
_WIDE = 4096  # bytes, and more than anywhere before
_AVI_HEAD = 8  # bytes of a chunk before its data
_REST = 0.02, 1024  # share and bytes of a file that may follow its last picture: index, tags
_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_ANNOUNCE = (
    "mov",
    "matroska",
    "avi",
    "flv",
    "asf",
    "mxf",
    "nut",
)  # formats whose files say how long they are


def reason(error: BaseException) -> str:
    """What FFmpeg says, without the address that it appends."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return {"Immediate exit requested": "no answer in time", "End of file": "it ended"}.get(text, text)


class Unseekable:
    """A file that can only be read on: so an MP4 can be opened whose last fragment is broken."""

    def __init__(self, path: Path):
        self.name = str(path)
        self._file = path.open("rb")

    def read(self, size: int) -> bytes:
        return self._file.read(size)

    def close(self) -> None:
        self._file.close()


class Container:
    """An input of FFmpeg.

    Attributes:
        stream: the video stream that a player would show.
        notes: what the user should know.
        start: time stamp of the beginning of the video in seconds, None if unknown.
        reached: seconds to which packets have come.

    Args:
        address: what av.open takes, or a file object.
        name: what it is called in errors.
        path: of a local file.
        options: of FFmpeg's formats and protocols.
        timeout: seconds for opening, and for each packet; None waits for ever.

    Raises:
        av.FFmpegError: it cannot be opened.
        ChaseError: there is no video in it, or no decoder for it.
    """

    def __init__(
        self,
        address: "str | Unseekable",
        name: str,
        path: Path | None = None,
        options: dict[str, str] | None = None,
        timeout: float | None = None,
    ):
        self._path, self._read_to, self._gap, self._widest = path, 0, False, _WIDE
        self.reached = 0.0
        self._size = path.stat().st_size if path else 0
        self._last: int | None = None  # time stamp (dts) of the last packet
        self._input = av.open(
            address,
            "r",
            options=options or {},
            timeout=timeout and (timeout, timeout),
            metadata_errors="replace",
        )
        try:
            self.notes: list[str] = []
            self.format = self._input.format.name
            self.stream = self._chosen(name)
            self._times, self.start = self._index(), self._begin()
        except BaseException:
            self._input.close()
            raise

    def _chosen(self, name: str) -> "av.VideoStream":
        """The video stream that a player would show."""
        covers = av.stream.Disposition.attached_pic
        videos = [s for s in self._input.streams.video if not s.disposition & covers]
        if not videos:
            others = sorted({s.type for s in self._input.streams})
            what = (
                "only a cover picture and sound" if self._input.streams.video else f"only {', '.join(others)}"
            )
            raise ChaseError(f"{name} holds no video, {what if others else 'nothing that can be shown'}")
        best = self._input.streams.best("video")
        stream = best if best in videos else videos[0]
        if stream.codec_context is None:
            raise ChaseError(
                f"{name}: FFmpeg has no decoder for its video; convert it with the program that made it, "
                "to H.264 for example"
            )
        if len(videos) > 1:
            self.notes.append(
                f"{name} holds {len(videos)} video streams: number {videos.index(stream)} "
                f"({stream.width}x{stream.height}) is taken, the one that players show"
            )
        return stream

    @property
    def still(self) -> bool:
        """It is a single image, whatever its name says."""
        return self.format.endswith(_STILL)

    @property
    def codec(self) -> str:
        name = self.stream.codec_context.name
        name = {"libdav1d": "av1", "libvpx": "vp8", "libvpx-vp9": "vp9"}.get(name, name)
        return _NAMES.get(name, name)

    @property
    def rate(self) -> float | None:
        """Frames per second, the mean one of a variable rate; None if unknown."""
        found, guessed = self.stream.average_rate, self.stream.guessed_rate
        if not found or (guessed and found * self._tick == 1 and found > 4 * guessed):
            found = guessed  # raw DV: ticks of its clock
        return float(found) if found and 0 < found < 1e5 else None

    @property
    def _tick(self) -> Fraction:
        """Seconds of one step of the video's time stamps."""
        return self.stream.time_base or Fraction(1, av.time_base)

    def _begin(self) -> float | None:
        if self.stream.start_time is not None:
            return float(self.stream.start_time * self._tick)
        return None if self._input.start_time is None else self._input.start_time / av.time_base

    @property
    def length(self) -> float | None:
        """Seconds from the beginning to the end, known or estimated."""
        if self.stream.duration:
            return float(self.stream.duration * self._tick)
        return self._input.duration / av.time_base if self._input.duration else None

    @property
    def announced(self) -> float | None:
        """Seconds that the file says it lasts, None if it says nothing; estimates do not count."""
        if not self.format.startswith(_ANNOUNCE) or self.fragmented:
            return None
        if self.format == "avi":  # its rate is constant, and its duration is guessed if the index is missing
            return self.stream.frames / self.rate if self.stream.frames and self.rate else None
        if self.format == "flv" and self.length:  # says when it ends, not how long it is
            return self.length - (self.start or 0)
        if (
            self.format == "asf" and self.length is None and self._path
        ):  # FFmpeg does not trust one that is cut
            return asf_length(self._path)
        return self.length

    def packets(self) -> Iterator[tuple["av.Packet | None", int | None]]:
        """The packets of the video, each with None, or with the number of packets that are known to be
        missing before it (0: something is). No packet: nothing that follows belongs to what came before, the
        decoder gives what it holds; this comes last, too. Places that cannot be read are passed over, after
        at most `_TRIES` attempts.

        Raises:
            av.FFmpegError: it broke off.
        """
        tries, error = 0, None
        while True:
            try:
                for packet in self._input.demux():
                    if not packet.size and packet.dts is None:
                        break  # the flush at the end
                    ours = packet.stream is self.stream
                    if tries and ours and self._is_old(packet):
                        continue  # seeking led back
                    missing = self._missing(packet, tries > 0)
                    if ours:
                        tries, error = 0, None
                        yield packet, missing
                else:
                    error = None
            except (av.error.InvalidDataError, av.error.OSError) as e:
                if isinstance(e, av.error.TimeoutError):
                    raise
                error = e
            tries += 1
            ahead = self._ahead(tries)
            if tries > 1 or ahead is None:  # reading on did not help, or cannot
                if ahead is None and error is not None and tries < _ERRORS:
                    continue
                yield None, 0
                if ahead is None and error is not None:
                    raise error
                if ahead is None or not self._seek(ahead):
                    return

    def _missing(self, packet: "av.Packet", unread: bool) -> int | None:
        """See `packets`; takes note of the packet. Bytes between two packets that belong to none were passed
        over; readers of files say that in no other way."""
        gap = self._passed_over(packet)
        if packet.stream is not self.stream:
            self._gap = self._gap or gap or unread
            self._note_end(packet)
            return None
        gap, self._gap = gap or self._gap, False
        before = self._last
        self._set_time(packet)
        if self.format in _LOOSE:
            gap = gap and self._leaps(packet)
        gap = gap or unread
        self._note_end(packet)
        if packet.dts is not None:
            self._last = packet.dts
        if not gap:
            return None
        if self.format != "avi" or before is None or self._last is None:
            return 0
        return max(0, self._last - before - 1)

    def _passed_over(self, packet: "av.Packet") -> bool:
        """More bytes lie before the packet than should."""
        if packet.pos is None:
            return False
        between = packet.pos - self._read_to if self._read_to else 0
        self._read_to = max(self._read_to, packet.pos + packet.size)
        if self.format.startswith(_EXACT):
            return between > _HOLE
        widest, self._widest = self._widest, max(self._widest, between)
        return self.format in _LOOSE and between > widest

    def _leaps(self, packet: "av.Packet") -> bool:
        """The packet is later than the next one would be."""
        if self._last is None or packet.dts is None or self.rate is None:
            return False
        return (packet.dts - self._last) * self._tick > 1.5 / self.rate

    def _is_old(self, packet: "av.Packet") -> bool:
        """The packet was read before; MXF counts from a wrong time where its index is missing."""
        if self.format == "mxf" and packet.pos is not None and packet.pos < self._read_to:
            return True
        return self._last is not None and packet.dts is not None and packet.dts <= self._last

    def _note_end(self, packet: "av.Packet") -> None:
        """Where the duration is that of the whole file, sound may last longer than the pictures."""
        stamp = packet.pts if packet.pts is not None else packet.dts
        own = self.stream.duration is not None or self.format == "avi"
        if stamp is not None and (packet.stream is self.stream or not own):
            end = float((stamp + (packet.duration or 0)) * packet.time_base) - (self.start or 0)
            self.reached = max(self.reached, end)

    def _seek(self, ahead: int) -> bool:
        try:
            self._input.seek(ahead, stream=self.stream, backward=False)
        except av.FFmpegError:
            return False
        return True

    def _index(self) -> dict[int, int]:
        """AVI: where in the file -> time stamp. Behind a damaged place its reader counts on from before."""
        if self.format != "avi":
            return {}
        return {entry.pos + _AVI_HEAD: entry.timestamp for entry in self.stream.index_entries}

    def _set_time(self, packet: "av.Packet") -> None:
        true = None if packet.pos is None else self._times.get(packet.pos)
        if true is None or packet.dts is None or true == packet.dts:
            return
        if packet.pts is not None:
            packet.pts += true - packet.dts
        packet.dts = true

    def _ahead(self, tries: int) -> int | None:
        """Time stamp behind a place that cannot be read, farther with every attempt; None near the end."""
        length = self.announced
        if length is None or self._last is None or tries > _TRIES:
            return None
        start = self.start or 0
        reached = float(self._last * self._tick) - start
        ahead = reached + 0.05 * 2**tries
        if reached >= length - 2 / (self.rate or 25) or ahead >= length:
            return None
        return round((ahead + start) / self._tick)

    @property
    def incomplete(self) -> bool:
        """The file has fewer bytes than it says, or its end could not be read. Matroska says how many bytes
        it has; of a variable rate the last picture has no length there, so that time alone does not tell."""
        if self._path is None:
            return True
        size = self._path.stat().st_size
        unread = size - self._read_to > _REST[0] * size + _REST[1]
        if self.format.startswith("matroska"):
            said = matroska_bytes(self._path)
            return unread or said is None or size < said
        return unread or not self.fragmented

    @property
    def growing(self) -> bool:
        """Somebody still writes into the file."""
        return self._path is not None and self._path.stat().st_size > self._size

    @property
    def fragmented(self) -> bool:
        """An MP4 written piece by piece, which does not say how long it is."""
        return self.format.startswith("mov") and not self.stream.frames

    def close(self) -> None:
        self._input.close()


def matroska_bytes(path: Path) -> int | None:
    """Size that a Matroska or WebM file says it has: its EBML head and its segment; None if it does not."""
    with path.open("rb") as file:
        head = file.read(4096)
    position = 0
    for identity in (b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"):
        if head[position : position + 4] != identity or len(head) < position + 12:
            return None
        width = 9 - head[position + 4].bit_length()  # the number of leading zeros says how many bytes
        field = head[position + 4 : position + 4 + width]
        size = int.from_bytes(field) - (1 << 7 * width)
        if size == (1 << 7 * width) - 1:
            return None
        position += 4 + width + size
    return position


def asf_length(path: Path) -> float | None:
    """Seconds that an ASF file (WMV) says it lasts, in its file properties; None if it does not."""
    with path.open("rb") as file:
        head = file.read(1 << 16)
    at = head.find(_ASF_PROPERTIES)
    if at < 0 or len(head) < at + 88:
        return None
    ticks, _, preroll = struct.unpack_from("<3Q", head, at + 64)  # of 100 ns, of 100 ns, ms
    return ticks / 1e7 - preroll / 1e3 if ticks else None
