"""Benchmark layouts: the frames, boxes, flags and attributes each gives, and what it says of broken files."""

import numpy as np
import pytest

from chase_fast.data.evaluation import open_evaluation
from chase_fast.data.layouts.uav123 import PARTS
from chase_fast.data.layouts.vot import region_box
from chase_fast.errors import ChaseError
from tests.benchmarks import boxes, got10k_tree, lines, write, write_frames


def only(spec):
    data = open_evaluation(spec)
    return {s.name: s for s in data.sequences}


def test_got10k_val_and_test(tmp_path):
    got10k_tree(tmp_path, {"b": 4, "a": 3})
    got10k_tree(tmp_path, {"t": 5}, "test")
    data = open_evaluation(f"got10k:{tmp_path}:val")
    assert [s.name for s in data.sequences] == ["b", "a"]  # the order of list.txt
    b = data.sequences[0]
    np.testing.assert_array_equal(b.boxes, boxes(4))
    assert b.cover.tolist() == [8, 8, 8, 0] and not b.absent.any() and b.size() == (64, 48)
    assert b.attributes == {"Target absent": False, "Less than half visible": False}
    assert b.frame(2).shape == (48, 64, 3) and b.scored

    hidden = open_evaluation(f"got10k:{tmp_path}:test").sequences[0]
    assert not hidden.scored and np.isnan(hidden.boxes[1:]).all() and len(hidden.boxes) == 5
    assert hidden.first_box.tolist() == boxes(1)[0].tolist() and hidden.size() == (64, 48)

    write(tmp_path / "mine.txt", "a\n")
    assert list(only(f"got10k:{tmp_path}:mine.txt")) == ["a"]
    write(tmp_path / "numbers.txt", "1\n0\n")
    assert list(only(f"got10k:{tmp_path}:numbers.txt")) == ["a", "b"]


def test_trackingnet_frames_are_in_numerical_order(tmp_path):
    write_frames(tmp_path / "TEST" / "frames" / "x_1", 12, "{}.jpg", 0)
    write(tmp_path / "TEST" / "anno" / "x_1.txt", "4,6,12,10\n")
    sequence = only(f"trackingnet:{tmp_path}")["x_1"]
    assert [f.rsplit("/", 1)[1] for f in sequence.frames] == [f"{i}.jpg" for i in range(12)]
    assert not sequence.scored
    assert list(only(f"trackingnet:{tmp_path}:TEST")) == ["x_1"]


def test_lasot_absence_comes_from_its_flags_or_the_official_files(tmp_path):
    for name in ("cat-1", "cat-2"):
        home = tmp_path / "cat" / name
        write_frames(home / "img", 4)
        write(home / "groundtruth.txt", lines(boxes(4)))
        write(home / "full_occlusion.txt", "0,1,0,0\n")
        write(home / "out_of_view.txt", "0,0,0,1\n")
    write(tmp_path / "testing_set.txt", "cat-2\n")
    write(tmp_path / "absent" / "cat-1.txt", "0\n0\n1\n0\n")
    write(tmp_path / "att" / "cat-1.txt", ",".join(["1"] + ["0"] * 12 + ["1"]) + "\n")
    assert only(f"lasot:{tmp_path}")["cat-2"].absent.tolist() == [False, True, False, True]
    everything = only(f"lasot:{tmp_path}:all")
    assert everything["cat-1"].absent.tolist() == [False, False, True, False]
    present = [k for k, v in everything["cat-1"].attributes.items() if v]
    assert present == ["Illumination Variation", "Aspect Ratio Change"]
    (tmp_path / "testing_set.txt").write_text("cat-5\n")
    with pytest.raises(ChaseError, match=r"1 of 1 sequences of .*testing_set.txt are missing .* 'cat-5'"):
        open_evaluation(f"lasot:{tmp_path}:test")


def test_uav123_parts_share_a_folder(tmp_path):
    assert (
        len(PARTS) == 51
        and PARTS["bird1_2"] == ("bird1", 775, 1477)
        and len({f for f, *_ in PARTS.values()}) == 19
    )
    write_frames(tmp_path / "data_seq" / "UAV123" / "bird1", 260, "{:06d}.jpg")
    rows = np.tile(boxes(1), (253, 1))
    rows[5] = np.nan
    write(tmp_path / "anno" / "UAV123" / "bird1_1.txt", lines(rows))
    write(tmp_path / "anno" / "UAV123" / "att" / "bird1_1.txt", ",".join("010000000000") + "\n")
    write_frames(tmp_path / "data_seq" / "UAV123" / "boat1", 3, "{:06d}.jpg")
    write(tmp_path / "anno" / "UAV123" / "boat1.txt", lines(boxes(3)))
    write(tmp_path / "anno" / "UAV20L" / "boat1.txt", lines(boxes(2)))
    found = only(f"uav123:{tmp_path}")
    assert len(found["bird1_1"].frames) == 253 and found["bird1_1"].frames[-1].endswith("000253.jpg")
    assert np.isnan(found["bird1_1"].boxes[5]).all()
    assert [k for k, v in found["bird1_1"].attributes.items() if v] == ["Aspect Ratio Change"]
    assert len(only(f"uav123:{tmp_path}:UAV20L")["boat1"].frames) == 2
    write(tmp_path / "anno" / "UAV123" / "car1_2.txt", lines(boxes(2)))
    with pytest.raises(ChaseError, match=r"sequence car1_2: .* 2 boxes, frames 751 to 1627"):
        open_evaluation(f"uav123:{tmp_path}")


