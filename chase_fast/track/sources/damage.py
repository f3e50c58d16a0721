"""Damaged places of a video: where they are, what they cost, and the true numbers of the other frames."""

from dataclasses import asdict, dataclass
from typing import Any

_MOST = 1000  # places that are remembered
_EVEN = 0.1, 0.0011  # share of an interval and seconds by which a constant rate may be off (rounded stamps)


@dataclass
class Place:
    """frame: the first one that is lost or changed; time: its seconds, None at the beginning; lost:
    frames that are missing; changed: frames that the decoder mended, or may have."""

    frame: int
    time: float | None
    lost: int = 0
    changed: int = 0

    def __str__(self) -> str:
        where = "at its beginning" if self.time is None else f"at frame {self.frame} ({self.time:.2f} s)"
        parts = [f"{self.lost} frame{'s' * (self.lost != 1)} cannot be decoded"] if self.lost else []
        if self.changed:
            parts.append(f"{self.changed} may look wrong")
        return f"damaged {where}: {', '.join(parts)}"


class Damage:
    """Numbers frames from 0. Behind a damaged place the time tells how many are missing, if the rate was
    constant, else the packets that could not be decoded."""

    def __init__(self, rate: float | None):
        self._interval = 1 / rate if rate else None
        self._constant = self._interval is not None
        self._number, self._time = -1, 0.0
        self._open: Place | None = None
        self._failed, self._until = 0, -1.0
        self.places: list[Place] = []

    @property
    def _steady(self) -> float | None:
        """Seconds between frames, None if they differ."""
        return self._interval if self._constant else None

    @property
    def here(self) -> bool:
        """The last frame lies in a damaged place."""
        return self._open is not None

    def hit(self, time: float | None, packets: int = 0) -> None:
        """Something is wrong: at this time, if it is known; packets that gave no frame."""
        self._failed += packets
        self._until = max(self._until, self._time if time is None else time)
        if self._open is None:
            ahead = 1  # decoders are some frames behind the packets
            if self._steady is not None and time is not None and self._number >= 0:
                ahead = max(1, round((time - self._time) / self._steady))
            self._open = Place(self._number + ahead, time)

    def number(self, time: float, changed: bool, key: bool) -> int:
        """Of the next frame. changed: the decoder says so; key: it needs no other frame."""
        place = self._open
        if changed and place is None:
            self.hit(time)
            place = self._open
        lost = 0
        if self._number >= 0:
            lost = self._missing(time, place is not None)
        if place is not None:
            self._within(place, time, lost, changed, key)
        self._number += 1 + lost
        self._time = time
        return self._number

    def _missing(self, time: float, damaged: bool) -> int:
        """Frames between the last one and this."""
        step, steady = time - self._time, self._steady
        if damaged and steady is not None:
            return max(0, round(step / steady) - 1)
        if damaged:
            return self._failed
        if steady is not None and abs(step - steady) > max(_EVEN[0] * steady, _EVEN[1]):
            self._constant = False
        return 0

    def _within(self, place: Place, time: float, lost: int, changed: bool, key: bool) -> None:
        if lost and not place.lost:
            place.frame, place.time = self._number + 1, self._time + (self._interval or 0)
        if self._number < 0:  # numbers begin behind what is lost at the beginning
            by_time = 0 if self._steady is None else round(time / self._steady)
            place.lost, place.time = max(place.lost + self._failed, by_time), None
        place.lost += lost
        self._failed = 0 if lost or self._number < 0 else self._failed
        if key and not changed and time > self._until:
            self._close(place)
        elif changed or place.lost or time >= self._until:
            place.changed += 1

    def finish(self, reached: float) -> None:
        """No frame follows. reached: seconds to which there were packets."""
        place = self._open
        if place is None:
            return
        if self._steady is not None:
            lost = max(0, round((reached - max(self._time, 0)) / self._steady) - 1)
        else:
            lost = self._failed
        if lost and not place.lost:
            place.frame, place.time = self._number + 1, self._time + (self._interval or 0)
        place.lost += lost
        self._close(place)

    def _close(self, place: Place) -> None:
        self._open, self._failed = None, 0
        if (place.lost or place.changed) and len(self.places) < _MOST:
            self.places.append(place)

    @property
    def data(self) -> list[dict[str, Any]]:
        return [asdict(place) for place in self.places]
