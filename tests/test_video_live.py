"""Live sources: the newest frame, connections that break off and come back, silence, and what ends them."""

import os
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler
from typing import ClassVar

import cv2
import numpy as np
import pytest

from chase_fast.errors import ChaseError
from chase_fast.track.sources import camera_number, kind_of, open_source
from chase_fast.track.sources.live import Live, Stamps
from tests.clips import encode, number_in, pictures
from tests.servers import Camera, served


def test_the_newest_frame_is_given_and_the_others_are_dropped():
    camera = Camera(rate=100)
    with served(camera.answer) as host:
        source = open_source(f"http://{host}/", count=6)
        assert source.kind == "stream" and source.live and source.total == 6
        frames = []
        for frame in source.frames():
            assert camera.sent - number_in(frame.image) < 12, "an old frame"
            frames.append(frame)
            time.sleep(0.1)
        source.close()
    numbers = [f.number for f in frames]
    assert numbers == sorted(set(numbers)) and numbers[-1] > 25
    assert [number_in(f.image) - f.number for f in frames] == [number_in(frames[0].image) - numbers[0]] * 6
    assert frames[0].time == 0 and frames[-1].time == pytest.approx(0.5, abs=0.3)


def test_nothing_is_taken_before_it_is_asked_for():
    """The frame that defines the target is the one of the moment when the network is ready."""
    camera = Camera(rate=100)
    with served(camera.answer) as host:
        source = open_source(f"http://{host}/")
        time.sleep(0.6)  # loading and warming up
        sent = camera.sent
        first = next(source.frames())
        source.close()
    assert sent > 30 and number_in(first.image) >= sent - 5


def test_a_stream_that_breaks_off_comes_back_and_the_gap_is_told():
    camera = Camera(rate=200, script=(20, 30, 10**6), refused=range(1, 2))
    with served(camera.answer) as host:
        source = open_source(f"http://admin:secret@{host}/?token=abc", count=60)
        frames = list(source.frames())
        source.close()
    assert len(frames) == 60 and camera.connections >= 3
    told = [note for note in source.notes if "came back" in note]
    assert told and "broke off after frame 19" in told[0]
    assert source.about["gaps"][0]["after_frame"] == 19 and source.about["gaps"][0]["seconds"] > 0.3
    assert not any("secret" in text or "abc" in text for text in (*source.notes, source.path))


@pytest.mark.parametrize("script, refused", [((30,), range(0)), ((30, 0), range(1, 99))])
def test_after_the_last_attempt_one_sentence_ends_it(script, refused):
    camera = Camera(rate=500, script=script, refused=refused)
    with served(camera.answer) as host:
        source = open_source(f"http://{host}/", reconnects=2)
        with pytest.raises(ChaseError, match=r"stopped sending after \d+ frames \(") as e:
            for _ in source.frames():
                pass
        source.close()
    assert camera.connections == 3 and "\n" not in str(e.value)


def test_no_attempt_is_made_with_reconnects_0():
    camera = Camera(rate=500, script=(10,))
    with served(camera.answer) as host:
        source = open_source(f"http://{host}/", reconnects=0)
        with pytest.raises(ChaseError, match="stopped sending after 10 frames"):
            list(source.frames())
        source.close()
    assert camera.connections == 1


def test_silence_is_a_time_out_not_a_hang():
    def silent(handler):
        time.sleep(5)

    def headers_only(handler):
        handler.send_response(200)
        handler.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        handler.end_headers()
        time.sleep(5)

    for answer in (silent, headers_only):
        with served(answer) as host:
            start = time.monotonic()
            with pytest.raises(ChaseError, match=r"cannot be opened: check address.*\(no answer in time\)"):
                open_source(f"http://{host}/live", timeout=0.5)
            assert time.monotonic() - start < 3


def test_a_stream_that_falls_silent_is_opened_again():
    def before(connection, k):
        if connection == 0 and k == 15:
            time.sleep(4)

    camera = Camera(rate=200, before=before)
    with served(camera.answer) as host:
        source = open_source(f"http://{host}/", count=30, timeout=0.7)
        start = time.monotonic()
        frames = list(source.frames())
        source.close()
    assert time.monotonic() - start < 3.5 and len(frames) == 30
    assert source.about["gaps"][0]["seconds"] >= 0.7


def test_addresses_that_cannot_be_opened_are_one_sentence():
    def missing(handler):
        handler.send_error(404)

    with served(missing) as host, pytest.raises(ChaseError, match=r"cannot be opened: check address.*404"):
        open_source(f"http://{host}/none.mp4")
    for address in ("rtsp://user:secret@127.0.0.1:9/live", "nothing://here", "http://127.0.0.1:99999/x"):
        with pytest.raises(ChaseError, match="cannot be opened: check address") as e:
            open_source(address, timeout=2)
        assert "secret" not in str(e.value)
    with pytest.raises(ChaseError, match="camera 97 cannot be opened"):
        open_source("97")
    with pytest.raises(ChaseError, match="camera /dev/video97 cannot be opened"):
        open_source("/dev/video97")


