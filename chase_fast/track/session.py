"""One run of the track command: first frame and boxes, then frame by frame to the files and the window."""

import dataclasses
import hashlib
import signal
import sys
import time
from collections.abc import Iterator
from collections.abc import Sequence as Many
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from chase_fast.errors import ChaseError
from chase_fast.runs import git_commit, versions
from chase_fast.track.draw import Window, annotate, display_problem, draw_box
from chase_fast.track.frames import Box, check_box
from chase_fast.track.multi import MultiTracker
from chase_fast.track.progress import TrackProgress
from chase_fast.track.source import Frame, Source
from chase_fast.track.writer import VideoFile, Writer

if TYPE_CHECKING:
    from chase_fast.track.__main__ import Track

_FPS = 30.0  # of a video made from a folder


class Interrupt:
    """Ctrl-C and SIGTERM. Once: `asked` is set, a wait for a frame ends at once; twice: everything ends."""

    def __init__(self):
        self.asked = self.waiting = False

    def __enter__(self):
        self._before = {n: signal.signal(n, self._stop) for n in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *error):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _stop(self, number, frame):
        if self.asked or self.waiting:
            raise KeyboardInterrupt
        self.asked = True

    def frames(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """The frames until someone asks to stop."""
        while not self.asked:
            self.waiting = True
            try:
                frame = next(frames, None)
            except KeyboardInterrupt:
                self.asked = True
                return
            finally:
                self.waiting = False
            if frame is None:
                return
            yield frame


class Session:
    """Tracks an open source with the options of the command, into a folder that `check_folder` allowed."""

    def __init__(self, options: "Track", source: Source, out: Path):
        self._options, self._source, self._out = options, source, out
        self._window: Window | None = None
        self._video: VideoFile | None = None

    def run(self, boxes: Many[Box]) -> int:
        """Returns the exit code.

        Raises:
            ChaseError: wrong box, no display to draw one, unusable checkpoint or source: before anything is
                written; or a source that breaks off, or a full disk: what was tracked until then is kept.
        """
        frames = self._source.frames()
        first, boxes = self._first(frames, boxes)
        options = self._options
        how = options.preset, options.device, options.seed, not options.no_graphs, options.precision
        tracker = MultiTracker.load(options.checkpoint, *how)
        about = self._about(tracker)
        self._started = time.perf_counter()
        tracker.init(first.image, boxes)
        if tracker.device.type == "cuda":
            torch.cuda.synchronize(tracker.device)
        seconds = time.perf_counter() - self._started

        self._writer = Writer(self._out, len(boxes))
        self._progress = TrackProgress(self._source.total, options.quiet)
        for note in self._source.notes:
            self._progress.warn(note)
        self._progress.say(f"{self._source.kind} {self._source.path} -> {self._out}, {tracker.about}")
        end = "end of the source"
        try:
            with Interrupt() as interrupt:
                going = self._record(first, boxes, [None] * len(boxes), ["given"] * len(boxes), seconds)
                for frame in interrupt.frames(frames) if going else ():
                    results = tracker.update(frame.image)
                    columns = zip(*((r.box, r.score, r.state) for r in results))
                    if not self._record(frame, *columns, results[0].seconds):
                        end = "stopped in the window"
                        break
            if interrupt.asked:
                end = "interrupted"
        except KeyboardInterrupt:
            end = "interrupted"
        except ChaseError as e:
            end = str(e)
            raise ChaseError(f"{e}; results of {self._kept()} are in {self._out}") from None
        except Exception as e:
            end = f"{type(e).__name__}: {e}"
            raise
        finally:
            self._progress.stop()
            if self._video:
                self._video.close()
            if self._window:
                self._window.close()
            shown = {"video": self._video.name if self._video else None}
            took = {"seconds_in_all": time.perf_counter() - self._started}
            self._writer.finish({"command": "track", "end": end} | about | shown | took)
        self._progress.say(self._summary())
        if end == "interrupted":
            print(f"stopped; results of {self._kept()} are in {self._out}", file=sys.stderr)
            return 130
        return 0

    def _first(self, frames: Iterator[Frame], boxes: Many[Box]) -> tuple[Frame, Many[Box]]:
        """The first frame and the targets in it, drawn by the user if none is given."""
        if (self._options.show or not boxes) and (problem := display_problem()):
            cure = "leave out --show" if boxes else "give the target with --box x,y,w,h"
            raise ChaseError(f"{problem}: {cure}")
        first = next(frames, None)
        if first is None:
            raise ChaseError(f"{self._source.path} holds no frame")
        for box in boxes:
            check_box(box, first.image)
        return first, boxes or [draw_box(first.image)]

    def _record(
        self,
        frame: Frame,
        boxes: Many[Box],
        scores: Many[float | None],
        states: Many[str],
        seconds: float,
    ) -> bool:
        """Writes and shows one frame; False if the user wants to stop."""
        writer, progress, options = self._writer, self._progress, self._options
        before = writer.frames[-1] if writer.frames else frame.number - 1
        if writer.add(frame, boxes, scores, states, seconds):
            height, width = frame.image.shape[:2]
            progress.warn(f"frame {frame.number}: the frames now have {width}x{height} pixels")
        progress.frame(states)
        if options.no_video and not options.show:
            return True
        picture = annotate(frame.image, boxes, states, scores, frame.number, progress.fps)
        height, width = picture.shape[:2]
        if not options.no_video:
            self._video = self._video or self._open_video(width, height)
            self._video.add(picture, frame.number - before)
        if options.show:
            self._window = self._window or Window(width, height)
            return self._window.show(picture)
        return True

    def _open_video(self, width: int, height: int) -> VideoFile:
        video = VideoFile(self._out, width, height, self._options.fps or self._source.fps or _FPS)
        if video.name is None:
            self._progress.warn("OpenCV can write neither mp4 nor avi here: no annotated video is made")
        elif video.name.endswith("avi"):
            self._progress.warn("OpenCV cannot write mp4 here: the annotated video is annotated.avi")
        return video

    def _about(self, tracker: MultiTracker) -> dict[str, Any]:
        """What result.json says beside the frames."""
        options, source = self._options, self._source
        with open(options.checkpoint, "rb") as f:
            digest = hashlib.file_digest(f, "sha256").hexdigest()
        return {
            "source": {"path": source.path, "kind": source.kind, "fps": source.fps, "start": options.start},
            "checkpoint": str(options.checkpoint),
            "checkpoint_sha256": digest,
            "spec": tracker.spec.to_data(),
            "preset": options.preset,
            "settings": dataclasses.asdict(tracker.settings),
            "seed": options.seed,
            "device": str(tracker.device),
            "precision": options.precision,
            "graphs": tracker.device.type == "cuda" and not options.no_graphs,
            "threads": torch.get_num_threads(),
            "versions": versions(),
            "commit": git_commit(),
        }

    def _kept(self) -> str:
        frames = len(self._writer.frames)
        return f"{frames} frames" if frames != 1 else "the first frame"

    def _summary(self) -> str:
        writer, speed = self._writer, self._writer.speed()
        lost = [sum(s == "lost" for s in c.states) for c in writer.columns]
        whole = len(writer.frames) / (time.perf_counter() - self._started)
        lines = [
            f"{len(writer.frames)} frames, lost in {', '.join(map(str, lost))}; tracker "
            f"{speed['fps_total']:.1f} fps (mean of 1/t: {speed['fps_mean_of_frames']:.1f}), "
            f"with reading and writing {whole:.1f} fps",
            f"boxes: {', '.join(str(self._out / name) for name in writer.names)}",
        ]
        if self._video and self._video.name:
            lines.append(f"video: {self._out / self._video.name}")
        return "\n".join(lines)
