"""Boxes against the pixels of their frames: what the doctor says, and what training leaves out."""

import json
import logging
from pathlib import Path

import cv2
import numpy as np
import pytest

from chase_fast.data import SampleRecipe, SampleSet, open_sources
from chase_fast.data.doctor import check
from chase_fast.data.pack import __main__ as pack_command
from chase_fast.data.sequences import FileSequence
from chase_fast.doctor.__main__ import main as doctor
from tests import trees

SIZE = (320, 240)
LENGTH = 30
T = np.linspace(0, 2 * np.pi, LENGTH)
# a target that goes round in frames of 320 x 240
BOXES = np.stack([140 + 110 * np.cos(T), 100 + 80 * np.sin(T), 40 + 0 * T, 30 + 0 * T], 1)
JPEGS = {}


def jpeg(size: tuple[int, int]) -> bytes:
    if size not in JPEGS:
        noise = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
        JPEGS[size] = cv2.imencode(".jpg", noise)[1].tobytes()
    return JPEGS[size]


def sequence(folder: Path, boxes: np.ndarray, *sizes: tuple[int, int]) -> str:
    """A sequence whose frames have these sizes in turn; the data set's name."""
    folder.mkdir(parents=True)
    for i in range(len(boxes)):
        (folder / f"{i:06d}.jpg").write_bytes(jpeg((sizes or (SIZE,))[i % max(1, len(sizes))]))
    np.savetxt(folder / "groundtruth.txt", boxes, "%.4f", ",")
    return f"folder:{folder.parent}"


def some(boxes: np.ndarray, which: slice, box: list[float]) -> np.ndarray:
    changed = boxes.copy()
    changed[which] = box
    return changed


