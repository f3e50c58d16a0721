"""Benchmarks as people have them: official annotations that end early, official splits, odd files."""

import os

import cv2
import numpy as np
import pytest

from chase_fast.data.evaluation import open_evaluation
from chase_fast.data.layouts import lasot_split
from chase_fast.data.layouts.vot import region_box
from chase_fast.datasets import BENCHMARKS
from chase_fast.errors import ChaseError
from chase_fast.remarks import by_kind
from tests.benchmarks import boxes, got10k_tree, lines, write, write_frames

LONG = "x" * 5000


def opened(spec):
    data = open_evaluation(spec)
    return {s.name: s for s in data.sequences}, by_kind(data.remarks)


def counts(remarks, words):
    """Sequence -> count of the one kind of remark with these words."""
    (found,) = [group for what, group in remarks.items() if words in what]
    return {r.sequence: r.count for r in found}


def lasot_sequence(root, name, frames=4, rows=None):
    home = root / name.rpartition("-")[0] / name
    write_frames(home / "img", frames)
    rows = boxes(frames) if rows is None else rows
    write(home / "groundtruth.txt", lines(rows))
    for label in ("full_occlusion", "out_of_view"):
        write(home / f"{label}.txt", ",".join("0" * len(rows)) + "\n")


# LaSOT


def test_lasot_knows_its_official_split(tmp_path):
    """Fault: `lasot:ROOT` was refused without testing_set.txt, which training does not need."""
    for name in ("cat-1", "cat-2", "cat-3", "dog-7"):  # cat-2 is for training
        lasot_sequence(tmp_path, name)
    found, remarks = opened(f"lasot:{tmp_path}")
    assert list(found) == ["cat-1", "cat-3", "dog-7"] and list(opened(f"lasot:{tmp_path}:test")[0]) == list(
        found
    )
    lost = counts(remarks, "sequences of the official test set are not there")
    assert len(lost) == 277 and "airplane-1" in lost and not set(lost) & set(found)
    assert set(lost) | set(found) == set(lasot_split.testing_names())
    train, remarks = opened(f"lasot:{tmp_path}:train")
    assert list(train) == ["cat-2"] and len(counts(remarks, "official train set")) == 1119
    assert list(opened(f"lasot:{tmp_path}:all")[0]) == ["cat-1", "cat-2", "cat-3", "dog-7"]
    with pytest.raises(
        ChaseError, match=r"none of the 280 test sequences of the official division .*testing_set"
    ):
        (tmp_path / "other" / "cat" / "cat-2").mkdir(parents=True)
        open_evaluation(f"lasot:{tmp_path / 'other'}")


def test_the_official_annotation_of_lasot_is_scored(tmp_path):
    """Fault: absence flags of another length than groundtruth.txt refused the whole set."""
    for name in ("cat-1", "cat-3", "cat-18"):
        lasot_sequence(tmp_path, name, 6)
    moved = boxes(4)
    moved[2, 0] += 1
    write(tmp_path / "annos" / "cat-1.txt", lines(moved))
    write(tmp_path / "annos" / "absent" / "cat-1.txt", "0\n0\n1\n0\n")
    write(tmp_path / "annos" / "absent" / "cat-3.txt", "0\n1\n0\n0\n0\n")  # no annotation of its own
    write(tmp_path / "annos" / "absent" / "cat-18.txt", "1\n" * 9)
    found, remarks = opened(f"lasot:{tmp_path}")
    cat = found["cat-1"]
    np.testing.assert_array_equal(cat.boxes, moved)
    assert cat.absent.tolist() == [False, False, True, False]
    assert len(cat.frames) == 4 and cat.frames_in_all == 6
    assert len(found["cat-3"].boxes) == len(found["cat-3"].absent) == len(found["cat-3"].frames) == 5
    assert found["cat-3"].absent.tolist() == [False, True, False, False, False]
    assert len(found["cat-18"].boxes) == 6 and found["cat-18"].absent.all()
    assert counts(remarks, "is shorter than groundtruth.txt") == {"cat-1": 2}
    assert counts(remarks, "differs from groundtruth.txt") == {"cat-1": 1}
    assert counts(remarks, "differ in length") == {"cat-3": 1, "cat-18": 3}
    assert counts(remarks, "the annotation ends before the video") == {"cat-1": 2, "cat-3": 1}


def test_an_empty_file_of_absence_flags_is_named(tmp_path):
    lasot_sequence(tmp_path, "cat-1")
    write(tmp_path / "annos" / "absent" / "cat-1.txt", "")
    with pytest.raises(ChaseError, match=r"sequence cat-1: .*absent.cat-1\.txt: 0 values for 1 frames"):
        open_evaluation(f"lasot:{tmp_path}")


