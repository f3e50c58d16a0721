"""One run of the track command: first frame and boxes, then frame by frame to the files and the window."""

import dataclasses
import hashlib
import signal
import time
from collections.abc import Iterator
from collections.abc import Sequence as Many
from pathlib import Path
from typing import Any

from chase_fast.engines.folder import ExportedFolder
from chase_fast.errors import ChaseError
from chase_fast.runs import git_commit, versions
from chase_fast.runs.interrupt import Interrupt
from chase_fast.threads import cpu_threads
from chase_fast.track.annotated import AnnotatedVideo
from chase_fast.track.draw import Window, annotate, draw_box, enlargement
from chase_fast.track.frames import Box, check_box
from chase_fast.track.multi import MultiTracker
from chase_fast.track.options import Track
from chase_fast.track.progress import TrackProgress
from chase_fast.track.settings import TrackSettings
from chase_fast.track.sources.base import Frame, Source
from chase_fast.track.sources.masking import masked_data
from chase_fast.track.writer import Writer

_FPS = 30.0  # of a video made from a folder
_GAP = 1.0  # s between the frame of the box and the next one, above which the user is told


class Session:
    """Tracks an open source with the options of the command, into a folder that `check_folder` allowed."""

    def __init__(self, options: Track, source: Source, out: Path):
        self._options, self._source, self._out = options, source, out
        self._window: Window | None = None
        self._video: AnnotatedVideo | None = None
        self._scale = 1
        self._notes: list[str] = []  # those the user has seen

    def run(self, boxes: Many[Box]) -> int:
        """Returns the exit code.

        Raises:
            ChaseError: wrong box, no display to draw one, unusable checkpoint or source: before anything is
                written; or a source that breaks off, or a full disk: what was tracked until then is kept.
        """
        frames = self._source.frames()
        if self._source.live:  # its frames do not wait for the network
            tracker = self._load()
            tracker.warm_up(max(1, len(boxes)))
            first, boxes = self._first(frames, boxes)
        else:
            first, boxes = self._first(frames, boxes)
            tracker = self._load()
        about = self._about(tracker)
        self._started = time.perf_counter()
        tracker.init(first.image, boxes)
        if tracker.on_gpu:
            import torch

            torch.cuda.synchronize(tracker.device)
        seconds = time.perf_counter() - self._started

        self._first_frame = first
        self._writer = Writer(self._out, len(boxes), self._make_room)
        self._progress = TrackProgress(self._source.total, self._options.quiet)
        self._progress.say(f"{self._source.kind} {self._source.path} -> {self._out}, {tracker.about}")
        self._tell()
        interrupt, end, error = Interrupt(*_heard()), "end of the source", None
        try:
            with interrupt:
                end = self._track(tracker, interrupt.until(frames), boxes, seconds)
            if interrupt.asked:
                end = "interrupted"
        except KeyboardInterrupt:
            end = "interrupted"
        except ChaseError as e:
            error, end = e, str(e)
        except Exception as e:
            self._finish(f"{type(e).__name__}: {e}", about)
            raise
        unwritten = self._finish(end, about)
        if error or unwritten:
            without = f" without result.json ({unwritten})" if error and unwritten else ""
            raise ChaseError(f"{error or unwritten}; results of {self._kept()} are in {self._out}{without}")
        self._progress.say(self._summary())
        if end == "interrupted":
            self._progress.note(f"stopped; results of {self._kept()} are in {self._out}")
            return interrupt.code
        return 0

    def _load(self) -> MultiTracker:
        options = self._options
        how = options.preset, options.device, options.seed, not options.no_graphs, options.precision
        return MultiTracker.load(
            options.checkpoint, *how, options.engine, **TrackSettings.parse_changes(options.set)
        )

    def _first(self, frames: Iterator[Frame], boxes: Many[Box]) -> tuple[Frame, Many[Box]]:
        """The first frame and the targets in it, drawn by the user if none is given."""
        first = next(frames, None)
        if first is None:
            raise ChaseError(f"{self._source.path} holds no frame")
        for box in boxes:
            check_box(box, first.image)
        return first, boxes or [draw_box(first.image)]

    def _track(self, tracker: MultiTracker, frames: Iterator[Frame], boxes: Many[Box], seconds: float) -> str:
        """Frame by frame; why it ended. seconds: that learning the targets took."""
        going = self._record(self._first_frame, boxes, [None] * len(boxes), ["given"] * len(boxes), seconds)
        if going and self._options.frames == 1:
            return "--frames reached"
        for frame in frames if going else ():
            results = tracker.update(frame.image)
            if len(self._writer.frames) == 1:
                self._tell_gap(frame)
            boxes, scores, states = zip(*((r.box, r.score, r.state) for r in results))
            going = self._record(frame, boxes, scores, states, results[0].seconds)
            if not going:
                break
            if len(self._writer.frames) == self._options.frames:
                return "--frames reached"
        return "end of the source" if going else "stopped in the window"

    def _tell_gap(self, second: Frame) -> None:
        """A live source went on while the box was drawn and learned."""
        start, end = self._first_frame.time, second.time
        if not self._source.live or start is None or end is None:
            return
        if (gap := end - start) > _GAP:
            self._warn(
                f"{gap:.1f} s lie between the frame of the box and the next tracked one: "
                "the target may have moved"
            )

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
        changed = writer.add(frame, boxes, scores, states, seconds)
        height, width = frame.image.shape[:2]
        self._tell()
        if changed:
            self._warn(f"frame {frame.number}: the frames now have {width}x{height} pixels")
        progress.frame(states)
        if options.no_video and not options.show:
            return True
        picture = annotate(frame.image, boxes, states, scores, frame.number, progress.fps)
        if not options.no_video:
            self._add_to_video(picture, frame)
        if options.show:
            height, width = picture.shape[:2]
            self._window = self._window or Window(width, height)
            return self._window.show(picture)
        return True

    def _add_to_video(self, picture, frame: Frame) -> None:
        fps = self._options.fps or self._source.fps or _FPS
        if self._video is None:
            self._scale = enlargement(frame.image.shape[1], frame.image.shape[0])
            self._video = AnnotatedVideo(self._out, picture.shape[1], picture.shape[0], fps)
            self._tell()
        if self._options.fps or frame.time is None or self._first_frame.time is None:
            self._video.add(picture, (frame.number - self._first_frame.number) / fps, 1 / fps)
        else:
            self._video.add(picture, frame.time - self._first_frame.time, frame.duration)

    def _make_room(self) -> bool:
        """The disk is full: boxes matter more than the annotated video."""
        if self._video is None or self._video.name is None:
            return False
        self._warn(f"the disk is full: {self._video.name} is removed to make room for boxes and result.json")
        self._video.remove()
        return True

    def _tell(self) -> None:
        """What source and video have to say since the last time."""
        for note in [*self._source.notes, *(self._video.notes if self._video else ())]:
            self._warn(note)

    def _warn(self, text: str) -> None:
        if text not in self._notes:
            self._notes.append(text)
            self._progress.warn(text)

    def _finish(self, end: str, about: dict[str, Any]) -> ChaseError | None:
        """Closes everything and writes result.json; what keeps it from being written."""
        self._progress.stop()
        if self._video:
            self._video.close()
        if self._window:
            self._window.close()
        self._tell()
        video, source = self._video, self._source
        told = {
            "source": about["source"] | source.about,
            "notes": self._notes,
            "video": video.name if video else None,
        }
        if video and video.name:
            told |= {"video_codec": video.codec, "video_scale": self._scale}
        took = {"seconds_in_all": time.perf_counter() - self._started}
        try:
            self._writer.finish(masked_data({"command": "track", "end": end} | about | told | took))
        except ChaseError as e:
            return e
        return None

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
            **({"engine": tracker.engine} if tracker.engine else {}),
            **(_model(tracker.exported) if tracker.exported else {}),
            "graphs": tracker.on_gpu and not options.no_graphs,
            "threads": cpu_threads(),
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
            scaled = f", scaled x{self._scale}" if self._scale > 1 else ""
            lines.append(f"video: {self._out / self._video.name} ({self._video.codec}{scaled})")
        return "\n".join(lines)


def _model(exported: ExportedFolder) -> dict[str, str]:
    """Which model of an exported folder tracked."""
    return {"model_sha256": exported.model_digest, "model_precision": exported.about.text("precision")}


def _heard() -> list[int]:
    """Signals that end the work, but for ignored ones (nohup, jobs in the background of a script)."""
    numbers = [getattr(signal, n) for n in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, n)]
    return [n for n in numbers if signal.getsignal(n) is not signal.SIG_IGN]
