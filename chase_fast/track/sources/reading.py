"""Packets -> whole pictures in the order of showing, with true times and numbers."""

from collections.abc import Iterator
from dataclasses import dataclass

import av

from chase_fast.track.sources.container import Container
from chase_fast.track.sources.damage import Damage
from chase_fast.track.sources.interlaced import Deinterlacer
from chase_fast.track.sources.times import Clock

_BEFORE = 1e-6  # s: what is missing lies before the packet that follows


@dataclass(frozen=True)
class Picture:
    """A decoded frame, not interlaced. number: with the lost ones counted; time, duration: seconds, from the
    beginning of the video."""

    frame: "av.VideoFrame"
    number: int
    time: float
    duration: float | None


class Reader:
    """Decodes a container from its beginning, once.

    Attributes:
        damage: what was lost on the way.
        reached: seconds to which packets came.
    """

    def __init__(self, container: Container, threads: int = 0):
        self._container = container
        context = container.stream.codec_context
        # by frame: threads by slice switch the concealment of damaged slices off, pixels stay unset
        context.thread_type, context.thread_count = "FRAME", threads
        if context.name == "mjpeg":  # else pictures that end early come with a grey rest and without a word
            context.options = {"err_detect": "explode"}
        self._clock = Clock(container)
        self.damage = Damage(None if self._clock.counted else container.rate)
        self.deinterlacer = Deinterlacer()
        self.reached = 0.0

    @property
    def notes(self) -> list[str]:
        return [*self._container.notes, *self.deinterlacer.notes, *self._clock.notes]

    def pictures(self) -> Iterator[Picture]:
        """Raises av.FFmpegError where a stream breaks off."""
        for frame in self._whole():
            if self.damage.here and not frame.key_frame and self._clock.late(frame):
                continue  # mended in a place where another one was shown already
            time = self._clock.seconds(frame)
            number = self.damage.number(time, frame.is_corrupt, frame.key_frame)
            if self._clock.counted:
                time = self._clock.at(number)
            yield Picture(frame, number, time, self._clock.duration(frame))
        self.damage.finish(self.reached)

    def _whole(self) -> Iterator["av.VideoFrame"]:
        for frame in self._decoded():
            yield from self.deinterlacer.push(frame)
        yield from self.deinterlacer.flush()

    def _decoded(self) -> Iterator["av.VideoFrame"]:
        context = self._container.stream.codec_context
        try:
            for packet, missing in self._container.packets():
                if packet is None:
                    yield from self._rest(context)
                    continue
                time = self._clock.of_packet(packet)
                if time is not None:
                    self.reached = max(self.reached, time + float((packet.duration or 0) * packet.time_base))
                if missing is not None:
                    self.damage.hit(time and time - _BEFORE, packets=missing)
                if packet.is_corrupt:
                    self.damage.hit(time)
                try:
                    frames = packet.decode()
                except av.FFmpegError:
                    self.damage.hit(time, packets=1)
                    continue
                yield from frames
        finally:  # its threads come to rest here, where Python's lock is free, not when it is taken apart
            if context.is_open:
                context.flush_buffers()

    def _rest(self, context) -> Iterator["av.VideoFrame"]:
        """What the decoder still holds; it can go on with other packets afterwards."""
        for _ in range(1000):  # every call takes one failed frame out, or is the last
            try:
                for frame in context.decode(None):
                    frame.time_base = self._container.stream.time_base  # set only where a packet is decoded
                    yield frame
                break
            except av.error.EOFError:
                break
            except av.FFmpegError:
                self.damage.hit(None, packets=1)
        context.flush_buffers()