# annotations that end before the video, and parts of videos


def test_an_annotation_may_end_early_in_every_layout(tmp_path):
    write_frames(tmp_path / "v" / "sequences" / "uav1_s", 5, "img{:07d}.jpg")
    write(tmp_path / "v" / "annotations" / "uav1_s.txt", lines(boxes(3)))
    write_frames(tmp_path / "t" / "frames" / "x", 5, "{}.jpg", 0)
    write(tmp_path / "t" / "anno" / "x.txt", lines(boxes(3)))
    write_frames(tmp_path / "o" / "Car4" / "img", 5, "{:04d}.jpg")
    write(tmp_path / "o" / "Car4" / "groundtruth_rect.txt", lines(boxes(3)))
    write_frames(tmp_path / "f" / "x", 5)
    write(tmp_path / "f" / "x" / "groundtruth.txt", lines(boxes(3)))
    write_frames(tmp_path / "vot" / "x" / "color", 5)
    write(tmp_path / "vot" / "x" / "groundtruth.txt", lines(boxes(3)))
    write_frames(tmp_path / "u" / "data_seq" / "UAV123" / "boat1", 5, "{:06d}.jpg")
    write(tmp_path / "u" / "anno" / "UAV20L" / "boat1.txt", lines(boxes(3)))
    specs = [f"visdrone:{tmp_path / 'v'}", f"trackingnet:{tmp_path / 't'}", f"otb:{tmp_path / 'o'}"]
    specs += [f"folder:{tmp_path / 'f'}", f"vot:{tmp_path / 'vot'}", f"uav123:{tmp_path / 'u'}:UAV20L"]
    for spec in specs:
        found, remarks = opened(spec)
        (sequence,) = found.values()
        assert len(sequence.frames) == len(sequence.boxes) == 3 and sequence.frames_in_all == 5, spec
        assert counts(remarks, "the annotation ends before the video") == {sequence.name: 2}
        first = os.path.splitext(os.path.basename(sequence.frames[0]))[0].lstrip("img0") or "0"
        assert first == ("0" if spec.startswith("trackingnet") else "1")


def test_a_missing_frame_is_no_annotation_that_ends_early(tmp_path):
    root = got10k_tree(tmp_path, {"a": 6})
    write(root / "val" / "a" / "groundtruth.txt", lines(boxes(4)))
    for label in ("absence", "cover"):
        write(root / "val" / "a" / f"{label}.label", "1\n" * 4)
    (root / "val" / "a" / "00000003.jpg").unlink()
    with pytest.raises(ChaseError, match=r"4 boxes in .* for 5 frames; frame number 3 is missing"):
        open_evaluation(f"got10k:{root}:val")


def test_uav123_at_a_third_of_the_rate(tmp_path):
    """bird1_2 is frames 775 ... of UAV123, which are frames 259 ... of the slow set (its official table)."""
    write_frames(tmp_path / "data_seq" / "UAV123_10fps" / "bird1", 270, "{:06d}.jpg")
    write(tmp_path / "anno" / "UAV123_10fps" / "bird1_1.txt", lines(np.tile(boxes(1), (85, 1))))
    write(tmp_path / "anno" / "UAV123_10fps" / "bird1_2.txt", lines(np.tile(boxes(1), (12, 1))))
    for spec in (f"uav123:{tmp_path}", f"uav123:{tmp_path}:UAV123_10fps"):
        found, remarks = opened(spec)
        assert found["bird1_1"].frames[0].endswith("000001.jpg") and found["bird1_1"].frames[-1].endswith(
            "85.jpg"
        )
        assert found["bird1_2"].frames[0].endswith("259.jpg") and found["bird1_2"].frames[-1].endswith(
            "270.jpg"
        )
        assert not remarks


# what is left out is said


def test_folders_without_an_annotation_are_named(tmp_path):
    for name in ("one", "two"):
        write_frames(tmp_path / "v" / "sequences" / name, 2, "img{:07d}.jpg")
        write_frames(tmp_path / "t" / "TEST" / "frames" / name, 2, "{}.jpg", 0)
        write_frames(tmp_path / "o" / name / "img", 2, "{:04d}.jpg")
    write(tmp_path / "v" / "annotations" / "one.txt", lines(boxes(2)))
    write(tmp_path / "t" / "TEST" / "anno" / "one.txt", lines(boxes(1)))
    write(tmp_path / "t" / "TEST" / "anno" / "._one.txt", "companion of another system")
    write(tmp_path / "o" / "one" / "groundtruth_rect.txt", lines(boxes(2)))
    for spec in (f"visdrone:{tmp_path / 'v'}", f"trackingnet:{tmp_path / 't'}", f"otb:{tmp_path / 'o'}"):
        found, remarks = opened(spec)
        assert list(found) == ["one"]
        assert counts(remarks, "sequence folders without an annotation") == {"two": 0}


