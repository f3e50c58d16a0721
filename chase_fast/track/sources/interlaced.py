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
        graph = self._graph or self._open(frame, kind)
        graph.vpush(frame)
        yield from self._pull(graph)

    def flush(self) -> Iterator["av.VideoFrame"]:
        """The frames that wait, at the end."""
        if self._graph is not None:
            self._graph.vpush(None)
            yield from self._pull(self._graph)
            self._graph = None

    def _open(self, frame: "av.VideoFrame", kind: tuple[int, int, str]) -> Graph:
        self._kind, self._graph = kind, graph = kind, Graph()
        buffer = graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
        )
        whole, sink = graph.add(*_FILTER), graph.add("buffersink")
        graph.link_nodes(buffer, whole, sink).configure()
        if not self.notes:
            self.notes.append(
                "the video is interlaced: its frames are deinterlaced (bwdif), one picture per frame"
            )
        return graph

    def _pull(self, graph: Graph) -> Iterator["av.VideoFrame"]:
        while True:
            try:
                yield graph.vpull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
