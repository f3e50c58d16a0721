"""Interlaced pictures (camcorders, DVD, broadcast) -> whole ones: FFmpeg's bwdif, one for each frame."""

from collections.abc import Iterator

import av
from av.filter import Graph

_FILTER = ("bwdif", "mode=send_frame:deint=interlaced")  # frames that are not interlaced pass unchanged


class Deinterlacer:
    """Frames pass until the first interlaced one comes; from there on each waits for the next."""

    def __init__(self):
        self._graph: Graph | None = None
        self._kind: tuple[int, int, str] | None = None
        self.notes: list[str] = []

    def push(self, frame: "av.VideoFrame") -> Iterator["av.VideoFrame"]:
        kind = frame.width, frame.height, frame.format.name
        if self._graph is not None and kind != self._kind:
            yield from self.flush()
        if self._graph is None and not frame.interlaced_frame:
            yield frame
            return
        if self._graph is None:
            self._open(frame, kind)
        self._graph.vpush(frame)
        yield from self._pull()

    def flush(self) -> Iterator["av.VideoFrame"]:
        """The frames that wait, at the end."""
        if self._graph is not None:
            self._graph.vpush(None)
            yield from self._pull()
            self._graph = None

    def _open(self, frame: "av.VideoFrame", kind: tuple[int, int, str]) -> None:
        self._kind, self._graph = kind, Graph()
        buffer = self._graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
        )
        whole, sink = self._graph.add(*_FILTER), self._graph.add("buffersink")
        self._graph.link_nodes(buffer, whole, sink).configure()
        if not self.notes:
            self.notes.append(
                "the video is interlaced: its frames are deinterlaced (bwdif), one picture per frame"
            )

    def _pull(self) -> Iterator["av.VideoFrame"]:
        while True:
            try:
                yield self._graph.vpull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
