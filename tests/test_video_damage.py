"""Damaged and cut videos: tracking goes on behind a damaged place, numbers stay true, one sentence tells."""

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from chase_fast.errors import ChaseError
from chase_fast.track.sources import open_source
from chase_fast.track.sources.container import matroska_bytes
from chase_fast.track.sources.damage import Damage
from tests import clips
from tests.clips import encode, number_in, picture, pictures

N = 60


def noisy(n: int = N) -> list[np.ndarray]:
    """Pictures that take some thousand bytes each, as real ones do."""
    generator = np.random.default_rng(0)
    images = pictures(n, 160, 120)
    for image in images:
        image[60:] = np.clip(image[60:] + generator.integers(-60, 60, (60, 160, 1)), 0, 255)
    return images


def read(path: Path):
    """(frames, notes, places, the error at the end or None)"""
    source = open_source(str(path))
    frames, error = [], None
    try:
        for frame in source.frames():
            frames.append(frame)
    except ChaseError as e:
        error = str(e)
    finally:
        source.close()
    return frames, source.notes, source.about.get("damage", []), error


def wrong(frames) -> list[int]:
    """Numbers of frames that show something else than their number says."""
    found = []
    for frame in frames:
        try:
            right = number_in(frame.image) == frame.number
        except AssertionError:
            right = False
        found += [] if right else [frame.number]
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, Path]:
    """The same pictures in several containers, with index and without."""
    folder = tmp_path_factory.mktemp("whole")
    images, made = noisy(), {}
    for name, codec, options, muxer in (
        ("h264.mp4", "libx264", {"g": "15"}, {"movflags": "faststart"}),
        ("h264.mkv", "libx264", {"g": "15"}, {"cluster_time_limit": "600"}),
        ("h264.ts", "libx264", {"g": "15"}, {}),
        ("h264.flv", "libx264", {"g": "15"}, {}),
        ("hevc.mp4", "libx265", {"x265-params": "keyint=15:log-level=none"}, {"movflags": "faststart"}),
        ("mjpeg.avi", "mjpeg", {}, {}),
        ("mpeg4.avi", "mpeg4", {"g": "15"}, {}),
        ("mpeg2.ts", "mpeg2video", {"g": "15"}, {}),
        ("mpeg2.mpg", "mpeg2video", {"g": "15", "b": "3000000"}, {}),
        ("mpeg2.mxf", "mpeg2video", {"g": "15", "b": "3000000"}, {}),
        ("wmv2.asf", "wmv2", {"g": "15", "b": "3000000"}, {}),
        ("prores.mov", "prores_ks", {}, {"movflags": "faststart"}),
        ("ffv1.mkv", "ffv1", {}, {"cluster_time_limit": "600"}),
    ):
        pixels = {"mjpeg": "yuvj420p", "prores_ks": "yuv422p10le"}.get(codec, "yuv420p")
        made[name] = encode(folder / name, images, codec, pixels, options=options, muxer=muxer)
    return made


def copied(whole: dict[str, Path], name: str, tmp_path: Path) -> Path:
    path = tmp_path / name
    path.write_bytes(whole[name].read_bytes())
    return path


DAMAGED = [
    "h264.mp4",
    "h264.mkv",
    "h264.ts",
    "h264.flv",
    "hevc.mp4",
    "mjpeg.avi",
    "mpeg4.avi",
    "mpeg2.ts",
    "mpeg2.mpg",
    "wmv2.asf",
    "prores.mov",
    "ffv1.mkv",
]


@pytest.mark.parametrize("name", DAMAGED)
def test_behind_a_damaged_place_it_goes_on_with_true_numbers(whole, tmp_path, name):
    path = clips.damage(copied(whole, name, tmp_path), 0.5, 0.56)
    frames, notes, places, error = read(path)
    assert error is None
    assert frames[-1].number == N - 1, "the end is missing, or the gap is counted wrong"
    behind = [f for f in frames if f.number >= N - 12]
    assert len(behind) == 12 and not wrong(behind)
    assert [f.time for f in behind] == pytest.approx([f.number / 25 for f in behind], abs=0.0011)
    lost = N - len(frames)
    assert sum(p["lost"] for p in places) == lost
    told = [note for note in notes if "damaged" in note]
    assert len(told) == 1 and "tracking goes on behind it" in told[0], notes
    place = places[0]
    assert f"at frame {place['frame']}" in told[0]
    if lost:
        assert f"{place['lost']} frame" in told[0]
    covered = range(place["frame"] - 1, place["frame"] + place["lost"] + place["changed"] + 1)
    assert all(number in covered for number in wrong(frames)), (
        "a wrong picture outside the place that was told"
    )


@pytest.mark.parametrize("name", [*DAMAGED, "whole"])
def test_sound_files_are_called_sound(whole, tmp_path, name):
    for path in whole.values() if name == "whole" else [whole[name]]:
        frames, notes, places, error = read(path)
        assert len(frames) == N and not wrong(frames) and (notes, places, error) == ([], [], None)


