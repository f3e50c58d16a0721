"""What the track command leaves behind: result.json, the annotated video, whatever ends the run."""

import errno
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from chase_fast.track import MultiTracker, annotated, draw, encoders, session, writer
from chase_fast.track.__main__ import main
from chase_fast.track.annotated import AnnotatedVideo
from chase_fast.track.encoders import H264
from chase_fast.track.sources.live import Live
from chase_fast.track.writer import readable
from tests.clips import RED, encode, number_in, picture, pictures
from tests.servers import Camera, served
from tests.tiny import tiny_tracker
from tests.tolerances import COLOUR_LEVELS

BOX = "60,40,30,30"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return tiny_tracker(tmp_path_factory.mktemp("run") / "best.safetensors")


@pytest.fixture(scope="module")
def tracker(checkpoint):
    return MultiTracker.load(checkpoint, preset="balanced", device="cpu")


@pytest.fixture
def track(checkpoint, tracker, tmp_path, monkeypatch):
    """track(source, *flags) -> exit code; results in tmp_path / "out". The network is loaded only once."""
    monkeypatch.setattr(MultiTracker, "load", lambda *a, **k: tracker)

    def run(source, *flags):
        given = ["--box", BOX, "--checkpoint", str(checkpoint.parent), "--out", str(tmp_path / "out")]
        return main([str(source), *given, "--device", "cpu", "--preset", "balanced", *flags])

    return run


def result(tmp_path: Path) -> dict:
    return json.loads((tmp_path / "out" / "result.json").read_text())


def boxes(tmp_path: Path) -> list[list[float]]:
    text = (tmp_path / "out" / "boxes.txt").read_text()
    return [[float(v) for v in line.split(",")] for line in text.splitlines()]


def decoded(path: Path) -> list[tuple[float, np.ndarray]]:
    """(seconds, RGB) of a video."""
    with av.open(str(path)) as opened:
        return [(float(f.pts * f.time_base), f.to_ndarray(format="rgb24")) for f in opened.decode(video=0)]


def length(path: Path) -> float:
    with av.open(str(path)) as opened:
        return opened.duration / av.time_base


def test_result_json_holds_everything_and_can_be_read(track, tmp_path, checkpoint, capsys):
    times = [0, Fraction(1, 10), Fraction(3, 2), Fraction(8, 5)]
    video = encode(tmp_path / "v.mp4", pictures(4, 160, 120), rate=10, times=times)
    assert track(video) == 0
    about, said = result(tmp_path), capsys.readouterr()
    assert about["frames"] == [0, 1, 2, 3] and about["times"] == pytest.approx([0, 0.1, 1.5, 1.6])
    assert about["targets"][0]["file"] == "boxes.txt" and about["targets"][0]["boxes"] == boxes(tmp_path)
    assert about["source"]["decoder"].startswith("PyAV ") and about["source"]["codec"] == "H.264"
    assert about["checkpoint"] == str(checkpoint) and about["end"] == "end of the source"
    assert (about["video"], about["video_codec"], about["video_scale"]) == ("annotated.mp4", "H.264", 3)
    assert said.out.startswith(f"opening {video}, loading {checkpoint}") and "(H.264, scaled x3)" in said.out
    assert said.err == "" and about["notes"] == []
    text = (tmp_path / "out" / "result.json").read_text()
    assert len(text.splitlines()) > 30 and max(map(len, text.splitlines())) < 400
    rows = [line for line in text.splitlines() if re.fullmatch(r"\s+\[[\d., -]+\],?", line)]
    assert len(rows) >= 4, "a box has no line of its own"


def test_json_for_people_is_the_same_json():
    value = {
        "a": [],
        "b": {},
        "c": [1, "x", None],
        "d": [[1, 2], [3]],
        "e": [{"f": [1.5]}, {}],
        "g": {"h": 'q"'},
    }
    text = readable(value)
    assert json.loads(text) == value and '  "c": [1, "x", null]' in text.splitlines()[3]


def test_the_reason_of_the_end_is_the_true_one(track, tmp_path, monkeypatch):
    video = encode(tmp_path / "v.mp4", pictures(5, 160, 120))
    for flags, end in (
        (("--frames", "3"), "--frames reached"),
        (("--frames", "1"), "--frames reached"),
        (("--start", "2", "--frames", "2"), "--frames reached"),
        (("--start", "2", "--frames", "9"), "end of the source"),
        ((), "end of the source"),
    ):
        assert track(video, "--overwrite", "--no-video", "--quiet", *flags) == 0
        assert result(tmp_path)["end"] == end
    assert result(tmp_path)["video"] is None and "video_scale" not in result(tmp_path)
    monkeypatch.setattr(draw, "display_problem", lambda: None)
    monkeypatch.setattr(
        session, "Window", lambda *a: type("W", (), {"show": lambda *a: False, "close": lambda *a: 0})()
    )
    assert track(video, "--overwrite", "--show", "--quiet") == 0
    assert result(tmp_path)["end"] == "stopped in the window"


