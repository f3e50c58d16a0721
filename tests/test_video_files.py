"""Video files as users have them: every frame is the right one, in the right place, turn, colour and time."""

import json
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from chase_fast.errors import ChaseError
from chase_fast.track.sources import open_source
from tests import clips
from tests.clips import HEIGHT, WIDTH, encode, number_in, picture, pictures
from tests.tolerances import COLOUR_LEVELS


def read(path, *arguments):
    """Frames of a source, and what it had to say."""
    source = open_source(str(path), *arguments)
    try:
        return list(source.frames()), list(source.notes)
    finally:
        source.close()


def numbers(frames) -> list[int]:
    return [number_in(f.image) for f in frames]


def sure(frames, n: int, first: int = 0) -> None:
    """The frames are those of `clips.pictures`, one after the other."""
    assert numbers(frames) == list(range(first, first + n))
    assert [f.number for f in frames] == list(range(n))


# codec, name, pixel format, options: what cameras, editors, browsers and screen recorders write
KINDS = [
    ("libx264", "h264.mp4", "yuv420p", {"bf": "2", "g": "5"}),
    ("libx264", "ten.mkv", "yuv420p10le", {}),
    ("libx264", "422.mov", "yuv422p10le", {}),
    ("libx264", "grey.mp4", "gray", {}),
    ("libx264", "b_frames.avi", "yuv420p", {"bf": "2"}),
    ("libx264", "no_stamps.h264", "yuv420p", {}),
    ("libx264", "open.ts", "yuv420p", {"x264-params": "open-gop=1:keyint=5"}),
    ("libx265", "hevc.mp4", "yuv420p10le", {"x265-params": "log-level=none"}),
    ("libsvtav1", "av1.mp4", "yuv420p", {"preset": "12", "crf": "10"}),
    ("libvpx-vp9", "alpha.webm", "yuva420p", {"speed": "8"}),
    ("libvpx", "vp8.webm", "yuv420p", {}),
    ("prores_ks", "prores.mov", "yuv422p10le", {}),
    ("prores_ks", "prores_alpha.mov", "yuva444p10le", {"profile": "4444"}),
    ("ffv1", "grey16.mkv", "gray16le", {}),
    ("ffv1", "deep.mkv", "gbrp16le", {}),
    ("mjpeg", "mjpeg.avi", "yuvj420p", {}),
    ("mjpeg", "raw.mjpeg", "yuvj420p", {}),
    ("mpeg4", "divx.avi", "yuv420p", {"bf": "2"}),
    ("mpeg2video", "dvd.mpg", "yuv420p", {}),
    ("rawvideo", "raw.avi", "bgr24", {}),
    ("wmv2", "windows.wmv", "yuv420p", {}),
    ("flv", "flash.flv", "yuv420p", {}),
    ("qtrle", "animation.mov", "rgb24", {}),
    ("gif", "moving.gif", "rgb8", {}),
    ("apng", "moving.apng", "rgb24", {}),
    ("apng", "moving.png", "rgb24", {}),
    ("libwebp_anim", "moving.webp", "bgra", {"lossless": "1"}),
    ("wrapped_avframe", "pipe.y4m", "yuv420p", {}),
]
FORMS = {"pipe.y4m": "yuv4mpegpipe", "moving.png": "apng"}


@pytest.mark.parametrize("codec, name, pixels, options", KINDS, ids=[k[1] for k in KINDS])
def test_every_frame_of_every_kind_of_video(tmp_path, codec, name, pixels, options):
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV has no encoder {codec}")
    path = encode(tmp_path / name, pictures(12), codec, pixels, options=options, form=FORMS.get(name))
    frames, _ = read(path)
    sure(frames, 12)
    assert all(f.image.shape == (HEIGHT, WIDTH, 3) and f.image.dtype == np.uint8 for f in frames)
    assert [f.time for f in frames] == pytest.approx([i / 25 for i in range(12)], abs=0.0011)
    part, _ = read(path, 3, 4)
    assert numbers(part) == [3, 4, 5, 6] and [f.number for f in part] == [3, 4, 5, 6]


def test_what_a_file_is_decides_not_its_name(tmp_path):
    gif = encode(tmp_path / "a.gif", pictures(5), "gif", "rgb8")
    sure(read(gif.rename(tmp_path / "a.mp4"))[0], 5)
    mp4 = encode(tmp_path / "b.mp4", pictures(5))
    sure(read(mp4.rename(tmp_path / "b.jpg"))[0], 5)
    for name in ("still.png", "still.jpg", "still.webp", "still.bmp", "still.tif"):
        cv2.imwrite(str(tmp_path / name), picture(3))
        with pytest.raises(ChaseError, match="is a single image"):
            open_source(str((tmp_path / name).rename(tmp_path / f"{name}.mp4")))


