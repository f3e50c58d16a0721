"""python -m chase_fast.track: files it writes, sources it reads, bad input, interruption."""

import json
import os
import signal
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest

from chase_fast.errors import ChaseError
from chase_fast.track import MultiTracker, Tracker, draw
from chase_fast.track.__main__ import main
from chase_fast.track.annotated import fitted
from chase_fast.track.sources import open_source
from chase_fast.track.sources.opencv import from_bgr
from tests import clips, moving
from tests.flags import changed
from tests.tiny import tiny_tracker

FRAMES, BOXES = moving.video(6)
BOX = "120,90,40,50"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return tiny_tracker(tmp_path_factory.mktemp("checkpoint") / "best.safetensors")


def save(folder: Path, images=FRAMES, first: int = 1, name: str = "%d.png") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(images, first):
        cv2.imwrite(str(folder / (name % i)), image[..., ::-1] if image.ndim == 3 else image)
    return folder


def save_video(path: Path, n: int = 6) -> Path:
    out = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 20, (320, 240))
    for i in range(n):
        out.write(np.ascontiguousarray(FRAMES[i % len(FRAMES)][..., ::-1]))
    out.release()
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return save(tmp_path_factory.mktemp("source") / "frames", first=7)  # 7 ... 12: 10 comes after 9


@pytest.fixture
def track(checkpoint, tmp_path):
    """track(source, *flags) -> exit code; results in tmp_path / "out"."""

    def run(source, *flags, box=(BOX,), out=tmp_path / "out"):
        boxes = [part for b in box for part in ("--box", b)]
        argv = [str(source), *boxes, "--checkpoint", str(checkpoint), "--out", str(out), "--device", "cpu"]
        return main(changed(argv, *flags))

    return run


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def result(out: Path) -> dict:
    return json.loads((out / "result.json").read_text())


def test_a_folder_gives_boxes_results_and_a_video(track, folder, tmp_path, checkpoint, capsys):
    assert track(folder) == 0
    out = tmp_path / "out"
    tracker = Tracker.load(checkpoint, device="cpu")
    tracker.init(FRAMES[0], (120, 90, 40, 50))
    expected = [tracker.update(frame) for frame in FRAMES[1:]]
    rows = [",".join(f"{v:.3f}" for v in r.box) for r in expected]
    assert lines(out / "boxes.txt") == ["120.000,90.000,40.000,50.000", *rows]

    about = result(out)
    assert about["source"]["kind"] == "folder" and about["end"] == "end of the source"
    assert about["frames"] == list(range(6)) and about["files"] == [f"{i}.png" for i in range(7, 13)]
    assert about["sizes"] == [[0, 320, 240]] and len(about["seconds"]) == 6 and min(about["seconds"]) > 0
    (target,) = about["targets"]
    assert target["file"] == "boxes.txt" and target["given"] == [120, 90, 40, 50]
    assert target["boxes"] == [[float(v) for v in row.split(",")] for row in lines(out / "boxes.txt")]
    assert target["state"] == ["given", *(r.state for r in expected)]
    assert target["score"] == [None, *(r.score for r in expected)]
    times = np.array(about["seconds"])
    assert about["fps_total"] == pytest.approx(6 / times.sum())
    assert about["fps_mean_of_frames"] == pytest.approx((1 / times).mean())
    assert about["settings"]["image_size"] == 64 and about["versions"]["torch"] and "commit" in about

    video = cv2.VideoCapture(str(out / "annotated.mp4"))
    pictures = []
    while (read := video.read())[0]:
        pictures.append(read[1])
    assert about["video"] == "annotated.mp4" and len(pictures) == 6
    assert pictures[0].shape == (480, 640, 3)  # twice as large as the small frame
    white = pictures[0][280, 250:310].astype(int)  # lower edge of the given box, (120..160, 90..140) x 2
    assert white.min() > 150, "the box is not where it should be"
    assert "6 frames, lost in" in capsys.readouterr().out


