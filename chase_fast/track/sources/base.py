"""What every source of frames is: RGB uint8 [H, W, 3], one by one."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class Frame:
    """image: RGB uint8 [H, W, 3]; number: in the source, from 0; name: of its file in a folder."""

    image: np.ndarray
    number: int
    name: str | None = None


class Source(Protocol):
    """An open source.

    Attributes:
        kind: folder, video, camera or stream.
        path: what is read.
        total: frames that will come, None if nobody knows; a container may announce a wrong number.
        fps: frames per second, None if unknown.
        notes: what the user should know before tracking.
    """

    kind: str
    path: str
    total: int | None
    fps: float | None
    notes: list[str]

    def frames(self) -> Iterator[Frame]:
        """The frames, once.

        Raises:
            ChaseError: the source ends before its end; the frames before are good.
        """

    def close(self) -> None:
        """Frees device and file."""
