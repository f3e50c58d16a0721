"""The index of a dataset: opening again reads no annotation, changes are noticed, a bad index is no error."""

import json
import logging
import os
import sys
import time

import numpy as np
import pytest

from chase_fast.data import index, open_sources
from chase_fast.data.annotations import read_boxes
from chase_fast.data.doctor import check
from chase_fast.data.frames import Numbered, in_order
from chase_fast.data.sequences import FileSequence
from chase_fast.data.tables import VideoTable
from chase_fast.errors import ChaseError
from tests import trees
from tests.sequences import write_sequence

KINDS = trees.TREES

_opened: list[str] = []
_recording = False


def _hook(event, arguments):
    if (
        _recording
        and event in ("open", "os.listdir", "os.scandir")
        and isinstance(arguments[0], str | os.PathLike)
    ):
        _opened.append(os.fspath(arguments[0]))


sys.addaudithook(_hook)


def touched(function, under):
    """What function() returns, and the files and folders under `under` that it opened or listed."""
    global _recording
    _opened.clear()
    _recording = True
    try:
        value = function()
    finally:
        _recording = False
    return value, [p for p in _opened if p.startswith(str(under))]


def age(root, seconds=100):
    """All files and folders as if written a while ago: what is fresh is not kept in an index."""
    then = time.time() - seconds
    for folder, folders, files in os.walk(root):
        for name in [folder, *(os.path.join(folder, n) for n in folders + files)]:
            os.utime(name, (then, then))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CHASE_FAST_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(index, "_said", set())
    return tmp_path / "cache"


@pytest.fixture
def data(tmp_path):
    return tmp_path / "data"


def same(a, b):
    return len(a.sequences) == len(b.sequences) and all(
        x.name == y.name
        and [x.path(i) for i in range(len(x.boxes))] == [y.path(i) for i in range(len(y.boxes))]
        and np.array_equal(x.boxes, y.boxes, equal_nan=True)
        and np.array_equal(x.visible, y.visible)
        and x.boxes.dtype == np.float64
        for x, y in zip(a.sequences, b.sequences)
    )


@pytest.mark.parametrize("kind", KINDS)
def test_second_opening_reads_nothing(data, kind):
    spec = KINDS[kind](data)
    age(data)
    (first,), looked_at = touched(lambda: open_sources(spec), data)
    assert looked_at, "the recorder sees what is read"
    (second,), looked_at = touched(lambda: open_sources(spec), data)
    assert looked_at == [] and same(first, second)
    assert (first.notes, first.video, first.summary()) == (second.notes, second.video, second.summary())
    _, looked_at = touched(lambda: check(spec, progress=False), data)
    assert looked_at, "doctor reads anew"


def edit(file, old, new):
    """An edit in place that keeps the size."""
    text = file.read_text()
    assert old in text and len(old) == len(new)
    file.write_text(text.replace(old, new, 1))


CHANGES = {
    "an annotation": (
        "trackingnet",
        lambda d: (d / "TRAIN_0/anno/video0_0.txt").write_text("0,0,0,0\n" * 24),
    ),
    "a frame": ("trackingnet", lambda d: (d / "TRAIN_1/frames/video1_0/23.jpg").unlink()),
    "a sequence more": ("trackingnet", lambda d: trees.trackingnet(d, start=7)),
    "a flag": ("lasot", lambda d: edit(d / "cat/cat-3/out_of_view.txt", "0,0,0", "0,1,0")),
    "the split": ("lasot", lambda d: edit(d / "training_set.txt", "cat-2\ncat-3", "cat-3\ncat-2")),
    "a label": ("got10k", lambda d: edit(d / "train/GOT-10k_Train_000002/cover.label", "8\n8", "8\n0")),
    "the list": ("got10k", lambda d: (d / "train/list.txt").write_text("GOT-10k_Train_000003\n")),
    "the boxes": (
        "coco",
        lambda d: edit(d / "annotations/instances_train2017.json", '"iscrowd": 0', '"iscrowd": 1'),
    ),
    "a region": ("vot", lambda d: edit(d / "clip0/groundtruth.txt", "\n", ";")),
    "a target": (
        "otb",
        lambda d: (d / "Car1/groundtruth_rect.2.txt").write_text("1,2,9,9\n" * 24),
    ),
    "a video less": ("uav123", lambda d: (d / "anno/UAV123/boat1.txt").unlink()),
    "an image": ("coco", lambda d: next((d / "images/train2017").iterdir()).unlink()),
}


@pytest.mark.parametrize("what", CHANGES)
def test_changes_are_noticed(data, what):
    kind, change = CHANGES[what]
    spec = KINDS[kind](data)
    age(data)
    (before,) = open_sources(spec, skip_bad=True)
    assert same(before, open_sources(spec, skip_bad=True)[0])
    change(data)
    (after,) = open_sources(spec, skip_bad=True)
    assert not same(before, after)


