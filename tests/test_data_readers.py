"""Dataset names, layouts on disk, decoding, and what happens to broken data."""

import cv2
import numpy as np
import pytest

from chase_fast.data import decode, open_sources
from chase_fast.data.doctor import check
from chase_fast.data.spec import parse_spec
from chase_fast.errors import ChaseError
from tests.sequences import HW, write_flags, write_sequence


@pytest.fixture
def dataset(tmp_path):
    """GOT-10k layout: train (a, b, c listed c, a, b), val (d)."""
    for split, names in (("train", "abc"), ("val", "d")):
        for k, name in enumerate(names):
            write_sequence(tmp_path / split / name, 22 + k)
    (tmp_path / "train" / "list.txt").write_text("c\na\nb\n")
    return tmp_path


def names(spec):
    return [s.name for s in open_sources(spec)[0].sequences]


def fails(text, *args, **kwargs):
    with pytest.raises(ChaseError, match=text) as e:
        open_sources(*args, **kwargs)
    assert "\n" not in str(e.value)
    return str(e.value)


def test_spec_grammar():
    spec = parse_spec("got10k:/data/x:train*0.25")
    assert (spec.kind, spec.path, spec.split, spec.weight) == ("got10k", "/data/x", "train", 0.25)
    assert parse_spec("folder:/a*b/c").weight == 1 and parse_spec("folder:/a*b/c").path == "/a*b/c"
    assert (parse_spec("synthetic").split, parse_spec("synthetic:val*2").split) == ("train", "val")


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ("nosuch:/x", "unknown dataset kind 'nosuch'; known are got10k"),
        ("got10k", "path is missing"),
        ("got10k:", "path is missing"),
        ("folder:/a:b:c", "path with ':'"),
        ("synthetic:a:b", "at most a name"),
        ("synthetic*0", "positive number"),
        ("synthetic*x", "positive number"),
        ("folder:/no/such/place", "no folder /no/such/place"),
    ],
)
def test_bad_spec(spec, text):
    fails(text, spec)


def test_got10k_splits_and_lists(dataset, tmp_path):
    root = f"got10k:{dataset}"
    assert names(f"{root}:train") == ["c", "a", "b"]
    assert names(f"{root}:val") == ["d"]
    assert names(f"{root}/val") == ["d"]
    (tmp_path / "some.txt").write_text("d\r\nb\r\n\r\n")
    assert names(f"{root}:some.txt") == ["d", "b"]
    assert names(f"{root}:{tmp_path}/some.txt") == ["d", "b"]
    (tmp_path / "numbers.txt").write_text("2\n0\n")
    assert names(f"{root}:numbers.txt") == ["b", "c"]
    fails("say which split, e.g. .*:train", root)
    fails("split 'tset' is neither .* there are train, val", f"{root}:tset")
    (tmp_path / "numbers.txt").write_text("3\n")
    fails("number 3 .* has 3", f"{root}:numbers.txt")
    (tmp_path / "some.txt").write_text("d\nnosuch\n")
    fails("names 'nosuch'", f"{root}:some.txt")
    (tmp_path / "some.txt").write_text("")
    fails("empty", f"{root}:some.txt")


def test_got10k_visibility(dataset):
    folder = dataset / "val" / "d"
    write_flags(folder, "absence.label", [1] + [0] * 21)
    write_flags(folder, "cover.label", [8, 0] + [1] * 20)
    (sequence,) = open_sources(f"got10k:{dataset}:val")[0].sequences
    assert sequence.visible.tolist() == [False, False] + [True] * 20
    write_flags(folder, "cover.label", [8] * 21)
    fails("sequence d .*cover.label.*: 21 values for 22 frames", f"got10k:{dataset}:val")


@pytest.mark.parametrize("separator", [",", "\t", " ", ", "])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_folder_formats(tmp_path, separator, ending):
    lines = [separator.join(("10.5", "12", "14", "16")) for _ in range(11)]
    lines[3] = separator.join(["NaN"] * 4)
    folder = tmp_path / "video"
    # unpadded numbers from 0 in a nested folder: 10 must come after 9
    write_sequence(folder, 11, lines, frames=folder / "img", pattern="f{}.png", first=0, ending=ending)
    (sequence,) = open_sources(f"folder:{tmp_path}")[0].sequences
    assert sequence.visible.tolist() == [i != 3 for i in range(11)]
    assert sequence.boxes[0].tolist() == [10.5, 12, 14, 16] and np.isnan(sequence.boxes[3]).all()
    assert sequence.path(10).endswith("img/f10.png") and sequence.frame(10).shape == (*HW, 3)
    assert names(f"folder:{folder}") == ["video"]


def test_frame_is_the_right_one(tmp_path):
    folder = write_sequence(tmp_path / "s", 12, pattern="{}.png", first=0)
    (sequence,) = open_sources(f"folder:{tmp_path}")[0].sequences
    expected = cv2.imread(str(folder / "11.png"))[..., ::-1]
    assert np.array_equal(sequence.frame(11), expected)


def test_still_images(tmp_path):
    for name in "ab":
        write_sequence(tmp_path / name, 1, ["5,6,20,20"])
    assert not open_sources(f"folder:{tmp_path}")[0].video


