"""Names of frames: their order, their numbers, what is missing; which files of a folder are frames."""

import random
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from chase_fast.data import open_sources
from chase_fast.data.doctor import check
from chase_fast.data.evaluation import open_evaluation
from chase_fast.data.frame_files import Ambiguous, find_frames
from chase_fast.data.frames import frame_numbers, in_order, missing_number, order_note
from chase_fast.errors import ChaseError
from chase_fast.track.sources.folder import Folder

ORDERS = {
    "seconds.microseconds": [f"{1305031102 + i / 30:.6f}.png" for i in range(60)],
    "fractions without their zeros": ["1.05.png", "1.25.png", "1.5.png", "2.125.png", "10.5.png"],
    "counts behind a dot": [f"9.{i}.png" for i in (1, 2, 3, 9, 10, 11, 20)],
    "a camera's number last": [f"frame{i}_cam2.png" for i in range(1, 31)],
    "two numbers": [f"frame{i}_cam{c}.png" for i in range(1, 12) for c in (1, 2)],
    "unpadded": [f"{i}.jpg" for i in (1, 2, 9, 10, 100, 1000)],
    "padded in part": ["1.png", "02.png", "003.png", "10.png"],
    "below zero": ["-10.png", "-2.png", "-1.png", "0.png", "1.png", "10.png"],
    "below zero with a word": ["frame-2.png", "frame-1.png", "frame0.png", "frame1.png"],
    "a hyphen, no sign": [f"frame-{i}.png" for i in (1, 2, 3, 10, 11)],
    "a hyphen in front, no sign": [f"-{i}.png" for i in (1, 2, 3, 10, 11)],
    "Windows' copies": ["img.jpg", *(f"img ({i}).jpg" for i in range(2, 13))],
    "days and times": ["2023-12-31_23-59-59.jpg", "2024-01-01_00-00-00.jpg", "2024-01-01_00-00-01.jpg"],
    "years last": [
        "30-12-2023 23.59.jpg",
        "31-12-2023 00.01.jpg",
        "01-01-2024 00.00.jpg",
        "02-01-2024 07.30.jpg",
    ],
    "months first": ["12-30-2023_1.jpg", "12-31-2023_1.jpg", "12-31-2023_2.jpg", "01-01-2024_1.jpg"],
    "half days": [
        f"Screenshot 2024-02-03 at {t}.png"
        for t in (
            "12.59.59\u202fAM",
            "1.00.00\u202fAM",
            "9.30.00\u202fAM",
            "10.00.00\u202fAM",
            "12.00.00\u202fPM",
            "12.59.59\u202fPM",
            "1.00.00\u202fPM",
        )
    ],
    "capitals": ["IMG_1.JPG", "img_2.jpg", "IMG_3.jpg", "img_10.JPG"],
    "hexadecimal": ["0a9f.jpg", "0b00.jpg", "9fff.jpg", "a000.jpg", "a9b0.jpg", "ab10.jpg"],
    "hexadecimal, some without a letter": [f"frame_{i:04X}.png" for i in range(0x2C)],
    "one without a number": ["img.jpg", "img1.jpg", "img2.jpg", "img10.jpg"],
    "a letter, then a number": ["a1b.png", "a1b2.png", "a1b10.png", "a2b.png"],
    "signs of both kinds": [f"t={i:+04d}.png" for i in (-11, -2, -1, 0, 1, 9, 10)],
    "shots": [f"shot{s}.{i:04d}.png" for s in (9, 10) for i in range(3)],
    "two endings": ["1.png", "2.jpg", "3.jpeg", "10.JPG", "11.tif"],
    "words": ["apple.jpg", "bee.jpg", "cat.jpg"],
}


@pytest.mark.parametrize("what", ORDERS)
def test_order(what):
    names = ORDERS[what]
    for seed in range(5):
        shuffled = random.Random(seed).sample(names, len(names))
        assert list(in_order(shuffled)) == names