def test_a_repaired_frame_is_noticed(data):
    spec = trees.trackingnet(data)
    frame = data / "TRAIN_0" / "frames" / "video0_0" / "5.jpg"
    whole = frame.read_bytes()
    frame.write_bytes(whole[:-50])
    age(data)
    for _ in range(2):
        with pytest.raises(ChaseError, match=r"frame 6 .*ends too early"):
            open_sources(spec)
    frame.write_bytes(whole)  # in place: the folder stays the same
    assert open_sources(spec)[0].problems == ()


def test_what_has_just_been_written_is_not_kept(data, cache):
    spec = trees.got10k(data)
    open_sources(spec)
    assert not list(cache.rglob("*.npz"))


def test_list_files_of_the_same_name_are_told_apart(data, tmp_path, monkeypatch):
    trees.got10k(data)
    for place, number in ((data, 0), (tmp_path / "here", 2)):
        place.mkdir(exist_ok=True)
        (place / "some.txt").write_text(f"{number}\n")
    age(tmp_path)
    spec = f"got10k:{data}:some.txt"
    assert open_sources(spec)[0].sequences[0].name.endswith("1")
    monkeypatch.chdir(tmp_path / "here")
    assert open_sources(spec)[0].sequences[0].name.endswith("3")


def test_broken_index_is_read_again_and_said_once(data, cache, caplog):
    spec = trees.lasot(data)
    age(data)
    (good,) = open_sources(spec)
    (file,) = cache.rglob("*.npz")
    whole = file.read_bytes()
    middle = len(whole) // 2
    broken = [
        b"",
        b"hello",
        whole[:200],
        whole[:middle],
        whole[: middle - 5] + bytes(10) + whole[middle + 5 :],
    ]
    for data_on_disk in broken:
        file.write_bytes(data_on_disk)
        assert same(good, open_sources(spec)[0])
        assert file.read_bytes() == whole, "written anew"
    assert len([r for r in caplog.records if "is read again" in r.message]) == 1

    np.savez(file, index=np.frombuffer(json.dumps({"table": "other"}).encode(), np.uint8))
    assert index.load(file) is None
    np.savez(file, index=np.array([{"a": 1}], object))
    assert index.load(file) is None, "pickles are not read"


def test_unwritable_cache_is_said_once(data, tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("CHASE_FAST_CACHE", str(tmp_path / "file"))
    spec = trees.coco(data)
    age(data)
    with caplog.at_level(logging.WARNING, "chase_fast.data"):
        first, second = open_sources(spec), open_sources(spec)
    assert same(first[0], second[0])
    assert len([r for r in caplog.records if "is not kept" in r.message]) == 1


def test_frame_names():
    for names in (
        ["0.jpg", "1.jpg"],
        [f"{i}.jpg" for i in range(12)],
        [f"a%_{i:04d}.PNG" for i in range(1, 1002)],
    ):
        ordered = in_order(names[::-1])
        assert isinstance(ordered, Numbered) and list(ordered) == names and ordered[-1] == names[-1]
    assert in_order(["10.jpg", "9.jpg", "12.jpg"]) == ("9.jpg", "10.jpg", "12.jpg")
    assert in_order(["b.jpg", "a.jpg"]) == ("a.jpg", "b.jpg") and in_order([]) == ()
    assert list(in_order(["007.jpg", "7.jpg", "08.jpg"])) == ["007.jpg", "7.jpg", "08.jpg"]


def test_table_keeps_every_bit(data):
    write_sequence(data / "a", 3, ["0.1,0.2,3,4", "NaN,NaN,NaN,NaN", "1,2,3.5,1e3"])
    write_sequence(data / "b", 2, ["1,2,3,4", "1,2,3,4.5"], pattern="x{}y.jpg", first=9)
    (source,) = open_sources(f"folder:{data}", skip_bad=True)
    table = VideoTable.from_arrays(source.sequences.arrays())
    for k, name in enumerate("ab"):
        assert np.array_equal(table[k].boxes, read_boxes(data / name / "groundtruth.txt"), equal_nan=True)
    assert [table[1].path(i)[-6:] for i in range(2)] == ["x9y.jpg"[-6:], "x10y.jpg"[-6:]]
    exact = VideoTable.of(
        [FileSequence("s", "f", ("a", "b"), np.array([[1, 2, 3, 4.5]] * 2), np.ones(2, bool))]
    )
    assert exact.boxes.dtype == np.float32 and table.boxes.dtype == np.float64
    with pytest.raises(IndexError):
        table[2]