def test_device_precision_and_graphs_are_said_and_stored(track, folder, tmp_path, capsys):
    assert track(folder, "--frames", "2", "--no-video", "--precision", "bf16", "--no-graphs") == 0
    assert "thread" in (said := capsys.readouterr().out) and ", bf16 convolutions" in said
    about = result(tmp_path / "out")
    assert (about["device"], about["precision"], about["graphs"]) == ("cpu", "bf16", False)


def test_settings_and_presets_from_the_command_line(track, folder, tmp_path):
    few = ("--frames", "3", "--no-video")
    assert track(folder, *few) == 0
    before = result(tmp_path / "out")
    assert before["settings"]["lost_below"] < 0.1 and before["settings"]["half_pixel_offset"] is False
    more = ("--set", "lost_below=0.999", "--set", "random-boxes=2", "--overwrite")
    assert track(folder, *few, *more) == 0
    after = result(tmp_path / "out")
    changed_ones = {k for k, v in after["settings"].items() if v != before["settings"][k]}
    assert changed_ones == {"lost_below", "random_boxes"}
    assert after["targets"][0]["state"] == ["given", "lost", "lost"]
    assert after["targets"][0]["boxes"] == [[120, 90, 40, 50]] * 3
    assert track(folder, *few, "--preset", "published", "--overwrite") == 0
    assert result(tmp_path / "out")["settings"]["half_pixel_offset"] is True


def test_several_targets_have_files_of_their_own(track, folder, tmp_path, checkpoint):
    assert track(folder, "--no-video", "--quiet", box=(BOX, "30,40,35.5,30")) == 0
    out = tmp_path / "out"
    tracker = MultiTracker.load(checkpoint, device="cpu")
    tracker.init(FRAMES[0], [(120, 90, 40, 50), (30, 40, 35.5, 30)])
    second = tracker.update(FRAMES[1])
    for k in range(2):
        rows = lines(out / f"boxes_{k}.txt")
        assert len(rows) == 6 and rows[1] == ",".join(f"{v:.3f}" for v in second[k].box)
    assert [t["file"] for t in result(out)["targets"]] == ["boxes_0.txt", "boxes_1.txt"]
    assert sorted(p.name for p in out.iterdir()) == ["boxes_0.txt", "boxes_1.txt", "result.json"]


def test_a_part_of_a_video_file(track, tmp_path):
    video = save_video(tmp_path / "video.avi", 10)
    assert track(video, "--start", "2", "--frames", "3") == 0
    about = result(tmp_path / "out")
    assert about["frames"] == [2, 3, 4] and about["source"]["fps"] == 20
    annotated = cv2.VideoCapture(str(tmp_path / "out" / "annotated.mp4"))
    assert annotated.get(cv2.CAP_PROP_FPS) == 20 and annotated.get(cv2.CAP_PROP_FRAME_COUNT) == 3