@pytest.mark.parametrize(
    ("names", "numbers", "missing"),
    [
        ([f"frame{i}_cam2.png" for i in range(1, 9)], list(range(1, 9)), None),
        ([f"frame{i}_cam2.png" for i in (1, 2, 4)], [1, 2, 4], 3),
        ([f"{i}_1920x1080.png" for i in (7, 8, 9, 11)], [7, 8, 9, 11], 10),
        ([f"{i:05d}.jpg" for i in range(0, 50, 5)], list(range(0, 50, 5)), None),
        (["0.jpg", "5.jpg", "10.jpg", "20.jpg"], [0, 5, 10, 20], 15),
        ([f"{i}.jpg" for i in (1, 3, 4, 5)], [1, 3, 4, 5], 2),
        (["33.jpg", "67.jpg", "100.jpg", "133.jpg", "167.jpg"], [33, 67, 100, 133, 167], None),
        (["1700000000.jpg", "1700000001.jpg", "1700000003.jpg"], [1700000000, 1700000001, 1700000003], None),
        (["20240105_105958.jpg", "20240105_105959.jpg", "20240105_110000.jpg"], None, None),
        ([f"Screenshot 2024-02-03 at 12.59.{s} PM.png" for s in (57, 58, 59)], [57, 58, 59], None),
        ([f"Screenshot 2024-02-03 at 12.59.{s} PM.png" for s in (55, 56, 59)], [55, 56, 59], None),
        (["-1.png", "0.png", "2.png"], [-1, 0, 2], 1),
        (["a.jpg", "b.jpg"], None, None),
        (["only7.jpg"], [7], None),
        # a counter beside a time stamp: the counter
        ([f"{i:04d}_{1305031102 + i / 30:.3f}.png" for i in (0, 1, 2, 4)], [0, 1, 2, 4], 3),
        ([f"frame{i}_cam{c}.png" for i in (1, 2) for c in (1, 2)], None, None),
    ],
)
def test_numbers(names, numbers, missing):
    ordered = in_order(names)
    if numbers is not None:
        assert frame_numbers(ordered) == numbers
    assert missing_number(ordered) == missing


def test_several_numbers_are_said():
    assert order_note(in_order([f"frame{i}_cam2.png" for i in range(9)])) is None
    assert order_note(in_order(ORDERS["seconds.microseconds"])) is None, "seconds and their fraction are one"
    assert order_note(in_order(ORDERS["days and times"])) is None
    note = order_note(in_order(ORDERS["two numbers"]))
    assert "frame1_cam1.png, frame1_cam2.png ... frame11_cam2.png" in note and "frame number" not in note
    assert "frame number is 0007" in order_note(in_order([f"{i:04d}_{i * i}.png" for i in range(7, 20)]))


RNG = np.random.default_rng(0)


def colours(height=24, width=32):
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)


def mask():
    return np.where(RNG.random((24, 32)) > 0.5, 255, 0).astype(np.uint8)


def palette():
    return Image.fromarray(RNG.integers(0, 3, (24, 32)).astype(np.uint8)).convert("P")


def fill(folder: Path, files: dict) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            (content if isinstance(content, Image.Image) else Image.fromarray(content)).save(path)
    return folder


def test_hexadecimal_numbers_are_no_kinds_of_files(tmp_path):
    names = [f"f{i:02x}.png" for i in range(8, 20)]
    fill(tmp_path / "hexadecimal", {name: colours() for name in names})
    assert list(find_frames(tmp_path / "hexadecimal").names) == names
    fill(tmp_path / "two", {f"{i:04d}{c}.png": colours() for i in range(6) for c in "ab"})
    with pytest.raises(Ambiguous, match=r"0000a\.png and 0000b\.png"):
        find_frames(tmp_path / "two")