@pytest.mark.parametrize("kind", ["vot", "otb", "folder", "got10k"])
def test_a_listed_folder_that_is_missing_is_refused(tmp_path, kind):
    """Fault: vot and otb dropped it silently."""
    home = tmp_path / "val" if kind == "got10k" else tmp_path
    write_frames(home / "ball" / ("img" if kind == "otb" else ""), 2)
    file = "groundtruth_rect.txt" if kind == "otb" else "groundtruth.txt"
    write(home / "ball" / file, lines(boxes(2)))
    write(home / "list.txt", "ball\nlost\n")
    spec = f"{kind}:{tmp_path}" + ":val" * (kind == "got10k")
    with pytest.raises(ChaseError, match=r"list\.txt names 'lost', but there is no such folder"):
        open_evaluation(spec)
    write(tmp_path / "mine.txt", "ball\n")  # the others can be named
    assert list(opened(f"{kind}:{tmp_path}:mine.txt")[0]) == ["ball"]
    write(home / "list.txt", f"ball\n{LONG}\n")
    with pytest.raises(ChaseError, match=r"list\.txt names 'x+\.\.\., but there is no such folder") as error:
        open_evaluation(spec)
    assert len(str(error.value)) < 500


# numbers and texts


@pytest.mark.parametrize(
    ("stated", "size"),
    [
        ("(64, 48)", (64, 48)),
        ("(0064, 0048)", (64, 48)),
        ("64x48", (64, 48)),
        ("[64, 48]", (64, 48)),
        ("(0, 0)", None),
        ("(64, 0)", None),
        ("(-64, 48)", None),
        ("(64.5, 48)", None),
        ("(" + "9" * 5000 + ", 48)", None),
        ("(64, 48); import os", None),
        ("", None),
    ],
)
def test_a_resolution_that_no_picture_has_is_not_taken(tmp_path, stated, size):
    """Faults: leading zeros were a traceback, and (0, 0) scored every box as empty."""
    root = got10k_tree(tmp_path, {"a": 3})
    frame = cv2.imread(str(root / "val" / "a" / "00000001.jpg"))
    for number in (1, 2, 3):  # another size than stated: seen which one is taken
        cv2.imwrite(str(root / "val" / "a" / f"{number:08d}.jpg"), cv2.resize(frame, (96, 80)))
    about = f"[METAINFO]\nobject_class: \xff\nresolution: {stated}\n"
    (root / "val" / "a" / "meta_info.ini").write_bytes(about.encode("latin-1"))
    found, remarks = opened(f"got10k:{root}:val")
    assert found["a"].size() == (size or (96, 80))
    assert bool(remarks) == (size is None)


@pytest.mark.parametrize(
    "spec",
    [f"{kind}:{{root}}:{{x}}" for kind in BENCHMARKS] + ["folder:{root}/{x}", "{x}:{root}"],
)
@pytest.mark.parametrize("text", [LONG, "a\0b", "ä\udcff"], ids=["long", "nul", "bytes"])
def test_names_of_any_text_are_one_line(tmp_path, spec, text):
    got10k_tree(tmp_path, {"a": 2})
    with pytest.raises(ChaseError) as error:
        open_evaluation(spec.format(root=tmp_path, x=text))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "kind", ["got10k", "folder", "lasot", "vot", "otb", "visdrone", "uav123", "trackingnet"]
)
def test_a_list_with_a_name_of_thousands_of_letters_is_one_short_line(tmp_path, kind):
    got10k_tree(tmp_path, {"a": 2})
    lasot_sequence(tmp_path, "cat-1")
    write(tmp_path / "Car4" / "groundtruth_rect.txt", lines(boxes(1)))
    for folder in ("annotations", "anno", "anno/UAV123"):
        write(tmp_path / folder / "a.txt", lines(boxes(2)))
    (tmp_path / "frames").mkdir()
    write(tmp_path / "mine.txt", f"{LONG}\n")
    with pytest.raises(ChaseError) as error:
        open_evaluation(f"{kind}:{tmp_path}:mine.txt")
    assert "xxx..." in str(error.value) and len(str(error.value)) < 500