BROKEN = {
    "length": ("30 boxes for 29 frames; frame number 7 is missing", None),
    "empty file": ("frame 5 .*00000005.jpg.*empty", 5),
    "truncated": ("frame 6 .*00000006.jpg.*ends too early", 6),
    "no image": ("frame 8 .*00000008.jpg.*not an image", 8),
    "zero size": (r"frame 9 .*groundtruth.txt.*\[1.0, 2.0, 0.0, 5.0\] has no size", 9),
    "text": ("line 3 is '1,2,x,4'", None),
    "three numbers": ("line 4 is '1,2,3', expected four numbers", None),
    "no groundtruth": ("groundtruth.txt.*cannot be read", None),
    "no frames": ("no frames", None),
    "first frame only": ("1 boxes for 30 frames .a test set", None),
}


def break_it(folder, how):
    truth = folder / "groundtruth.txt"
    lines = truth.read_text().splitlines()
    frame = lambda i: folder / f"{i:08d}.jpg"  # noqa: E731
    if how == "length":
        frame(7).unlink()
    elif how == "empty file":
        frame(5).write_bytes(b"")
    elif how == "truncated":
        frame(6).write_bytes(frame(6).read_bytes()[:-40])
    elif how == "no image":
        frame(8).write_text("hello")
    elif how == "zero size":
        lines[8] = "1,2,0,5"
    elif how == "text":
        lines[2] = "1,2,x,4"
    elif how == "three numbers":
        lines[3] = "1,2,3"
    elif how == "no groundtruth":
        truth.unlink()
        return
    elif how == "no frames":
        for path in folder.glob("*.jpg"):
            path.unlink()
    elif how == "first frame only":
        lines = lines[:1]
    truth.write_text("\n".join(lines))


@pytest.mark.parametrize("how", BROKEN)
def test_broken(tmp_path, how):
    write_sequence(tmp_path / "good")
    break_it(write_sequence(tmp_path / "bad"), how)
    spec = f"folder:{tmp_path}"
    text, frame = BROKEN[how]
    assert "sequence bad" in fails(text, spec)

    (source,) = open_sources(spec, skip_bad=True)
    if frame is None:
        assert [s.name for s in source.sequences] == ["good"]
        assert "left out 1 sequences and 0 frames" in source.summary()
    else:
        bad = next(s for s in source.sequences if s.name == "bad")
        assert np.flatnonzero(~bad.visible).tolist() == [frame - 1]
        assert "left out 0 sequences and 1 frames" in source.summary()

    report = check(spec, progress=False)
    assert not report.ok and len(report.problems) == 1
    assert report.problems[0].frame == frame and "sequence bad" in str(report)


def test_doctor_decodes(tmp_path):
    folder = write_sequence(tmp_path / "s")
    spec = f"folder:{tmp_path}"
    report = check(spec, progress=False)
    assert report.ok and (report.sequences, report.frames, report.visible) == (1, 30, 30)
    path = folder / "00000004.jpg"
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 60] = bytes(60)  # head and tail are whole: only decoding shows it
    path.write_bytes(data)
    cv2.imwrite(str(folder / "00000009.jpg"), np.zeros((20, 20, 3), np.uint8))
    report = check(spec, progress=False)
    assert [p.frame for p in report.problems] == [4] and "00000004.jpg" in str(report)
    assert any("frame size changes" in n for n in report.notes)
    with pytest.raises(ChaseError, match=r"sequence s, frame 4 \(.*00000004.jpg\): cannot be decoded"):
        open_sources(spec)[0].sequences[0].frame(3)


def test_doctor_notes_short_sequences(tmp_path):
    write_sequence(tmp_path / "short", 12)
    write_sequence(tmp_path / "long", 30)
    assert any("never drawn: short" in n for n in check(f"folder:{tmp_path}", progress=False).notes)


@pytest.mark.parametrize("with_simplejpeg", [True, False])
def test_decode(monkeypatch, with_simplejpeg):
    if not with_simplejpeg:
        monkeypatch.setattr(decode, "simplejpeg", None)
    rng = np.random.default_rng(0)
    image = cv2.resize(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8), (64, 48))
    grey16 = rng.integers(0, 2**16, (5, 6), dtype=np.uint16)

    def through(extension, array):
        return decode.decode(cv2.imencode(extension, array)[1].tobytes())

    assert np.array_equal(through(".png", image[..., ::-1]), image)
    assert np.abs(through(".jpg", image[..., ::-1]).astype(int) - image).mean() < 5
    assert through(".jpg", image[..., 0]).shape == (48, 64, 3)
    grey = through(".png", image[..., 0])
    assert (grey == image[..., :1]).all()
    assert np.abs(through(".png", grey16).astype(int) - (grey16 >> 8)[..., None]).max() <= 1
    whole = cv2.imencode(".jpg", image)[1].tobytes()
    for broken in (b"", b"hello" * 20, whole[: len(whole) // 2]):
        with pytest.raises(decode.BrokenImage):
            decode.decode(broken)
    with pytest.raises(decode.BrokenImage, match="No such file"):
        decode.read_frame("/no/such/file.jpg")