HALF = (SIZE[0] // 2, SIZE[1] // 2)
CORNERS = np.hstack([BOXES[:, :2], BOXES[:, :2] + BOXES[:, 2:]])
WRONG = {
    "every second box far outside": (
        some(BOXES, slice(0, None, 2), [900, 900, 10, 10]),
        SIZE,
        "15 of 30 boxes",
    ),
    "resized frames": (BOXES, HALF, "times the width"),
    "frames a little smaller": (BOXES, (224, 168), "boxes of larger frames"),
    "x and y swapped": (BOXES[:, [1, 0, 3, 2]], SIZE, "x and y were swapped"),
    "frames turned": (BOXES, SIZE[::-1], "turned by 90 degrees"),
    "normalised": (BOXES / (*SIZE, *SIZE), SIZE, "normalised"),
    "corners": (CORNERS, SIZE, "x1, y1, x2, y2"),
    "corners at the top left": (CORNERS * 0.4, SIZE, "x1, y1, x2, y2"),
    "another video": (BOXES + [250, 200, 0, 0], SIZE, "30 of 30 boxes have no pixel"),
}


@pytest.mark.parametrize("what", WRONG)
def test_the_doctor_says_what_boxes_look_like(tmp_path, what, capsys):
    boxes, size, words = WRONG[what]
    spec = sequence(tmp_path / "d" / "walk", boxes, size)
    report = check(spec, progress=False)
    (problem,) = report.problems
    assert not report.ok and problem.sequence == "walk" and words in problem.what
    assert doctor(["--data", spec]) == 2
    assert words in capsys.readouterr().out
    (source,) = open_sources(spec)  # and opening says it too, but does not stop
    assert "boxes do not fit their frames, see doctor --data (sequence walk:" in source.summary()
    assert words in source.summary()


RIGHT = {
    "as they are": BOXES,
    "partly outside on the left": BOXES - [50, 0, 0, 0],
    "partly outside on the right": BOXES + [60, 40, 0, 0],
    "larger than the frame": BOXES * [1, 1, 6, 6] - [90, 70, 0, 0],
    "growing": np.stack([10 + T * 20, 10 + T * 10, 20 + T * 25, 20 + T * 13], 1),
    "small, at the top left": BOXES * [0.1, 0.1, 0.1, 0.1],
    "one pixel": BOXES * [1, 1, 0, 0] + [0, 0, 1, 1],
    "standing still at the corner": np.tile([0.0, 0, 30, 20], (LENGTH, 1)),
}


@pytest.mark.parametrize("what", RIGHT)
def test_sound_boxes_are_sound(tmp_path, what):
    spec = sequence(tmp_path / "d" / "walk", RIGHT[what])
    report = check(spec, progress=False)
    assert report.ok and report.notes == () and report.visible == LENGTH
    assert open_sources(spec)[0].summary() == f"{spec}: 1 sequences, 30 frames"


def test_boxes_without_a_pixel_are_left_out_and_counted(tmp_path, monkeypatch):
    boxes = some(BOXES, slice(0, 30, 10), [400, 50, 20, 20])
    boxes[1] = [100, -40, 20, 30]  # above the frame
    boxes[2] = [SIZE[0] - 0.5, 50, 20, 20]  # half a pixel of it is inside
    spec = sequence(tmp_path / "d" / "walk", boxes)
    sequence(tmp_path / "d" / "run", BOXES)
    (source,) = open_sources(spec)
    assert np.flatnonzero(~source.sequences[1].visible).tolist() == [0, 1, 10, 20]
    assert source.sequences[0].visible.all()
    assert "count as not visible, see doctor --data (sequence walk: 4 of 30)" in source.summary()
    report = check(spec, progress=False)
    assert report.ok, "some boxes outside are no defect"
    assert [n for n in report.notes if "4 boxes in 1 sequences (first walk) have no pixel" in n]
    drawn, picture = [], FileSequence.picture

    def recording(self, index, windows=1):
        drawn.append((self.name, index))
        return picture(self, index, windows)

    monkeypatch.setattr(FileSequence, "picture", recording)
    samples = SampleSet([source], SampleRecipe(train_frames=2, test_frames=2, size=32), seed=0, size=40)
    for i in range(40):
        samples.sample(0, i)
    assert {i for name, i in drawn if name == "run"} >= {0, 1, 10, 20}
    walk = {i for name, i in drawn if name == "walk"}
    assert len(walk) > 10 and not walk & {0, 1, 10, 20}


def test_frames_that_shrink_are_noticed_when_drawn(tmp_path, caplog):
    """The first frame's size is not that of all: what only decoding shows is left out then, and said once."""
    right = BOXES.copy()
    right[:, 0] = 200 + 2 * np.arange(LENGTH)
    spec = sequence(tmp_path / "d" / "walk", right, SIZE, HALF)
    (source,) = open_sources(spec)
    assert source.sequences[0].visible.all(), "by the first frame's size"
    samples = SampleSet([source], SampleRecipe(train_frames=1, test_frames=1, size=32), seed=0, size=50)
    with caplog.at_level(logging.WARNING, "chase_fast.data"):
        for i in range(20):
            samples.sample(0, i)
    assert len([r for r in caplog.records if "without a pixel in their frame" in r.message]) == 1
    smaller = sequence(tmp_path / "e" / "walk", right, HALF, SIZE)
    (source,) = open_sources(smaller)
    assert np.flatnonzero(~source.sequences[0].visible).tolist() == list(range(0, LENGTH, 2)), "of their own"


def test_annotated_images(tmp_path):
    spec = trees.coco(tmp_path)
    file = tmp_path / "annotations" / "instances_train2017.json"
    whole = json.loads(file.read_text())
    data = json.loads(file.read_text())
    data["annotations"][3]["bbox"] = [200, 10, 20, 20]
    file.write_text(json.dumps(data))
    (source,) = open_sources(spec)
    assert len(source.sequences) == 23
    assert "1 boxes without a pixel in their image are left out" in source.summary()
    assert check(spec, progress=False).ok
    data = json.loads(json.dumps(whole))
    for image in data["images"]:
        del image["width"], image["height"]
    for annotation in data["annotations"]:
        annotation["bbox"] = [v * 3 for v in annotation["bbox"]]
    file.write_text(json.dumps(data))
    report = check(spec, progress=False)
    assert not report.ok and "of all images" in str(report) and "boxes of larger frames" in str(report)


def test_sets_packed_before_leave_them_out_too(tmp_path, monkeypatch, capsys):
    """A packed set that holds frames with boxes outside of them, as older versions wrote."""
    boxes = some(BOXES, slice(4, 7), [500, 50, 20, 20])
    spec = sequence(tmp_path / "d" / "walk", boxes)
    monkeypatch.setattr("chase_fast.data.sources._compared", lambda s, seen: s)
    assert pack_command.main([spec, "--out", str(tmp_path / "p"), "--size", "32", "--workers", "1"]) == 0
    monkeypatch.undo()
    capsys.readouterr()
    (source,) = open_sources(f"packed:{tmp_path}/p")
    assert np.flatnonzero(~source.sequences[0].visible).tolist() == [4, 5, 6]
    assert "(3)" in source.summary() and "without a pixel" in source.summary()


def test_benchmarks_of_evaluation_are_checked_too(tmp_path, capsys):
    """OTB, which training does not read."""
    for name, boxes in (("Good", BOXES), ("Small", BOXES)):
        sequence(tmp_path / name / "img", boxes, SIZE if name == "Good" else HALF)
        (tmp_path / name / "img" / "groundtruth.txt").rename(tmp_path / name / "groundtruth_rect.txt")
    report = check(f"otb:{tmp_path}", progress=False)
    assert (report.sequences, report.frames) == (2, 60)
    assert [p.sequence for p in report.problems] == ["Small"]
    (tmp_path / "Good" / "img" / "000003.jpg").write_bytes(jpeg(SIZE)[:500])
    assert doctor(["--data", f"otb:{tmp_path}"]) == 2
    out = capsys.readouterr().out
    assert "sequence Good, frame 4" in out and "sequence Small" in out
    assert doctor(["--data", "nosuch:/x"]) == 2
    assert "unknown dataset kind" in capsys.readouterr().err