def test_pages_of_a_tiff_are_frames(tmp_path):
    path = tmp_path / "stack.tif"
    cv2.imwritemulti(str(path), [np.ascontiguousarray(p[..., ::-1]) for p in pictures(20)])
    frames, _ = read(path, 1)
    assert numbers(frames) == list(range(1, 20)) and [f.number for f in frames] == list(range(1, 20))
    with pytest.raises(ChaseError, match="20 frames: nothing is left"):
        open_source(str(path), 20)


STRANGE = ("a:b.mp4", "100%.mp4", "img_%03d.mp4", "-first.mp4", "7", "with space.mp4", "ü.mp4", "what?.mp4",
           "list[1-3].mp4", "star*.mp4", "http:/x/y.mp4")  # fmt: skip


@pytest.mark.parametrize("name", STRANGE)
def test_no_name_is_taken_for_something_else(tmp_path, monkeypatch, name):
    plain = encode(tmp_path / "plain.mp4", pictures(4))
    strange = tmp_path / name
    strange.parent.mkdir(parents=True, exist_ok=True)
    plain.rename(strange)
    sure(read(strange)[0], 4)
    monkeypatch.chdir(tmp_path)
    sure(read(name)[0], 4)
    (tmp_path / "link").symlink_to(strange)
    sure(read("link")[0], 4)


def test_interlaced_video_is_deinterlaced(tmp_path):
    for codec, options in (
        ("libx264", {"x264-params": "interlaced=1"}),
        ("mpeg2video", {"flags": "+ilme+ildct"}),
    ):
        path = encode(tmp_path / f"{codec}.mkv", pictures(10), codec, options=options)
        with av.open(str(path)) as opened:
            assert next(opened.decode(video=0)).interlaced_frame, "the material is not interlaced"
        first, notes = read(path)
        again, _ = read(path)
        sure(first, 10)
        assert any("interlaced" in note for note in notes)
        assert all(np.array_equal(a.image, b.image) for a, b in zip(first, again))
        assert [f.time for f in first] == pytest.approx([i / 25 for i in range(10)], abs=0.0011)


def test_raw_dv_has_the_rate_of_its_pictures(tmp_path):
    source = open_source(str(encode(tmp_path / "tape.dv", pictures(6, 720, 576), "dvvideo")))
    assert source.fps == 25 and [f.time for f in source.frames()] == pytest.approx([i / 25 for i in range(6)])
    source.close()


def test_two_fields_become_one_picture_without_combs(tmp_path):
    """A bar that moves between the fields of a frame."""

    def woven(i: int) -> np.ndarray:
        frame = np.full((64, 96, 3), 30, np.uint8)
        frame[0::2, 20 + 8 * i : 32 + 8 * i] = 220
        frame[1::2, 24 + 8 * i : 36 + 8 * i] = 220
        return frame

    options = {"x264-params": "interlaced=1:tff=1", "crf": "1"}
    path = encode(tmp_path / "bar.mp4", [woven(i) for i in range(6)], options=options)
    for frame in read(path)[0][1:-1]:
        rows = frame.image[8:-8, :, 0].astype(int)
        comb = np.abs(rows[1:-1] - (rows[:-2] + rows[2:]) / 2).max()
        assert comb < 60, f"frame {frame.number} still has combs of {comb} levels"


def test_a_cut_by_stream_copy_gives_what_a_player_shows(tmp_path):
    whole = encode(tmp_path / "whole.mp4", pictures(50), options={"g": "50", "bf": "2"})
    cut = clips.copy(whole, tmp_path / "cut.mp4", start=0.8)  # 20 frames are in the file and not shown
    frames, notes = read(cut)
    assert numbers(frames) == list(range(20, 50)) and notes == []
    assert [f.number for f in frames] == list(range(30)) and frames[0].time == pytest.approx(0)


def test_a_variable_rate_keeps_its_times(tmp_path):
    times = [0, Fraction(1, 10), Fraction(1), Fraction(11, 10), Fraction(4), Fraction(41, 10)]
    for name in ("screen.mp4", "screen.mkv"):
        frames, notes = read(encode(tmp_path / name, pictures(6), rate=10, times=times))
        sure(frames, 6)
        assert [f.time for f in frames] == pytest.approx(
            [float(t) for t in times], abs=0.0011
        ) and notes == []