def test_a_truncated_video_keeps_what_was_decoded(track, tmp_path, capsys):
    video = save_video(tmp_path / "video.avi", 12)
    data = video.read_bytes()
    video.write_bytes(data[: len(data) // 2])
    assert track(video) == 2
    (message,) = capsys.readouterr().err.splitlines()
    n = len(lines(tmp_path / "out" / "boxes.txt"))
    assert 2 < n < 10 and f"breaks off after frame {n - 1} " in message and "announces 0.60 s" in message
    assert f"results of {n} frames are in" in message
    assert result(tmp_path / "out")["frames"] == list(range(n))


def test_a_broken_frame_keeps_the_results_before(track, tmp_path, capsys):
    folder = save(tmp_path / "frames")
    (folder / "4.png").write_bytes((folder / "4.png").read_bytes()[:500])
    assert track(folder, "--quiet") == 2
    (message,) = capsys.readouterr().err.splitlines()
    assert "4.png cannot be read" in message and "results of 3 frames" in message
    assert len(lines(tmp_path / "out" / "boxes.txt")) == 3
    assert "4.png" in result(tmp_path / "out")["end"]


def test_grey_and_deep_frames_changing_their_size_and_gaps_are_told(track, tmp_path, capsys):
    images = [FRAMES[0], FRAMES[1][..., 0], FRAMES[2].astype(np.uint16) << 8, FRAMES[3][:200, :280]]
    folder = save(tmp_path / "frames", images)
    save(folder, FRAMES[4:], first=8)
    assert track(folder, "--quiet") == 0
    warnings = capsys.readouterr().err.splitlines()
    assert len(warnings) == 3 and "frame number 5 is missing" in warnings[0]
    assert "frame 3: the frames now have 280x200 pixels" in warnings[1]
    assert result(tmp_path / "out")["sizes"] == [[0, 320, 240], [3, 280, 200], [4, 320, 240]]
    assert len(lines(tmp_path / "out" / "boxes.txt")) == 6
    deep = next(iter(open_source(str(folder), start=2).frames())).image
    assert np.array_equal(deep, FRAMES[2])


BAD_BOXES = {
    "1,2,3": "four numbers",
    "a,b,c,d": "four numbers",
    "10,10,0,20": "no size",
    "10,10,20,-5": "no size",
    "400,10,20,20": "outside the frame of 320x240",
    "nan,1,20,20": "NaN",
}


@pytest.mark.parametrize("box", BAD_BOXES)
def test_a_bad_box_is_one_line_and_leaves_nothing(track, folder, tmp_path, capsys, box):
    assert track(folder, box=(BOX, box)) == 2
    (message,) = capsys.readouterr().err.splitlines()
    assert message.startswith("error: ") and BAD_BOXES[box] in message
    assert not (tmp_path / "out").exists()


def test_bad_sources_and_flags_are_one_line_and_leave_nothing(track, folder, tmp_path, capsys):
    def refused(*what, words, **more):
        assert track(*what, out=tmp_path / "new", **more) == 2
        (message,) = capsys.readouterr().err.splitlines()
        assert message.startswith("error: ") and words in message, message
        assert not (tmp_path / "new").exists()

    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("no video at all" * 50)
    save(tmp_path / "two" / "a", FRAMES[:1])
    save(tmp_path / "two" / "b", FRAMES[:1])
    refused(tmp_path / "nowhere", words="no such file or folder")
    refused(tmp_path / "empty", words="holds no frames")
    refused(tmp_path / "empty.mp4", words="it is empty")
    refused(tmp_path / "text.mp4", words="no video that can be read")
    refused(tmp_path / "two", words="holds 2 folders of frames (a, b")
    refused(folder / "7.png", words="single image")
    refused("97", words="camera 97 cannot be opened")
    refused("http://127.0.0.1:9/video.mp4", words="cannot be opened: check address")
    refused(folder, "--start", "6", words="has 6 frames: nothing is left after --start 6")
    refused(save_video(tmp_path / "v.avi"), "--start", "9", words="has 6 frames: nothing is left")
    refused(folder, "--frames", "0", words="--frames 1 or more")
    refused(folder, "--fps", "0", words="--fps 0 must lie")
    refused(
        folder, "--preset", "best", words="--preset best: choose from accurate, balanced, fast, published"
    )
    refused(
        folder,
        "--set",
        "lost_bellow=0.1",
        words="unknown tracker setting 'lost_bellow': did you mean lost_below?",
    )
    refused(folder, "--set", "lost_below=low", words="--set lost_below=low: lost_below is a number")
    refused(folder, "--set", "image_size=100", words="image_size 100 must be a multiple of 16")
    refused(folder, "--precision", "fp8", words="--precision fp8: choose from fp32, bf16")
    refused(folder, "--checkpoint", str(tmp_path / "none.safetensors"), words="no such file")
    refused(folder, "--checkpoint", str(folder / "7.png"), words="7.png")


def test_results_are_replaced_only_when_asked(track, folder, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    for name in ("boxes_1.txt", "notes.md"):
        (out / name).write_text("old")
    assert track(folder, "--frames", "2", "--no-video") == 2
    assert "is not empty" in capsys.readouterr().err
    assert track(folder, "--frames", "2", "--no-video", "--overwrite") == 0
    assert sorted(p.name for p in out.iterdir()) == ["boxes.txt", "notes.md", "result.json"]


def test_ctrl_c_stops_after_the_frame_and_writes_everything(track, folder, tmp_path, monkeypatch, capsys):
    update, seen = MultiTracker.update, []

    def interrupted(self, frame):
        seen.append(len(lines(tmp_path / "out" / "boxes.txt")))  # flushed line by line
        if len(seen) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return update(self, frame)

    monkeypatch.setattr(MultiTracker, "update", interrupted)
    before = signal.getsignal(signal.SIGINT)
    assert track(folder) == 130
    assert seen == [1, 2] and signal.getsignal(signal.SIGINT) is before
    assert "stopped; results of 3 frames are in" in capsys.readouterr().err
    about = result(tmp_path / "out")
    assert about["end"] == "interrupted" and len(about["frames"]) == len(
        lines(tmp_path / "out" / "boxes.txt")
    )
    assert cv2.VideoCapture(str(tmp_path / "out" / "annotated.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) == 3


def test_ctrl_c_twice_stops_at_once(track, folder, tmp_path, monkeypatch, capsys):
    def interrupted_twice(self, frame):
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(MultiTracker, "update", interrupted_twice)
    assert track(folder, "--no-video") == 130
    assert "stopped; results of the first frame are in" in capsys.readouterr().err
    assert result(tmp_path / "out")["end"] == "interrupted"


def test_a_crash_loses_nothing(track, folder, tmp_path, monkeypatch):
    def crash(self, frame):
        raise RuntimeError("the device was lost")

    monkeypatch.setattr(MultiTracker, "update", crash)
    with pytest.raises(RuntimeError, match="the device was lost"):
        track(folder)
    assert lines(tmp_path / "out" / "boxes.txt") == ["120.000,90.000,40.000,50.000"]
    assert result(tmp_path / "out")["end"] == "RuntimeError: the device was lost"


class Camera(BaseHTTPRequestHandler):
    """Motion JPEG over HTTP, as network cameras send it; breaks off after 30 pictures."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        for i in range(30):
            picture = cv2.imencode(".jpg", FRAMES[i % len(FRAMES)])[1].tobytes()
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
            self.wfile.write(head.encode() + picture + b"\r\n")

    def log_message(self, *arguments):
        pass


@pytest.fixture
def stream():
    server = HTTPServer(("127.0.0.1", 0), Camera)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/camera"
    server.shutdown()
    server.server_close()


def test_a_stream_that_breaks_off_keeps_its_results(track, stream, tmp_path, capsys):
    assert track(stream, "--no-video", "--reconnects", "0") == 2
    (message,) = capsys.readouterr().err.splitlines()
    assert "stopped sending after" in message and "are in" in message
    about = result(tmp_path / "out")
    assert about["source"]["kind"] == "stream"
    assert about["frames"] == sorted(set(about["frames"])) and about["frames"][-1] < 30
    assert len(lines(tmp_path / "out" / "boxes.txt")) == len(about["frames"])


def test_without_box_the_user_draws_it_or_is_told_to_give_one(track, folder, tmp_path, monkeypatch, capsys):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    if draw.display_problem():  # Windows and macOS have a display without these
        assert track(folder, box=()) == 2
        assert "give the target with --box x,y,w,h" in capsys.readouterr().err
        assert track(folder, "--show") == 2
        assert "leave out --show" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()

    drawn = iter([(0, 0, 0, 0), (120, 90, 40, 50)])
    monkeypatch.setattr(draw, "display_problem", lambda: None)
    monkeypatch.setattr(draw.cv2, "selectROI", lambda *a, **k: next(drawn))
    for name in ("namedWindow", "resizeWindow", "destroyWindow"):
        monkeypatch.setattr(draw.cv2, name, lambda *a: None)
    assert track(folder, box=()) == 2
    assert "no box was drawn" in capsys.readouterr().err
    assert track(folder, "--frames", "2", "--no-video", box=()) == 0
    assert lines(tmp_path / "out" / "boxes.txt")[0] == "120.000,90.000,40.000,50.000"


def test_pictures_keep_labels_inside_and_frames_keep_their_proportions():
    image = np.full((60, 80, 3), 90, np.uint8)
    assert draw.enlargement(80, 60) == 6 and draw.enlargement(1920, 1080) == 1
    boxes = [(-10, -10, 30, 20), (70, 50, 40, 40)]
    picture = draw.annotate(image, boxes, ["lost", "hard_negative"], [0.01, None], 3, None)
    assert picture.shape == (360, 480, 3)
    for state in ("lost", "hard_negative"):  # the labels' paper
        assert (picture == draw.COLOURS[state][::-1]).all(-1).sum() > 1000
    small = fitted(np.full((10, 40, 3), 255, np.uint8), 20, 20)
    assert small.shape == (20, 20, 3) and small[:7].max() == 0 and small[8:12].min() == 255


def thermal(count: int = 6) -> list[np.ndarray]:
    """The frames as counts of a thermal camera, 7300 to 8300; the second half is colder."""
    greys = [cv2.cvtColor(f, cv2.COLOR_RGB2GRAY).astype(np.float64) for f in FRAMES[:count]]
    low, high = greys[0].min(), greys[0].max()
    counts = [7300 + 1000 * (g - low) / (high - low) - 90 * (i > 2) for i, g in enumerate(greys)]
    return [c.round().clip(0).astype(np.uint16) for c in counts]


def test_levels_of_a_thermal_source_are_said_kept_and_chosen(track, tmp_path, capsys):
    """A folder, a video and a TIFF of the same counts give the same boxes."""
    counts = thermal()
    folder = save(tmp_path / "frames", counts)
    clips.encode(tmp_path / "video.mkv", counts, "ffv1", "gray16le")
    cv2.imwritemulti(str(tmp_path / "pages.tif"), counts)
    boxes = []
    for source in (folder, tmp_path / "video.mkv", tmp_path / "pages.tif"):
        out = tmp_path / f"out_{source.name}"
        assert track(source, "--no-video", out=out) == 0
        assert result(out)["source"]["levels"] == [7300, 8300]
        assert "7300 to 8300 become black to white" in capsys.readouterr().err
        boxes.append((out / "boxes.txt").read_text())
    assert len(set(boxes)) == 1
    assert track(folder, "--no-video", "--levels", "7000,9000", out=tmp_path / "other") == 0
    assert result(tmp_path / "other")["source"]["levels"] == [7000, 9000]
    assert "7000 to 9000" in capsys.readouterr().err
    for text in ("9000,7000", "a,b"):
        assert track(folder, "--levels", text, out=tmp_path / "none") == 2
        assert "grey levels" in capsys.readouterr().err
    assert track(save(tmp_path / "eight"), "--levels", "0,9", out=tmp_path / "none") == 2
    assert "have 8 bits" in capsys.readouterr().err and not (tmp_path / "none").exists()


def test_frames_of_opencv_become_rgb():
    bgr = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    assert np.array_equal(from_bgr(bgr), bgr[..., 2::-1])
    assert np.array_equal(from_bgr(bgr[..., :3]), bgr[..., 2::-1])
    assert np.array_equal(from_bgr(bgr[..., 0]), np.stack([bgr[..., 0]] * 3, -1))
    with pytest.raises(ChaseError, match="no image"):
        from_bgr(np.zeros(5, np.uint8))