@pytest.mark.parametrize("name, code", [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_signals_end_it_in_order_with_their_own_code(track, tmp_path, monkeypatch, capsys, name, code):
    video, update, seen = encode(tmp_path / "v.mp4", pictures(8, 160, 120)), MultiTracker.update, []

    def interrupted(self, frame):
        seen.append(frame)
        if len(seen) == 2:
            os.kill(os.getpid(), getattr(signal, name))
        return update(self, frame)

    monkeypatch.setattr(MultiTracker, "update", interrupted)
    before = signal.getsignal(getattr(signal, name))
    assert track(video) == code and signal.getsignal(getattr(signal, name)) is before
    assert result(tmp_path)["end"] == "interrupted" and len(boxes(tmp_path)) == 3
    assert "stopped; results of 3 frames" in capsys.readouterr().err
    assert len(decoded(tmp_path / "out" / "annotated.mp4")) == 3


def test_a_signal_that_is_ignored_stays_ignored(track, tmp_path, monkeypatch):
    video, update = encode(tmp_path / "v.mp4", pictures(3, 160, 120)), MultiTracker.update
    monkeypatch.setattr(
        MultiTracker, "update", lambda s, f: (os.kill(os.getpid(), signal.SIGHUP), update(s, f))[1]
    )
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nohup
    try:
        assert track(video, "--no-video") == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_annotated_video_has_the_times_of_its_source(track, tmp_path):
    times = [0, Fraction(1, 10), Fraction(5), Fraction(26, 5), Fraction(53, 10)]
    video = encode(tmp_path / "v.mkv", pictures(5, 500, 120), rate=10, times=times)
    assert track(video, "--start", "1") == 0
    found = [t for t, _ in decoded(tmp_path / "out" / "annotated.mp4")]
    assert found == pytest.approx([0, 4.9, 5.1, 5.2], abs=0.002)
    assert length(tmp_path / "out" / "annotated.mp4") == pytest.approx(5.3, abs=0.11)
    assert track(video, "--overwrite", "--fps", "5") == 0
    assert [t for t, _ in decoded(tmp_path / "out" / "annotated.mp4")] == pytest.approx(
        [0, 0.2, 0.4, 0.6, 0.8]
    )


@pytest.mark.parametrize("size", [(641, 481), (640, 481), (641, 480)])
def test_the_annotated_video_of_an_odd_size_has_every_row_and_column(tmp_path, size):
    width, height = size
    image = np.full((height, width, 3), 40, np.uint8)
    image[-1], image[:, -1] = 230, 230
    video = AnnotatedVideo(tmp_path, width, height, 25)
    for i in range(3):
        video.add(image, i / 25)
    video.close()
    _, shown = decoded(tmp_path / "annotated.mp4")[-1]
    assert shown.shape[0] >= height and shown.shape[1] >= width and video.notes == []
    assert shown[height - 1, :width].min() > 180 and shown[:height, width - 1].min() > 180
    assert shown[: height - 3, : width - 3].max() < 90


def test_browsers_play_the_annotated_video_in_its_colours(tmp_path):
    video = AnnotatedVideo(tmp_path, 640, 480, 30)
    for i in range(5):
        video.add(picture(i, 640, 480)[..., ::-1], i / 30)
    video.close()
    with av.open(str(tmp_path / "annotated.mp4")) as opened:
        stream = opened.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (stream.codec_context.colorspace, stream.codec_context.color_range) == (
            1,
            1,
        ) and stream.frames == 5
        assert stream.average_rate == 30
        images = [f.to_ndarray(format="rgb24") for f in opened.decode(video=0)]
    assert [number_in(i) for i in images] == list(range(5))
    assert np.abs(images[2][400, 100].astype(int) - RED).max() <= 2 * COLOUR_LEVELS
    data = (tmp_path / "annotated.mp4").read_bytes()
    assert b"moof" not in data[:40] and data.rindex(b"moov") > data.index(b"mdat")  # a common MP4 in the end


def test_after_a_kill_the_video_so_far_plays(tmp_path):
    program = f"""
import os, signal
from pathlib import Path
from tests.clips import picture
from chase_fast.track.annotated import AnnotatedVideo
video = AnnotatedVideo(Path({str(tmp_path)!r}), 640, 480, 25)
for i in range(20):
    video.add(picture(i, 640, 480)[..., ::-1], i / 25)
os.kill(os.getpid(), signal.SIGKILL)
"""
    root = str(Path(__file__).parents[1])
    done = subprocess.run([sys.executable, "-c", program], cwd=root, env=os.environ | {"PYTHONPATH": root})
    assert done.returncode == -signal.SIGKILL
    frames = decoded(tmp_path / "annotated.mp4")
    assert len(frames) >= 17 and [number_in(f) for _, f in frames] == list(range(len(frames)))
    capture, seen = cv2.VideoCapture(str(tmp_path / "annotated.mp4")), 0
    while capture.read()[0]:
        seen += 1
    assert seen >= 17


def test_without_h264_the_next_best_is_written_and_said(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    video = AnnotatedVideo(tmp_path, 321, 241, 20)
    for i in range(4):
        video.add(np.full((241, 321, 3), 60 * i, np.uint8), [0, 0.05, 0.5, 0.55][i], 0.05)
    video.close()
    assert "PyAV (av) is not installed" in video.notes[0] and "browsers do not play" in video.notes[0]
    capture = cv2.VideoCapture(str(tmp_path / video.name))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 12  # 0.6 s at 20 per second
    assert (capture.get(cv2.CAP_PROP_FRAME_WIDTH), capture.get(cv2.CAP_PROP_FRAME_HEIGHT)) == (322, 242)
    monkeypatch.setattr(annotated, "_OTHERS", ())
    none = AnnotatedVideo(tmp_path, 64, 64, 20)
    none.add(np.zeros((64, 64, 3), np.uint8), 0)
    none.close()
    assert none.name is None and "no annotated video is made" in none.notes[0]


def test_a_file_size_limit_stops_the_video_not_the_tracking(track, tmp_path, capsys):
    """RLIMIT_FSIZE: the annotated video grows beyond it, the boxes do not."""
    generator = np.random.default_rng(0)
    noise = [generator.integers(0, 256, (480, 640, 3), dtype=np.uint8) for _ in range(4)]
    video = encode(tmp_path / "v.mkv", noise, "ffv1", "yuv420p")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, before[1]))
    try:
        assert track(video) == 0
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    (warning,) = capsys.readouterr().err.splitlines()
    assert re.match(
        r"warning: annotated.mp4 ends at .* \(the disk is full\): tracking goes on without it", warning
    )
    assert len(boxes(tmp_path)) == 4 and result(tmp_path)["end"] == "end of the source"
    assert result(tmp_path)["notes"] == [warning.removeprefix("warning: ")]


def full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_gives_up_the_video_for_the_boxes(track, tmp_path, monkeypatch, capsys):
    video, write, calls = encode(tmp_path / "v.mp4", pictures(6, 160, 120)), writer._write_all, []

    def sometimes_full(file, data):
        calls.append(data)
        if len(calls) > 3 and (tmp_path / "out" / "annotated.mp4").exists():
            file.write(data[:5])
            full()
        write(file, data)

    monkeypatch.setattr(writer, "_write_all", sometimes_full)
    assert track(video) == 0
    assert len(boxes(tmp_path)) == 6 and all(len(b) == 4 for b in boxes(tmp_path))
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["boxes.txt", "result.json"]
    (warning,) = capsys.readouterr().err.splitlines()
    assert "the disk is full: annotated.mp4 is removed to make room" in warning
    assert result(tmp_path)["video"] is None and result(tmp_path)["notes"]


def test_a_disk_that_stays_full_is_one_true_sentence(track, tmp_path, monkeypatch, capsys):
    video, write, calls = encode(tmp_path / "v.mp4", pictures(6, 160, 120)), writer._write_all, []

    def then_full(file, data):
        calls.append(data)
        return write(file, data) if len(calls) <= 3 else full()

    monkeypatch.setattr(writer, "_write_all", then_full)
    assert track(video, "--no-video") == 2
    (message,) = capsys.readouterr().err.splitlines()
    assert "disk full while writing" in message and "boxes.txt: free some space" in message
    assert "results of 3 frames are in" in message and "resume" not in message
    assert len(boxes(tmp_path)) == 3 == len(result(tmp_path)["frames"])
    calls.clear()
    monkeypatch.setattr(
        writer, "write_atomic", lambda *a: (_ for _ in ()).throw(writer.cannot_write(a[0], _enospc()))
    )
    assert track(video, "--no-video", "--overwrite") == 2
    (message,) = capsys.readouterr().err.splitlines()
    assert "without result.json" in message


def _enospc() -> OSError:
    return OSError(errno.ENOSPC, "No space left on device")


def test_a_writer_that_fails_in_the_middle_is_noticed(track, tmp_path, monkeypatch, capsys):
    add, calls = H264.add, []

    def fails(self, *arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise encoders.CannotEncode("the encoder broke")
        add(self, *arguments)

    monkeypatch.setattr(H264, "add", fails)
    assert track(encode(tmp_path / "v.mp4", pictures(6, 160, 120))) == 0
    (warning,) = capsys.readouterr().err.splitlines()
    assert "annotated.mp4 ends at 0.08 s (the encoder broke): tracking goes on without it" in warning
    assert len(boxes(tmp_path)) == 6 and len(decoded(tmp_path / "out" / "annotated.mp4")) == 2


def test_the_speed_on_the_pictures_is_no_nonsense(track, tmp_path, monkeypatch):
    shown = []
    drawn = session.annotate
    monkeypatch.setattr(session, "annotate", lambda *a: (shown.append(a[4:]), drawn(*a))[1])
    assert track(encode(tmp_path / "v.mp4", pictures(4, 160, 120)), "--quiet") == 0
    assert [number for number, _ in shown] == [0, 1, 2, 3]
    assert shown[0][1] is None and all(fps and fps < 500 for _, fps in shown[1:])


def test_a_damaged_and_a_cut_video_are_in_result_json(track, tmp_path, capsys):
    path = encode(tmp_path / "v.avi", pictures(30, 320, 240), "mjpeg", "yuvj420p")
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 9000] = bytes(9000)
    path.write_bytes(data)
    assert track(path, "--no-video") == 0
    about, (warning,) = result(tmp_path), capsys.readouterr().err.splitlines()
    (place,) = about["source"]["damage"]
    assert place["lost"] == 30 - len(about["frames"]) > 0 and about["frames"][-1] == 29
    assert f"damaged at frame {place['frame']} ({place['time']:.2f} s)" in warning and about["notes"] == [
        warning[9:]
    ]
    cut = tmp_path / "cut.avi"
    cut.write_bytes(data[: len(data) // 3])
    assert track(cut, "--no-video", "--overwrite") == 2
    about, (message,) = result(tmp_path), capsys.readouterr().err.splitlines()
    assert about["end"] in message and "breaks off after frame" in about["end"]
    assert f"results of {len(boxes(tmp_path))} frames are in" in message


def test_live_the_network_is_ready_before_the_frame_of_the_box(track, tmp_path, monkeypatch, capsys):
    """The network takes a second to load: no picture of that second is the first one."""
    load, order = MultiTracker.load, []  # the fixture's
    camera = Camera(rate=50)

    def slow(*arguments, **more):
        time.sleep(1)
        order.append(("loaded", camera.sent))
        return load(*arguments, **more)

    taken = Live._next

    def noted(self):
        found = taken(self)
        order.append(("taken", found[2]))
        return found

    monkeypatch.setattr(MultiTracker, "load", slow)
    monkeypatch.setattr(Live, "_next", noted)
    with served(camera.answer) as host:
        assert track(f"http://admin:s3cr3t@{host}/live?token=abcdef", "--frames", "4") == 0
    assert order[0][0] == "loaded" and order[0][1] > 30
    first = result(tmp_path)["frames"][0]
    assert first >= order[0][1] - 5 and order[1] == ("taken", first)
    said = capsys.readouterr()
    text = said.out + said.err + (tmp_path / "out" / "result.json").read_text()
    assert "s3cr3t" not in text and "abcdef" not in text and "http://***@127.0.0.1" in text
    about = result(tmp_path)
    assert about["times"][0] == 0 and about["times"] == sorted(about["times"])


def test_a_gap_behind_the_frame_of_a_drawn_box_is_told(track, tmp_path, monkeypatch, capsys, checkpoint):
    monkeypatch.setattr(draw, "display_problem", lambda: None)
    monkeypatch.setattr(session, "draw_box", lambda image: (time.sleep(1.3), (60.0, 40.0, 30.0, 30.0))[1])
    with served(Camera(rate=50).answer) as host:
        argv = [
            f"http://{host}/",
            "--checkpoint",
            str(checkpoint),
            "--out",
            str(tmp_path / "out"),
            "--frames",
            "3",
        ]
        assert main([*argv, "--device", "cpu"]) == 0
    (warning,) = capsys.readouterr().err.splitlines()
    gap = float(re.match(r"warning: ([\d.]+) s lie between", warning)[1])
    times = result(tmp_path)["times"]
    assert gap == pytest.approx(times[1], abs=0.06) and 1.3 <= gap < 4


def test_warming_up_changes_no_box(tracker):
    frames = pictures(4, 160, 120)

    def run(warm: bool):
        if warm:
            tracker.warm_up(2)
            assert len(tracker) == 0
        tracker.init(frames[0], [(60, 40, 30, 30)])
        return [tracker.update(f)[0].box for f in frames[1:]]

    assert run(False) == run(True) == run(True)