def test_a_video_on_a_server_is_a_video(tmp_path):
    encode(tmp_path / "v.mp4", pictures(30), options={"g": "10"})
    encode(tmp_path / "h.m3u8", pictures(60), options={"g": "10"}, form="hls", muxer={"hls_time": "0.4"})
    with served(_files(tmp_path)) as host:
        for name, n in (("v.mp4", 30), ("h.m3u8", 60)):
            source = open_source(f"http://{host}/{name}")
            assert not source.live
            shown = [number_in(f.image) for f in source.frames()]
            source.close()
            assert shown == list(range(60 - len(shown), 60) if name == "h.m3u8" else range(n))


def _files(folder):
    def answer(handler):
        serve = partial(SimpleHTTPRequestHandler, directory=str(folder))
        handler.directory = str(folder)
        for name in ("send_head", "translate_path", "list_directory", "guess_type", "copyfile"):
            setattr(handler, name, partial(getattr(SimpleHTTPRequestHandler, name), handler))
        handler.extensions_map, handler.index_pages = SimpleHTTPRequestHandler.extensions_map, ()
        SimpleHTTPRequestHandler.do_GET(handler)
        return serve

    return answer


def test_a_playlist_without_end_is_live_and_runs_dry(tmp_path):
    muxer = {"hls_time": "0.4", "hls_list_size": "0"}
    path = encode(tmp_path / "h.m3u8", pictures(40), options={"g": "10"}, form="hls", muxer=muxer)
    path.write_text(path.read_text().replace("#EXT-X-ENDLIST", ""))
    with served(_files(tmp_path)) as host:
        source = open_source(f"http://{host}/h.m3u8", timeout=3)
        assert source.live
        frames, start = [], time.monotonic()
        with pytest.raises(ChaseError, match="stopped sending after"):
            for frame in source.frames():
                frames.append(number_in(frame.image))
        source.close()
    assert frames == sorted(set(frames)) and frames[-1] == 39 and time.monotonic() - start > 0.8


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are a thing of Unix")
def test_a_named_pipe_loses_no_frame_and_ends_when_it_is_closed(tmp_path):
    pipe, data = tmp_path / "pipe", encode(tmp_path / "v.ts", pictures(40)).read_bytes()
    os.mkfifo(pipe)
    threading.Thread(target=lambda: pipe.write_bytes(data), daemon=True).start()
    source = open_source(str(pipe))
    shown = []
    for frame in source.frames():
        shown.append(number_in(frame.image))
        time.sleep(0.005)  # slower than it is written
    source.close()
    assert shown == list(range(40)) and not source.live
    with pytest.raises(ChaseError, match="pipe cannot be opened: does anybody write"):
        open_source(str(pipe), timeout=0.3)


def test_closing_while_frames_come_leaves_no_thread():
    with served(Camera(rate=300).answer) as host:
        for _ in range(3):
            source = open_source(f"http://{host}/")
            next(source.frames())
            source.close()
            assert isinstance(source, Live) and not source._thread.is_alive()


def test_stamps_follow_the_clock_of_the_sender_until_it_jumps():
    stamps = Stamps()
    a, b = stamps.seconds(100.0), stamps.seconds(100.04)
    assert b - a == pytest.approx(0.04) and abs(a - time.monotonic()) < 1
    assert abs(stamps.seconds(5000.0) - time.monotonic()) < 1
    assert abs(stamps.seconds(None) - time.monotonic()) < 1


class Webcam:
    """Stands for cv2.VideoCapture: ten pictures per connection, then a read that fails."""

    opened: ClassVar[list] = []
    fails = False

    def __init__(self, device):
        self.opened.append(device)
        self.left = 10

    def isOpened(self):
        return not (self.fails and len(self.opened) > 1)

    def get(self, which):
        return 30.0

    def getBackendName(self):
        return "FAKE"

    def read(self):
        time.sleep(0.005)
        self.left -= 1
        return (False, None) if self.left < 0 else (True, np.full((48, 64, 3), (0, 0, 200), np.uint8))

    def release(self):
        pass


def test_a_camera_is_opened_again_by_its_number(monkeypatch, tmp_path):
    monkeypatch.setattr(cv2, "VideoCapture", Webcam)
    monkeypatch.setattr(Webcam, "opened", [])
    source = open_source("/dev/video3", count=18)
    frames = list(source.frames())
    source.close()
    assert (
        source.kind == "camera" and source.fps == 30 and set(Webcam.opened) == {3} and len(Webcam.opened) >= 2
    )
    assert len(frames) == 18 and frames[0].image[0, 0].tolist() == [200, 0, 0]
    assert "camera /dev/video3 broke off after frame 9" in source.notes[0]
    monkeypatch.setattr(Webcam, "fails", True)
    Webcam.opened.clear()
    source = open_source("3", reconnects=2)
    with pytest.raises(
        ChaseError, match=r"camera 3 stopped sending after 10 frames \(OpenCV cannot open it\)"
    ):
        list(source.frames())
    source.close()
    assert Webcam.opened == [3, 3, 3]


def test_numbers_and_devices_are_cameras_unless_they_are_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "front").symlink_to("/dev/video12")
    assert [camera_number(t) for t in ("0", "12", "/dev/video5", "front")] == [0, 12, 5, 12]
    assert [camera_number(t) for t in ("-1", "1.5", "video0", "²", "/dev/sda")] == [None] * 5
    (tmp_path / "0").mkdir()
    (tmp_path / "1").write_bytes(b"x")
    assert [kind_of(t) for t in ("0", "1", "2", "-", "http://x/y")] == [
        "folder",
        "video",
        "camera",
        "pipe",
        "stream",
    ]
