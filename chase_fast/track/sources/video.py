"""A video that ends: a file, or a file behind an address. PyAV decodes it; every frame is given."""

from collections.abc import Iterator
from typing import Any

import av

from chase_fast.errors import ChaseError
from chase_fast.track.frames import Levels
from chase_fast.track.sources.base import Frame
from chase_fast.track.sources.container import Container, reason
from chase_fast.track.sources.damage import Damage, Place
from chase_fast.track.sources.pixels import Pixels
from chase_fast.track.sources.reading import Picture, Reader

_PLACES = 3  # damaged places that are told one by one
_SLACK = 2.5  # frames that may be missing at the end


class Video:
    """See `Source`.

    Args:
        container: opened.
        path: what it is called in messages, masked.
        start, count: frames to pass over, most frames to give. levels: see `Pixels`.

    Raises (here and in `frames`):
        ChaseError: there are no frames, or it breaks off.
    """

    live = False

    def __init__(
        self,
        container: Container,
        path: str,
        kind: str,
        start: int,
        count: int | None,
        levels: Levels | None = None,
    ):
        self.path, self.kind, self.fps = path, kind, container.rate
        self._container, self._start, self._count = container, start, count
        self._reader, self._pixels = Reader(container), Pixels(levels)
        self.total = self._expected()
        self._told: list[str] = []
        ratio = container.stream.sample_aspect_ratio
        if ratio and ratio != 1:
            self._told.append(
                f"pixels of {path} are not square ({ratio.numerator}:{ratio.denominator}): "
                "frames and boxes are in stored pixels"
            )
        if container.rate is None:
            self._told.append(f"{path} does not tell its frame rate")

    def _expected(self) -> int | None:
        """Frames to come, for the progress bar."""
        length, rate = self._container.length, self._container.rate
        frames = self._container.stream.frames or (round(length * rate) if length and rate else 0)
        left = max(1, frames - self._start) if frames else None
        return left if self._count is None else min(self._count, left or self._count)

    @property
    def notes(self) -> list[str]:
        return [*self._told, *self._reader.notes, *self._pixels.notes]

    @property
    def damage(self) -> Damage:
        return self._reader.damage

    @property
    def about(self) -> dict[str, Any]:
        stream = self._container.stream
        about: dict[str, Any] = {
            "decoder": f"PyAV {av.__version__}",
            "codec": self._container.codec,
            "format": self._container.format,
            "pixel_format": stream.codec_context.pix_fmt,
        }
        if start := self._container.start:
            about["start_time"] = round(start, 6)  # seconds: the time stamp at which `times` are 0
        if levels := self._pixels.levels:
            about["levels"] = [levels.low, levels.high]
        return about | ({"damage": self.damage.data} if self.damage.places else {})

    def frames(self) -> Iterator[Frame]:
        decoded = given = told = 0
        last = None
        try:
            for picture in self._reader.pictures():
                if last is None and not self.damage.places and picture.time > 1.5 / (self.fps or 25):
                    self._told.append(
                        f"the first {picture.time:.2f} s of {self.path} cannot be decoded: "
                        "it begins in the middle of a group of pictures"
                    )
                decoded, last = decoded + 1, picture
                for place in self.damage.places[told:_PLACES]:
                    self._tell(place)
                told = len(self.damage.places)
                if decoded <= self._start:
                    continue
                yield Frame(
                    self._pixels.rgb(picture.frame),
                    picture.number,
                    time=picture.time,
                    duration=picture.duration,
                )
                given += 1
                if given == self._count:
                    return
        except av.FFmpegError as e:
            raise ChaseError(self._broken_off(last, reason(e))) from None
        self._end(decoded, told, last)

    def _tell(self, place: Place, last: bool = False) -> None:
        self._told.append(
            f"{self.path} is {place}{', up to its end' if last else '; tracking goes on behind it'}"
        )

    def _end(self, decoded: int, told: int, last: Picture | None) -> None:
        """Says what was wrong, if anything was.

        Raises:
            ChaseError: nothing was decoded, or the source ends before the time that it announces.
        """
        if decoded == 0:
            raise ChaseError(
                f"{self.path} holds no frame that can be decoded ({self._container.codec}): "
                "it is empty or damaged"
            )
        if self._container.growing:
            self._told.append(f"{self.path} is still being written: its end is what was there")
        elif why := self._cut():
            raise ChaseError(self._broken_off(last, why))
        if decoded <= self._start:
            raise ChaseError(f"{self.path} has {decoded} frames: nothing is left after --start {self._start}")
        places = self.damage.places
        assert last is not None
        for place in places[told:_PLACES]:
            self._tell(place, place.frame > last.number or place.frame + place.changed > last.number)
        if len(places) > _PLACES:
            lost = sum(p.lost for p in places)
            self._told.append(
                f"{self.path} is damaged in {len(places)} places, {lost} frames in all cannot be decoded: "
                "result.json lists them"
            )

    def _cut(self) -> str | None:
        """How one knows that the source broke off, or None."""
        container = self._container
        if container.announced is not None:
            early = container.reached < container.announced - _SLACK / (self.fps or 25)
            return f"it announces {container.announced:.2f} s" if early and container.incomplete else None
        return (
            "what follows in the file cannot be read"
            if container.fragmented and container.incomplete
            else None
        )

    def _broken_off(self, last: Picture | None, why: str) -> str:
        if last is None:
            return f"{self.path} breaks off before its first frame ({why})"
        return f"{self.path} breaks off after frame {last.number} at {last.time:.2f} s ({why})"

    def close(self) -> None:
        self._container.close()