N = range(1, 7)
JPEGS = {f"{i:08d}.jpg": colours() for i in N}
# what lies in a folder beside JPEGS -> words of the note (None: nothing to say)
BESIDE = {
    "masks of the same name": ({f"{i:08d}.png": mask() for i in N}, "6, like 00000001.png"),
    "masks with a palette": ({f"{i:08d}.png": palette() for i in N}, "6, like 00000001.png"),
    "small previews": ({f"{i:08d}.png": colours(12, 16) for i in N}, "6, like 00000001.png"),
    "one preview": ({"00000001.png": colours()}, "1, like 00000001.png"),
    "masks of some": ({f"{i:08d}.png": palette() for i in (1, 5)}, "2, like 00000001.png"),
    "_mask": ({f"{i:08d}_mask.png": mask() for i in N}, "6, like 00000001_mask.png"),
    "_seg in colours": ({f"{i:08d}_seg.jpg": colours() for i in N}, "6, like 00000001_seg.jpg"),
    "depth": ({f"depth_{i:08d}.png": mask() for i in N}, "6, like depth_00000001.png"),
    "thumbnails": ({f"thumb_{i:08d}.jpg": colours(6, 8) for i in N}, "6, like thumb_00000001.jpg"),
    "a cover": ({"cover.jpg": colours()}, "1, like cover.jpg"),
    "a copy of the browser": ({"00000001 (1).jpg": colours()}, "1, like 00000001 (1).jpg"),
    "companions": (
        {f"._{i:08d}.jpg": b"Mac" for i in N}
        | {".DS_Store": b"", "Thumbs.db": b"", "@eaDir/1.jpg": colours(), "desktop.ini": b"", "1.jpg~": b""},
        None,
    ),
    "downloads": ({"00000007.jpg.part": b"x", "00000008.jpg.crdownload": b"x"}, "2, like 00000007.jpg.part"),
    "a folder of masks": ({f"masks/{i:08d}.png": mask() for i in N}, None),
}


@pytest.mark.parametrize("what", BESIDE)
def test_frames_and_what_lies_beside_them(tmp_path, what):
    beside, words = BESIDE[what]
    found = find_frames(fill(tmp_path, JPEGS | beside))
    assert list(found.names) == sorted(JPEGS) and found.folder == tmp_path
    said = "; ".join(map(str, found.notes))
    assert words in said if words else said == ""


# what a folder holds -> the folder and names of its frames, or words of the error
HOLDS = {
    "a scan with depth": (
        {f"frame-{i:06d}.color.jpg": colours() for i in N} | {f"frame-{i:06d}.depth.png": mask() for i in N},
        (".", [f"frame-{i:06d}.color.jpg" for i in N]),
    ),
    "only masks": ({f"{i}_mask.png": mask() for i in N}, (".", [f"{i}_mask.png" for i in N])),
    "names without a number": (
        {n: colours() for n in ("a.jpg", "b.jpg", "c.jpg")},
        (".", ["a.jpg", "b.jpg", "c.jpg"]),
    ),
    "two formats": (
        JPEGS | {n.replace("jpg", "png"): colours() for n in JPEGS},
        "00000001.jpg and 00000001.png: leave only the frames there",
    ),
    "two cameras": (
        {f"{i}_{side}.jpg": colours() for i in N for side in ("left", "right")},
        "like 1_left.jpg and 1_right.jpg",
    ),
    "grey frames, some coloured drawings": (
        {f"{i}.jpg": mask() for i in range(20)} | {f"{i}.png": colours() for i in range(4)},
        "0.jpg and 0.png",
    ),
    "folders of colour and infrared": (
        {f"{home}/{n}": a for home in ("ir", "rgb") for n, a in JPEGS.items()},
        ("rgb", list(JPEGS)),
    ),
    "folders of a stereo camera": (
        {f"{home}/{n}": a for home in ("left", "right") for n, a in JPEGS.items()},
        "holds 2 folders of frames (left, right): give one of them",
    ),
    "frames and masks in folders": (
        {f"a/{n}": a for n, a in JPEGS.items()} | {f"masks/{n}": mask() for n in JPEGS},
        ("a", list(JPEGS)),
    ),
    "folders of a day": ({f"2024/01/05/{n}": a for n, a in JPEGS.items()}, ("2024/01/05", list(JPEGS))),
    "folders of days": (
        {f"2024/{day}/{n}": a for day in ("01", "02") for n, a in JPEGS.items()},
        "(2024/01, 2024/02): give one",
    ),
    "a picture beside img": (
        {f"img/{n}": a for n, a in JPEGS.items()} | {"preview.jpg": colours()},
        ("img", list(JPEGS)),
    ),
}