@pytest.mark.parametrize("value", ["inf", "-inf", "1e308", "1e999", "99999999999"])
@pytest.mark.parametrize("kind", ["folder", "vot"])
def test_annotated_boxes_in_no_picture_are_refused(tmp_path, kind, value):
    write_frames(tmp_path / "x", 3)
    write(tmp_path / "x" / "groundtruth.txt", f"1,2,3,4\n{value},2,3,4\n1,2,3,4\n")
    with pytest.raises(ChaseError, match=r"sequence x: .*groundtruth\.txt: line 2 .*lies in no picture"):
        open_evaluation(f"{kind}:{tmp_path}")


@pytest.mark.parametrize("label", ["9" * 30, "1.5", "x", "-" + "9" * 25])
def test_labels_that_are_no_numbers_are_one_line(tmp_path, label):
    root = got10k_tree(tmp_path, {"a": 2})
    write(root / "val" / "a" / "cover.label", f"8\n{label}\n")
    with pytest.raises(ChaseError, match=r"sequence a: .*cover\.label") as error:
        open_evaluation(f"got10k:{root}:val")
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


def test_attributes_and_tags_never_stop_an_evaluation(tmp_path):
    """Fault: a tag that is not UTF-8 was a traceback. Attributes only make tables."""
    home = tmp_path / "vot" / "ball"
    write_frames(home / "color", 2)
    write(home / "groundtruth.txt", lines(boxes(2)))
    (home / "camera_motion.tag").write_bytes(b"\xff\xfe1\n")
    (home / "occlusion.tag").write_text("0\n1\n")
    (home / "._occlusion.tag").write_bytes(b"\0\5\x16\7")
    found, remarks = opened(f"vot:{tmp_path / 'vot'}")
    assert found["ball"].attributes == {"occlusion": True}
    assert counts(remarks, "tags that cannot be read") == {"ball": 1}
    (home / "camera_motion.tag").unlink()
    os.mkfifo(home / "camera_motion.tag")  # a pipe that nobody writes
    found, remarks = opened(f"vot:{tmp_path / 'vot'}")
    assert found["ball"].attributes == {"occlusion": True}
    assert counts(remarks, "tags that cannot be read") == {"ball": 1}
    write_frames(tmp_path / "v" / "sequences" / "x", 2, "img{:07d}.jpg")
    write(tmp_path / "v" / "annotations" / "x.txt", lines(boxes(2)))
    for text in ("1,0", "a" * 20, "", "9" * 40):
        write(tmp_path / "v" / "attributes" / "x_attr.txt", text)
        found, remarks = opened(f"visdrone:{tmp_path / 'v'}")
        assert found["x"].attributes == {} and counts(remarks, "attributes are left aside") == {"x": 1}


def mask_box(x, y, width, height, runs):
    """The definition: all pixels."""
    mask = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    mask = np.concatenate([mask, np.zeros(width * height - len(mask), bool)]).reshape(height, width)
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return [np.nan] * 4
    return [x + columns.min(), y + rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]


def test_a_mask_is_its_box_whatever_its_window(tmp_path):
    """Fault: a window of 9 GiB was allocated."""
    rng = np.random.default_rng(0)
    for _ in range(300):
        width, height = rng.integers(1, 9, 2).tolist()
        cuts = np.sort(rng.integers(0, width * height + 1, rng.integers(0, 7)))
        runs = np.diff(cuts, prepend=0).tolist()
        numbers = [3, 5, width, height, *runs]
        found = region_box("m" + ",".join(map(str, numbers)))
        np.testing.assert_array_equal(found, mask_box(3, 5, width, height, runs), str(numbers))
    side = 10**5
    assert region_box(f"m7,8,{side},{side},{3 * side + 2},5,{side}") == [9, 11, 5, 1]
    assert region_box(f"m0,0,{10**30},{10**30},{10**31},{10**30}") == [0, 10, 1e30, 1]
    for wrong in ("m0,0,2", "m0,0,-2,2,1", "m0,0,2,2,-1,3", "m0,0,2,2,3,3", "m1,x,2,2,1", "m" + "9" * 5000):
        with pytest.raises(ValueError):
            region_box(wrong)
    write_frames(tmp_path / "x", 2)
    write(tmp_path / "x" / "groundtruth.txt", f"1,2,3,4\nm0,0,{10**30},{10**30},{10**31},{10**30}\n")
    with pytest.raises(ChaseError, match=r"line 2 .* lies in no picture"):
        open_evaluation(f"vot:{tmp_path}")