def test_otb_delimiters_targets_and_frame_ranges(tmp_path):
    write_frames(tmp_path / "Jogging" / "img", 3, "{:04d}.jpg")
    write(tmp_path / "Jogging" / "groundtruth_rect.1.txt", lines(boxes(3), "\t"))
    write(tmp_path / "Jogging" / "groundtruth_rect.2.txt", lines(boxes(3, 20), " "))
    write_frames(tmp_path / "Human4" / "img", 2, "{:04d}.jpg")
    write(tmp_path / "Human4" / "groundtruth_rect.1.txt", "\n")
    write(tmp_path / "Human4" / "groundtruth_rect.2.txt", lines(boxes(2)))
    write_frames(tmp_path / "Football1" / "img", 76, "{:04d}.jpg")
    write(tmp_path / "Football1" / "groundtruth_rect.txt", lines(np.tile(boxes(1), (74, 1))))
    found = only(f"otb:{tmp_path}")
    assert sorted(found) == ["Football1", "Human4", "Jogging.1", "Jogging.2"]
    assert found["Jogging.2"].boxes[0, 0] == 20 and len(found["Football1"].frames) == 74


def test_visdrone_test_dev_and_challenge(tmp_path):
    for folder, annotation in (("dev", "annotations"), ("challenge", "initialization")):
        home = tmp_path / folder
        write_frames(home / "sequences" / "uav1_s", 3, "img{:07d}.jpg")
        write(home / annotation / "uav1_s.txt", lines(boxes(3 if folder == "dev" else 1)))
    write(tmp_path / "dev" / "attributes" / "uav1_s_attr.txt", ",".join("000000000001") + "\n")
    dev = only(f"visdrone:{tmp_path}:dev")["uav1_s"]
    assert [k for k, v in dev.attributes.items() if v] == ["Viewpoint Change"] and dev.scored
    assert not only(f"visdrone:{tmp_path / 'challenge'}")["uav1_s"].scored


def test_vot_regions_and_tags(tmp_path):
    home = tmp_path / "sequences" / "ball"
    write_frames(home / "color", 3)
    write(home / "groundtruth.txt", "4,6,16,6,16,16,4,16\n5,6,12,10\nm6,7,4,3,5,2,2,2\n")
    write(home / "camera_motion.tag", "0\n1\n")
    write(home / "occlusion.tag", "0\n0\n0\n")
    write(tmp_path / "sequences" / "list.txt", "ball\n")
    ball = only(f"vot:{tmp_path}")["ball"]
    np.testing.assert_array_equal(ball.boxes, [[4, 6, 12, 10], [5, 6, 12, 10], [7, 8, 2, 2]])
    assert ball.attributes == {"camera motion": True, "occlusion": False}
    assert np.isnan(region_box("m0,0,2,2,4")).all()
    with pytest.raises(ValueError):
        region_box("m0,0,2,2,5")


def test_folder_is_one_sequence_or_many(tmp_path):
    write_frames(tmp_path / "one", 2)
    write(tmp_path / "one" / "groundtruth.txt", lines(boxes(2)))
    assert list(only(f"folder:{tmp_path}")) == list(only(f"folder:{tmp_path / 'one'}")) == ["one"]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nothing:{root}", "unknown dataset kind 'nothing'; known are got10k"),
        ("got10k", "the path is missing"),
        ("got10k:{root}/no:val", "there is no folder"),
        ("got10k:{root}:a:b", "more than kind:path:split"),
        ("got10k:{root}", "say which split"),
        ("got10k:{root}:later", "neither a folder under .* nor a list file"),
        ("got10k:{root}:bad.txt", "names 'nobody'"),
        ("uav123:{root}", "there is no folder .*anno/UAV123"),
        ("otb:{root}", "no folder with img/"),
        ("coco:{root}:val", "unknown dataset kind 'coco'; known are got10k"),
        ("folder:{root}/x*2", r"there is no folder .*/x\*2"),  # there are no weights
    ],
)
def test_wrong_names_are_told_in_one_line(tmp_path, spec, message):
    got10k_tree(tmp_path, {"a": 2})
    write(tmp_path / "bad.txt", "nobody\n")
    with pytest.raises(ChaseError, match=message) as error:
        open_evaluation(spec.format(root=tmp_path))
    assert "\n" not in str(error.value)


def test_broken_sequences_are_named(tmp_path):
    got10k_tree(tmp_path, {"a": 4, "b": 3})
    spec = f"got10k:{tmp_path}:val"
    home = tmp_path / "val" / "a"
    third = home / "00000003.jpg"
    data = third.read_bytes()
    third.unlink()
    with pytest.raises(ChaseError, match=r"sequence a: 4 boxes in .* for 3 frames; frame number 3 is"):
        open_evaluation(spec)
    third.write_bytes(data[: len(data) // 2])
    with pytest.raises(ChaseError, match=r"sequence a, frame 3 \(.*00000003.jpg\): cannot be decoded"):
        open_evaluation(spec).sequences[0].frame(2)
    write(home / "groundtruth.txt", "1,2,3\n")
    with pytest.raises(ChaseError, match=r"sequence a: .*line 1 is '1,2,3'"):
        open_evaluation(spec)
    write(home / "groundtruth.txt", lines([[1, 2, 0, 5]] * 4))
    with pytest.raises(ChaseError, match=r"first box .* has no size"):
        open_evaluation(spec)
    write(tmp_path / "val" / "b" / "cover.label", "8\n")
    with pytest.raises(ChaseError, match="and 1 more such sequences"):
        open_evaluation(spec)
