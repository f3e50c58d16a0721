"""TensorBoard scalars of a run."""

import os
import platform
import time
from collections.abc import Mapping
from typing import Any

from chase_fast.files import cannot_write
from chase_fast.runs.folder import EVENTS, KEPT, RunFolder


class EventFile:
    """TensorBoard scalars of a run, appended row by row; opening replaces an earlier event file."""

    def __init__(self, folder: RunFolder):
        from tensorboard.compat.proto.event_pb2 import Event

        self.path = folder / f"{EVENTS}tfevents.{int(time.time())}.{platform.node()}.{os.getpid()}"
        try:
            for old in folder.path.glob(f"{EVENTS}tfevents.*"):
                old.unlink()
        except OSError as e:
            raise cannot_write(old, e, KEPT) from e
        self._append(Event(wall_time=time.time(), file_version="brain.Event:2"))

    def _append(self, event) -> None:
        from tensorboard.summary.writer.record_writer import RecordWriter

        try:
            with open(self.path, "ab") as f:
                RecordWriter(f).write(event.SerializeToString())
        except OSError as e:
            raise cannot_write(self.path, e, KEPT) from e

    def add(self, step: int, row: Mapping[str, Any]) -> None:
        """Every number of a row as a scalar at this step; other values are left out."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [
            Summary.Value(tag=tag, simple_value=float(value))
            for tag, value in row.items()
            if isinstance(value, int | float)
        ]
        self._append(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))