@pytest.mark.parametrize("what", HOLDS)
def test_track_and_datasets_choose_the_same_frames(tmp_path, what):
    files, expected = HOLDS[what]
    folder = fill(tmp_path / "s", files)
    (folder / "groundtruth.txt").write_text("1,2,9,8\n" * (len(expected[1]) if expected[0] != "h" else 6))
    if isinstance(expected, str):
        with pytest.raises(Ambiguous) as first:
            find_frames(folder)
        assert expected in str(first.value)
        for opened in (
            lambda: Folder(folder, 0, None),
            lambda: open_sources(f"folder:{tmp_path}"),
            lambda: open_evaluation(f"folder:{tmp_path}"),
        ):
            with pytest.raises(ChaseError) as e:
                opened()
            assert str(first.value) in str(e.value) and "\n" not in str(e.value)
        return
    home, names = expected
    paths = [str(folder / home / n) for n in names]
    source = Folder(folder, 0, None)
    assert [f.name for f in source.frames()] == names
    (training,) = open_sources(f"folder:{tmp_path}")
    assert [training.sequences[0].path(i) for i in range(len(names))] == paths
    assert open_evaluation(f"folder:{tmp_path}").sequences[0].frames == paths
    others = len({Path(f).parts[0] for f in files if "/" in f}) > 1 or len(files) > len(names)
    if others:  # something was left out: everybody says so
        assert source.notes and re.search("left out|one of them is read", training.summary())
        assert check(f"folder:{tmp_path}", progress=False).notes


def test_boxes_meet_their_frames(tmp_path):
    """TUM's names: the k-th box belongs to the k-th frame in time."""
    folder = tmp_path / "s"
    folder.mkdir()
    for i in range(30):
        name = folder / f"{1305031102 + i * 0.37:.6f}.png"
        cv2.imwrite(str(name), np.full((20, 30, 3), 8 * i, np.uint8))
    (folder / "groundtruth.txt").write_text("".join(f"{i},2,9,8\n" for i in range(30)))
    (source,) = open_sources(f"folder:{tmp_path}")
    benchmark = open_evaluation(f"folder:{tmp_path}").sequences[0]
    tracked = [f.image[0, 0, 0] for f in Folder(folder, 0, None).frames()]
    for i in range(30):
        assert source.sequences[0].frame(i)[0, 0, 0] == benchmark.frame(i)[0, 0, 0] == tracked[i] == 8 * i
        assert source.sequences[0].boxes[i, 0] == benchmark.boxes[i, 0] == i


def test_empty_placeholders_and_dangling_links_are_named(tmp_path):
    folder = fill(tmp_path / "s", JPEGS)
    (folder / "groundtruth.txt").write_text("1,2,9,8\n" * 6)
    frame = folder / "00000003.jpg"
    frame.write_bytes(b"")
    with pytest.raises(ChaseError, match=r"frame 3 \(.*00000003.jpg\): the file is empty"):
        open_sources(f"folder:{tmp_path}")
    with pytest.raises(ChaseError, match=r"00000003.jpg cannot be read: the file is empty"):
        list(Folder(folder, 0, None).frames())
    frame.unlink()
    frame.symlink_to(tmp_path / "elsewhere.jpg")
    with pytest.raises(ChaseError, match=r"frame 3 \(.*00000003.jpg\): No such file"):
        open_sources(f"folder:{tmp_path}")
    Image.fromarray(colours()).save(tmp_path / "elsewhere.jpg")
    assert len(open_sources(f"folder:{tmp_path}")[0].sequences[0].files) == 6
