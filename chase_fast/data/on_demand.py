"""Sequences whose items are made when they are asked for."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import TypeVar, overload

T = TypeVar("T", covariant=True)


class OnDemand(Sequence[T]):
    """Subclasses say how many items there are and make one; places below 0 count from the end, a slice is a
    list."""

    @abstractmethod
    def item(self, place: int) -> T:
        """The item of this place, 0 or more and below the length."""

    @overload
    def __getitem__(self, place: int) -> T: ...
    @overload
    def __getitem__(self, place: slice) -> list[T]: ...
    def __getitem__(self, place):
        chosen = range(len(self))[place]
        return [self.item(k) for k in chosen] if isinstance(chosen, range) else self.item(chosen)