def _marks(image: np.ndarray) -> str:
    """Where red, blue, and the upper blocks lie: which of the eight orientations it is."""
    h, w = image.shape[:2]
    corners = {
        "tl": (h // 8, w // 8),
        "tr": (h // 8, -w // 8),
        "bl": (-h // 8, w // 8),
        "br": (-h // 8, -w // 8),
    }
    said = []
    for name, (y, x) in corners.items():
        r, g, b = image[y, x].astype(int)
        said.append(
            f"{name}:{'red' if r > b + 60 else 'blue' if b > r + 60 else 'light' if g > 127 else 'dark'}"
        )
    return " ".join(said)


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
@pytest.mark.parametrize("mirrored", [False, True])
def test_turned_and_mirrored_video_is_upright(tmp_path, degrees, mirrored):
    def turn(stream):
        stream.set_display_rotation(degrees, hflip=mirrored)

    path = encode(tmp_path / "turned.mp4", [picture(1)] * 2, prepare=turn)
    stored = picture(1)  # first block light: top left light, top right dark, red, blue
    shown = np.rot90(stored, degrees // 90)  # set_display_rotation turns counterclockwise, then mirrors
    if mirrored:
        shown = shown[:, ::-1]
    frame = read(path)[0][0]
    assert frame.image.shape == shown.shape and _marks(frame.image) == _marks(shown)
    if not mirrored:  # OpenCV knows no mirrored video
        assert _marks(cv2.VideoCapture(str(path)).read()[1][..., ::-1]) == _marks(shown)


COLOURS = [(2, 1), (1, 1), (2, 5), (1, 6), (0, 2), (1, 9)]  # range (1 limited, 2 full), matrix; 2: not said


@pytest.mark.parametrize("span, matrix", COLOURS)
def test_colours_come_back_by_the_matrix_and_range_of_the_file(tmp_path, span, matrix):
    path = tmp_path / "colours.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.color_range, stream.codec_context.colorspace = span, matrix
        for i in range(3):
            frame = av.VideoFrame.from_ndarray(picture(i), format="rgb24").reformat(
                format="yuv420p",
                dst_colorspace={1: "itu709", 9: "bt2020"}.get(matrix, "itu601"),
                dst_color_range="JPEG" if span == 2 else "MPEG",
            )
            frame.pts = i
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    image = read(path)[0][2].image.astype(int)
    for x, colour in ((WIDTH // 4, clips.RED), (3 * WIDTH // 4, clips.BLUE)):
        assert np.abs(image[3 * HEIGHT // 4, x] - colour).max() <= COLOUR_LEVELS
    assert np.abs(image[HEIGHT // 4, WIDTH // 16] - 20).max() <= COLOUR_LEVELS
    assert np.abs(image[HEIGHT // 4, 3 * WIDTH // 16] - 235).max() <= COLOUR_LEVELS


def test_what_a_user_should_know_is_said(tmp_path):
    def shape(stream):
        stream.codec_context.sample_aspect_ratio = Fraction(16, 11)

    def hdr(stream):
        stream.codec_context.color_trc = 16

    frames, notes = read(encode(tmp_path / "wide.mp4", pictures(3), prepare=shape))
    assert frames[0].image.shape[1] == WIDTH and "not square (16:11)" in notes[0]
    assert "HDR (PQ)" in read(encode(tmp_path / "hdr.mp4", pictures(3), prepare=hdr))[1][0]
    path = encode(tmp_path / "askew.mp4", pictures(3), prepare=lambda s: s.set_display_rotation(30))
    assert "turned by" in read(path)[1][0]
    assert "no time stamps" in read(encode(tmp_path / "raw.h264", pictures(3)))[1][0]


def test_the_stream_that_players_show_is_taken(tmp_path):
    path = tmp_path / "several.mkv"
    with av.open(str(path), "w") as out:
        sound = out.add_stream("aac", rate=8000)
        small, large = (out.add_stream("libx264", rate=25) for _ in range(2))
        for stream, size in ((small, (48, 32)), (large, (WIDTH, HEIGHT))):
            stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        small.disposition, large.disposition = 0, av.stream.Disposition.default
        samples = av.AudioFrame(format="fltp", layout="mono", samples=1024)
        samples.sample_rate, samples.pts = 8000, 0
        for plane in samples.planes:
            plane.update(bytes(plane.buffer_size))
        out.mux(sound.encode(samples))
        for i in range(5):
            for stream, other in ((small, 99), (large, i)):
                frame = av.VideoFrame.from_ndarray(
                    picture(other, stream.width, stream.height), format="rgb24"
                )
                frame.pts = i
                out.mux(stream.encode(frame))
        for stream in (sound, small, large):
            out.mux(stream.encode(None))
    frames, notes = read(path)
    sure(frames, 5)
    assert "2 video streams: number 1 (96x64) is taken" in notes[0]


def test_sound_alone_and_sound_with_a_cover_are_no_video(tmp_path):
    path = tmp_path / "sound.mka"
    with av.open(str(path), "w", format="matroska") as out:
        stream = out.add_stream("aac", rate=8000)
        samples = av.AudioFrame(format="fltp", layout="mono", samples=1024)
        samples.sample_rate, samples.pts = 8000, 0
        for plane in samples.planes:
            plane.update(bytes(plane.buffer_size))
        out.mux(stream.encode(samples))
        out.mux(stream.encode(None))
    with pytest.raises(ChaseError, match="holds no video, only audio"):
        open_source(str(path))
    cover = cv2.imencode(".png", picture(1))[1].tobytes()
    mp3 = tmp_path / "cover.flac"
    with av.open(str(mp3), "w") as out:
        out.add_stream("flac", rate=8000)
        samples = av.AudioFrame(format="s16", layout="mono", samples=4096)
        samples.sample_rate, samples.pts = 8000, 0
        samples.planes[0].update(bytes(samples.planes[0].buffer_size))
        out.mux(out.streams.audio[0].encode(samples))
        out.mux(out.streams.audio[0].encode(None))
    block = _flac_picture(cover)
    data = mp3.read_bytes()
    mp3.write_bytes(data[:4] + data[4:42].replace(b"\x80", b"\x00", 1) + block + _after_first_block(data))
    with pytest.raises(ChaseError, match="cover picture"):
        open_source(str(mp3))


def _after_first_block(data: bytes) -> bytes:
    """The frames of a FLAC file (its metadata blocks but STREAMINFO left out)."""
    position = 4
    while True:
        last, size = data[position] & 0x80, int.from_bytes(data[position + 1 : position + 4])
        position += 4 + size
        if last:
            return data[position:]


def _flac_picture(png: bytes) -> bytes:
    mime = b"image/png"
    body = (3).to_bytes(4) + len(mime).to_bytes(4) + mime + bytes(4) + b"".join(
        v.to_bytes(4) for v in (WIDTH, HEIGHT, 24, 0, len(png))
    ) + png  # fmt: skip
    return bytes([0x80 | 6]) + len(body).to_bytes(3) + body


def test_a_change_of_the_resolution_changes_the_frames(tmp_path):
    a = encode(tmp_path / "a.h264", pictures(5), options={"tune": "zerolatency"})
    b = encode(tmp_path / "b.h264", pictures(5, 160, 120), options={"tune": "zerolatency"})
    (tmp_path / "c.h264").write_bytes(a.read_bytes() + b.read_bytes())
    frames, _ = read(tmp_path / "c.h264")
    assert numbers(frames) == [*range(5), *range(5)]
    assert [f.image.shape[:2] for f in frames] == [(64, 96)] * 5 + [(120, 160)] * 5


def test_odd_sizes_keep_every_row_and_column(tmp_path):
    image = np.full((45, 63, 3), 60, np.uint8)
    image[-1], image[:, -1] = 230, 230
    path = encode(tmp_path / "odd.mkv", [image] * 3, "ffv1", "yuv444p")
    frame = read(path)[0][0].image
    assert frame.shape == (45, 63, 3) and frame[-1].min() > 200 and frame[:, -1].min() > 200


def test_without_pyav_opencv_decodes_and_says_so(tmp_path):
    """In a process of its own: OpenCV's FFmpeg takes its log level once. Interlaced pictures, which it gives
    as unwritten memory with the flag True, are refused."""
    good = encode(tmp_path / "good.mp4", pictures(6))
    turned = encode(tmp_path / "turned.mp4", pictures(6), prepare=lambda s: s.set_display_rotation(90))
    woven = encode(tmp_path / "woven.mp4", pictures(6), options={"x264-params": "interlaced=1"})
    program = f"""
import json, sys
sys.modules["av"] = None
from chase_fast.errors import ChaseError
from chase_fast.track.sources import open_source
told = []
for path in {[str(good), str(turned), str(woven)]!r}:
    source = open_source(path)
    try:
        frames = [(f.number, f.time, f.image.shape[:2]) for f in source.frames()]
    except ChaseError as e:
        frames = str(e)
    told.append((frames, source.notes))
print(json.dumps(told))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=_here())
    assert done.returncode == 0 and done.stderr == "", done.stderr
    (good, notes), (turned, _), (woven, _) = json.loads(done.stdout)
    assert [f[0] for f in good] == list(range(6)) and good[5][1] == pytest.approx(0.2)
    assert "OpenCV decodes" in notes[0] and turned[0][2] == [WIDTH, HEIGHT]
    assert "interlaced" in woven and "pip install av" in woven


def _here() -> dict[str, str]:
    root = str(Path(__file__).parents[1])
    return os.environ | {"PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
