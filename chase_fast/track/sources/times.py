"""Time stamps of frames -> seconds that grow from frame to frame."""

import av

from chase_fast.track.sources.container import Container

_LEAP = 10.0  # s: a longer one in a broadcast stream is another clock, not time that passed
_BACK = 1.0  # s: frames that come in a wrong order go back by less
_BROADCAST = ("mpegts", "mpeg")
_RATE = 25.0  # where nothing is known


class Clock:
    """Seconds since the beginning of a container. Where stamps are missing or go back, the rate counts on."""

    def __init__(self, container: Container):
        self._start, self._format = container.start, container.format
        self._interval = 1 / (container.rate or _RATE)
        # in AVI a stamp is the order in the file, with B-frames not the order of showing
        self.counted = container.format == "avi" and container.stream.codec_context.has_b_frames
        self._last: float | None = None
        self._shift = 0.0
        self.notes: list[str] = []

    def of_packet(self, packet: "av.Packet") -> float | None:
        stamp = packet.pts if packet.pts is not None else packet.dts
        if stamp is None:
            return None
        return float(stamp * packet.time_base) - (self._start or 0.0) + self._shift

    def seconds(self, frame: "av.VideoFrame") -> float:
        """Of the next frame in the order of showing."""
        time = self._stamped(frame)
        if time is None:
            time = 0.0 if self._last is None else self._last + self._interval
        elif self._last is not None:
            leap = time - self._last
            joined = self._format in _BROADCAST and (leap > _LEAP or (leap <= 0 and frame.key_frame))
            another_clock = leap < -_BACK or joined
            if another_clock:
                self._shift -= leap - self._interval
            if leap <= 0 or another_clock:
                self._note(
                    f"time stamps {'go back' if leap <= 0 else 'leap'} at {self._last:.2f} s: "
                    "times go on from there at the frame rate"
                )
                time = self._last + self._interval
        self._last = time
        return time

    def at(self, number: int) -> float:
        """Seconds of a frame where they are counted."""
        self._last = number * self._interval
        return self._last

    def late(self, frame: "av.VideoFrame") -> bool:
        """The frame belongs before the one that was last."""
        if self._last is None:
            return False
        time = self._stamped(frame)
        return time is not None and -_BACK < time - self._last <= 0

    def duration(self, frame: "av.VideoFrame") -> float | None:
        """How long the frame is shown, if the file says it."""
        return float(frame.duration * frame.time_base) if frame.duration and frame.time_base else None

    def _stamped(self, frame: "av.VideoFrame") -> float | None:
        if self.counted:
            return None
        if frame.pts is None or frame.time_base is None:
            self._note(
                f"the video has no time stamps: times are counted at {1 / self._interval:g} frames per second"
            )
            return None
        stamp = float(frame.pts * frame.time_base)
        if self._start is None:
            self._start = stamp
        return stamp - self._start + self._shift

    def _note(self, text: str) -> None:
        if not self.notes:
            self.notes.append(text)