@pytest.mark.parametrize(
    "name", ["h264.mp4", "h264.mkv", "h264.flv", "mjpeg.avi", "mpeg4.avi", "mpeg2.mxf", "wmv2.asf"]
)
def test_a_file_that_breaks_off_gives_all_it_has_and_says_when(whole, tmp_path, name):
    path = clips.cut(copied(whole, name, tmp_path), 0.6)
    frames, _, _, error = read(path)
    assert 10 < len(frames) < 0.75 * N and not wrong(frames[:-1])
    assert f"breaks off after frame {frames[-1].number} at {frames[-1].time:.2f} s" in error
    announced = float(error.split("announces ")[1].split(" s")[0])
    assert announced == pytest.approx(N / 25, abs=0.1)


def test_pictures_of_motion_jpeg_that_end_early_are_lost(whole, tmp_path):
    path = copied(whole, "mjpeg.avi", tmp_path)
    with av.open(str(path)) as container:
        broken = [p.pos + p.size // 2 for p in container.demux() if p.size][20]
    data = bytearray(path.read_bytes())
    end = data.index(b"\xff\xd9", broken)
    data[broken:end] = b"\xff\xd9" + bytes(end - broken - 2)
    path.write_bytes(data)
    frames, _, places, error = read(path)
    assert error is None and not wrong(frames)
    assert [f.number for f in frames] == [n for n in range(N) if n != 20]
    assert [(p["frame"], p["lost"]) for p in places] == [(20, 1)]


def test_a_transport_stream_that_breaks_off_has_announced_nothing(whole, tmp_path):
    frames, _, _, error = read(clips.cut(copied(whole, "h264.ts", tmp_path), 0.6))
    assert error is None and 0.4 * N < len(frames) < 0.75 * N


def test_a_recording_without_its_index_is_told_apart_from_other_files(whole, tmp_path):
    path = encode(tmp_path / "late.mp4", noisy())  # moov at the end
    with pytest.raises(ChaseError, match=r"late.mp4 .*cut off, its index \(moov\)"):
        open_source(str(clips.cut(path, 0.6)))


def test_a_fragmented_file_cut_anywhere_gives_what_is_whole(tmp_path):
    muxer = {"movflags": "frag_keyframe+empty_moov"}
    path = encode(tmp_path / "whole.mp4", noisy(), options={"g": "15"}, muxer=muxer)
    data, found = path.read_bytes(), []
    third = [i for i in range(len(data)) if data[i : i + 4] == b"moof"][2]
    for end in (third + 20, third + 60, len(data) // 2, len(data) - 40):
        piece = tmp_path / f"cut_{end}.mp4"
        piece.write_bytes(data[:end])
        frames, *_ = read(piece)
        found.append(len(frames))
        assert len(frames) >= 25 and not wrong(frames[:-1])
    assert found[0] == found[1] and found[-1] >= N - 1


def test_a_stream_that_begins_in_the_middle_of_a_group(whole, tmp_path):
    for name in ("h264.ts", "mpeg2.ts"):
        path = tmp_path / name
        data = whole[name].read_bytes()
        start = len(data) // 3 // 188 * 188
        path.write_bytes(data[start:])
        frames, (note,), _, error = read(path)
        assert f"the first {frames[0].time:.2f} s" in note and "middle of a group" in note
        shown = [number_in(f.image) for f in frames]
        assert error is None and shown == list(range(shown[0], N)) and 15 <= shown[0] <= 30
        assert [f.number for f in frames] == list(range(len(frames)))
        steps = [b.time - a.time for a, b in pairwise(frames)]
        assert steps == pytest.approx([0.04] * len(steps))


def test_a_damaged_beginning_is_told(whole, tmp_path):
    path = copied(whole, "h264.mp4", tmp_path)
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + 8
    data[start : start + 3000] = bytes(3000)
    path.write_bytes(data)
    frames, (note,), (place,), error = read(path)
    shown = [number_in(f.image) for f in frames]
    assert error is None and shown == list(range(shown[0], N)) and frames[0].number == 0
    assert place == {"frame": 0, "time": None, "lost": shown[0], "changed": 0} and shown[0] > 5
    assert f"damaged at its beginning: {shown[0]} frames cannot be decoded" in note
    assert frames[0].time == pytest.approx(shown[0] / 25)


def test_zeros_to_the_end_are_told(whole, tmp_path):
    """A download that was never finished: the file has its size, and zeros where data should be."""
    path = clips.damage(copied(whole, "h264.mp4", tmp_path), 0.7, 1.0)
    frames, notes, places, error = read(path)
    told = " ".join([*notes, error or ""])
    assert 0.5 * N < len(frames) < 0.8 * N and not wrong(frames[:-2])
    assert places[-1]["lost"] >= N - len(frames) - 1 and "up to its end" in told, told


def test_nothing_that_can_be_decoded_is_one_sentence(whole, tmp_path):
    path = clips.damage(copied(whole, "mjpeg.avi", tmp_path), 0.05, 0.95)
    frames, notes, _, error = read(path)
    assert len(frames) < 5 and (error or f"{N - len(frames)} frames cannot be decoded" in notes[0])


def test_many_places_are_told_briefly(whole, tmp_path):
    path = copied(whole, "mjpeg.avi", tmp_path)
    for k in range(1, 9):
        clips.damage(path, k / 10, k / 10 + 0.012)
    frames, notes, places, error = read(path)
    assert error is None and frames[-1].number == N - 1 and not wrong(frames)
    assert (
        len(places) == 8
        and sum(p["lost"] for p in places) == N - len(frames) >= 8
        and len([n for n in notes if "damaged" in n]) == 4
    )
    assert "damaged in 8 places" in notes[-1]


def test_a_broken_clock_is_mended_and_told(tmp_path):
    a = encode(tmp_path / "a.ts", pictures(10), options={"tune": "zerolatency"})
    b = encode(tmp_path / "b.ts", [picture(i) for i in range(10, 20)], options={"tune": "zerolatency"})
    joined = tmp_path / "joined.ts"
    joined.write_bytes(a.read_bytes() + b.read_bytes())  # its clock starts again
    frames, notes, _, error = read(joined)
    assert error is None and [number_in(f.image) for f in frames] == list(range(20))
    times = [f.time for f in frames]
    assert all(y > x for x, y in pairwise(times)) and times[-1] < 2
    assert any("time stamps" in n for n in notes) or times == pytest.approx([i / 25 for i in range(20)])


def test_short_transport_streams_one_behind_the_other_lose_no_frame(tmp_path):
    parts = [
        encode(tmp_path / f"{k}.ts", pictures(60)[20 * k : 20 * k + 20], options={"bf": "0"})
        for k in range(3)
    ]
    path = tmp_path / "joined.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    frames, notes, _, error = read(path)
    assert error is None and len(frames) == 60 and not wrong(frames)
    assert [f.time for f in frames] == pytest.approx([i / 25 for i in range(60)], abs=0.0011)
    assert any("time stamps go back at 0.76 s" in note for note in notes)


def test_a_long_last_picture_is_no_missing_end(tmp_path):
    """Matroska does not say how long the last picture of a variable rate is shown, only how long all are."""
    path = tmp_path / "still.mkv"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=10, options={"tune": "zerolatency"})
        stream.width, stream.height, stream.pix_fmt = clips.WIDTH, clips.HEIGHT, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for i, start in enumerate((0, 100, 200, 300)):
            frame = av.VideoFrame.from_ndarray(picture(i), format="rgb24")
            frame.pts, frame.time_base = start, Fraction(1, 1000)
            for packet in stream.encode(frame):
                packet.duration = 5000 if i == 3 else 100
                out.mux(packet)
        out.mux(stream.encode(None))
    assert matroska_bytes(path) == path.stat().st_size
    frames, notes, places, error = read(path)
    assert len(frames) == 4 and (notes, places, error) == ([], [], None)
    _, _, _, error = read(clips.cut(path, 0.9))
    assert "breaks off" in error


def test_numbers_behind_a_gap():
    """Constant rate: by the time. Variable rate: by the packets that failed."""
    steady = Damage(10)
    assert [steady.number(i / 10, False, i == 0) for i in range(4)] == [0, 1, 2, 3]
    steady.hit(0.4, packets=1)
    assert steady.number(0.8, False, True) == 8
    assert steady.data == [{"frame": 4, "time": pytest.approx(0.4), "lost": 4, "changed": 0}]
    uneven = Damage(10)
    assert [uneven.number(t, False, t == 0) for t in (0, 0.1, 0.9, 1.0)] == [0, 1, 2, 3]
    uneven.hit(1.2, packets=2)
    assert uneven.number(5.0, False, True) == 6 and uneven.places[0].lost == 2
    last = Damage(10)
    assert last.number(0, False, True) == 0
    last.hit(0.1, packets=3)
    last.finish(0.4)
    assert (last.places[0].frame, last.places[0].lost) == (1, 3)


@pytest.mark.parametrize("name", ["v.mp4", "v.mkv", "v.avi", "v.flv", "v.ts"])
def test_sound_that_lasts_longer_is_no_missing_end(tmp_path, name):
    path = tmp_path / name
    with av.open(str(path), "w") as out:
        video, sound = out.add_stream("libx264", rate=25), out.add_stream("aac", rate=44100)
        video.width, video.height, video.pix_fmt = clips.WIDTH, clips.HEIGHT, "yuv420p"
        for i, image in enumerate(pictures(20)):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = i
            out.mux(video.encode(frame))
        for k in range(90):
            samples = av.AudioFrame(format="fltp", layout="mono", samples=1024)
            samples.sample_rate, samples.pts = 44100, 1024 * k
            for plane in samples.planes:
                plane.update(bytes(plane.buffer_size))
            out.mux(sound.encode(samples))
        for stream in (video, sound):
            out.mux(stream.encode(None))
    frames, notes, places, error = read(path)
    assert [number_in(f.image) for f in frames] == list(range(20)) and (notes, places, error) == (
        [],
        [],
        None,
    )
    assert [f.time for f in frames] == pytest.approx([i / 25 for i in range(20)], abs=0.0011)
