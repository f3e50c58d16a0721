"""What every source of frames is: RGB uint8 [H, W, 3], one by one."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np


@dataclass(frozen=True)
class Frame:
    """image: RGB uint8 [H, W, 3]; number: in the source, from 0; name: of its file in a folder; time: seconds
    since the beginning of the source; duration: seconds it is shown; None where nobody knows."""

    image: np.ndarray
    number: int
    name: str | None = None
    time: float | None = None
    duration: float | None = None


class Source(Protocol):
    """An open source.

    Attributes:
        kind: folder, video, camera or stream.
        path: what is read, without passwords.
        live: frames that nobody takes are lost: the newest one is given.
        total: frames that will come, None if nobody knows; a container may announce a wrong number.
        fps: frames per second, None if unknown.
        notes: what the user should know; more may come with every frame.
        about: what result.json says about it.
    """

    @property
    def kind(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def live(self) -> bool: ...
    @property
    def total(self) -> int | None: ...
    @property
    def fps(self) -> float | None: ...
    @property
    def notes(self) -> list[str]: ...
    @property
    def about(self) -> dict[str, Any]: ...

    def frames(self) -> Iterator[Frame]:
        """The frames, once.

        Raises:
            ChaseError: the source ends before its end; the frames before are good.
        """

    def close(self) -> None:
        """Frees device and file."""
