"""The layouts of TrackingNet, LaSOT and GOT-10k: what is read, what is visible, what is called wrong."""

import cv2
import numpy as np
import pytest

from chase_fast.data import SampleRecipe, SampleSet, loader, open_sources
from chase_fast.data.doctor import check
from chase_fast.data.evaluation import open_evaluation
from chase_fast.data.layouts import lasot_split
from chase_fast.data.layouts.trackingnet import sets_of
from chase_fast.datasets import BENCHMARKS
from chase_fast.datasets import KINDS as KINDS_OF_DATASETS
from chase_fast.errors import ChaseError
from tests import trees
from tests.benchmarks import lines as lines_of
from tests.benchmarks import write, write_frames
from tests.sequences import write_sequence

KINDS = trees.TREES | {"coco2014": lambda path: trees.coco(path, 2014)}


def fails(text, spec):
    with pytest.raises(ChaseError, match=text) as e:
        open_sources(spec)
    assert "\n" not in str(e.value)


def problems(spec):
    """What doctor finds; opening strictly must name the first of it, unless only decoding shows it."""
    report = check(spec, progress=False)
    assert not report.ok
    return [str(p) for p in report.problems]


def names(spec):
    return [s.name for s in open_sources(spec)[0].sequences]


@pytest.mark.parametrize("kind", KINDS)
def test_boxes_and_frames_are_those_written(tmp_path, kind):
    (source,) = open_sources(KINDS[kind](tmp_path))
    still = kind.startswith("coco")
    assert source.video != still and len(source.sequences) == (24 if still else 3)
    clips = (0, 2, 1) if kind == "trackingnet" else (0, 1, 2)  # clips 0 and 2 are in TRAIN_0, 1 in TRAIN_1
    for i in range(3):
        frames, boxes = trees.clip(clips[i])
        if still:
            sequence, t = source.sequences[8 * i], 0  # the first annotation of the clip's first image
        else:
            sequence, t = source.sequences[i], 11  # 11 comes after 2, whatever the padding
            assert np.array_equal(sequence.visible, ~np.isnan(boxes).any(1))
            assert np.array_equal(sequence.boxes[sequence.visible], boxes[sequence.visible])
        if still:
            assert np.array_equal(sequence.boxes, boxes[:1]) and sequence.visible.tolist() == [True]
        expected = cv2.imdecode(np.frombuffer(frames[t], np.uint8), cv2.IMREAD_COLOR_RGB)
        assert np.array_equal(sequence.frame(t), expected)
    assert check(source.spec, progress=False).ok


def test_every_kind_of_the_table_has_a_tree():
    assert {*trees.TREES, "packed", "synthetic"} == set(KINDS_OF_DATASETS)


@pytest.mark.parametrize("kind", BENCHMARKS)
def test_training_and_evaluation_take_the_same_boxes_of_the_same_frames(tmp_path, kind):
    spec = trees.TREES[kind](tmp_path)
    (source,), data = open_sources(spec), open_evaluation(spec)
    assert [s.name for s in source.sequences] == [s.name for s in data.sequences]
    for train, scored in zip(source.sequences, data.sequences):
        assert [train.path(i) for i in range(trees.LENGTH)] == scored.frames and scored.scored
        assert np.array_equal(train.boxes, scored.boxes, equal_nan=True)
        hidden = ~train.visible if scored.absent is None else scored.absent
        assert np.array_equal(hidden, ~train.visible)
    parts = [open_sources(f"{spec}:0-40%")[0].sequences, open_evaluation(f"{spec}:40-100%").sequences]
    assert [s.name for part in parts for s in part] == [s.name for s in data.sequences]


@pytest.mark.parametrize("kind", ["otb", "visdrone", "trackingnet"])
def test_a_sequence_without_an_annotation_is_a_problem_of_training_and_a_remark_of_evaluation(tmp_path, kind):
    spec = trees.TREES[kind](tmp_path)
    files = {"otb": "Car2/*.txt", "visdrone": "uav2_s.txt", "trackingnet": "video1_0.txt"}
    (truth,) = tmp_path.rglob(files[kind])
    truth.unlink()
    (problem,) = problems(spec)
    assert truth.name in problem and "cannot be read: No such file" in problem
    assert len(open_sources(spec, skip_bad=True)[0].sequences) == 2
    data = open_evaluation(spec)
    assert len(data.sequences) == 2 and "without an annotation" in data.remarks[0].what


def test_parts_of_a_uav123_video_are_frames_of_one_folder(tmp_path):
    """bird1_1 is frames 1 to 253 of bird1 (official table)."""
    write_frames(tmp_path / "data_seq" / "UAV123" / "bird1", 260, "{:06d}.jpg")
    rows = np.tile([4.0, 6, 12, 10], (253, 1))
    rows[5] = np.nan
    write(tmp_path / "anno" / "UAV123" / "bird1_1.txt", lines_of(rows))
    (sequence,) = open_sources(f"uav123:{tmp_path}")[0].sequences
    assert sequence.path(252).endswith("bird1/000253.jpg") and len(sequence.files) == 253
    assert np.flatnonzero(~sequence.visible).tolist() == [5]


def test_vot_polygons_and_otb_targets_can_be_learned_from(tmp_path):
    write_frames(tmp_path / "v" / "ball" / "color", 3)
    write(tmp_path / "v" / "ball" / "groundtruth.txt", "4,6,16,6,16,16,4,16\nm0,0,2,2,4\nm6,7,4,3,5,2,2,2\n")
    (ball,) = open_sources(f"vot:{tmp_path / 'v'}")[0].sequences
    assert ball.boxes[0].tolist() == [4, 6, 12, 10] and ball.visible.tolist() == [True, False, True]
    write_frames(tmp_path / "o" / "Jogging" / "img", 3, "{:04d}.jpg")
    for k in (1, 2):
        write(tmp_path / "o" / "Jogging" / f"groundtruth_rect.{k}.txt", f"{k},6,12,10\n" * 3)
    found = open_sources(f"otb:{tmp_path / 'o'}")[0].sequences
    assert [(s.name, s.boxes[0, 0]) for s in found] == [("Jogging.1", 1), ("Jogging.2", 2)]


def test_all_kinds_in_one_training_set_with_prdimps_probabilities(tmp_path):
    specs = [
        trees.lasot(tmp_path / "lasot") + "*0.25",
        trees.got10k(tmp_path / "got10k"),
        trees.trackingnet(tmp_path / "trackingnet"),
        trees.coco(tmp_path / "coco"),
    ]
    sources = open_sources(specs)
    samples = SampleSet(sources, SampleRecipe(size=48), seed=0, size=8)
    rng = np.random.default_rng(0)
    drawn = [samples._draw(rng)[0] for _ in range(2000)]
    shares = [np.mean([d is s for d in drawn]) for s in sources]
    assert np.abs(np.subtract(shares, np.array([1, 4, 4, 4]) / 13)).max() < 0.04
    (batch,) = loader(samples, 8, epoch=0)
    assert batch.train_images.shape == (3, 8, 3, 48, 48) and batch.test_images.isfinite().all()


def test_a_still_image_stands_for_all_frames(tmp_path):
    sources = open_sources(trees.coco(tmp_path))
    recipe = SampleRecipe(
        size=48,
        train_scale_jitter=0,
        train_centre_jitter=0,
        test_scale_jitter=0,
        test_centre_jitter=0,
    )
    sample = SampleSet(sources, recipe, 0, 4, augment=False).sample(0, 2)
    assert len(sample.images) == 6 and (sample.images == sample.images[:1]).all()
    assert (sample.boxes == sample.boxes[:1]).all()


def test_sources_can_be_told_apart(tmp_path):
    trees.got10k(tmp_path)
    trees.got10k(tmp_path, "val", start=3)
    train, val, still = open_sources(
        [f"got10k:{tmp_path}:train", f"got10k:{tmp_path}:val", trees.coco(tmp_path)]
    )
    assert len(set(train.keys())) == 3 and not set(train.keys()) & set(val.keys())
    assert len(still.keys()) == 1 and open_sources("synthetic:a*2")[0].keys() == ["synthetic:a"]


# TrackingNet


def test_trackingnet_sets():
    assert sets_of("train", "") == list(range(12)) and sets_of("TRAIN_11", "") == [11]
    assert sets_of("0-3", "") == [0, 1, 2, 3] and sets_of("0,2,5-7", "") == [0, 2, 5, 6, 7]
    for split in (None, "", "TEST", "12", "3-1", "x", "0,0", "0-", "val"):
        with pytest.raises(ChaseError, match=r"^spec: "):
            sets_of(split, "spec")


def test_trackingnet_visibility_and_defects(tmp_path):
    spec = trees.trackingnet(tmp_path)
    anno = tmp_path / "TRAIN_0" / "anno" / "video0_0.txt"
    lines = anno.read_text().splitlines()
    anno.write_text("\n".join(["0,0,0,0", *lines[1:]]))
    assert not open_sources(spec)[0].sequences[0].visible[0]
    assert any("1 boxes in 1 sequences (first video0_0) have no size" in n for n in check(spec).notes)

    fails("expected a folder TRAIN_2; .* holds TRAIN_0/, TRAIN_1/", f"trackingnet:{tmp_path}:0-3")
    fails("TEST is annotated on its first frames only", f"trackingnet:{tmp_path}:TEST")
    fails("there is no folder", f"trackingnet:{tmp_path}/nowhere:0")
    (tmp_path / "TRAIN_2").mkdir()
    fails("expected frames/<sequence>/0.jpg and .*TRAIN_2 holds nothing", f"trackingnet:{tmp_path}:2")

    frames = tmp_path / "TRAIN_0" / "frames"
    (frames / "video0_0" / "7.jpg").unlink()
    (frames / "video2_0").rename(frames / "other_0")
    assert [p.split(" (")[0] for p in problems(spec)] == [
        "sequence other_0",
        "sequence video0_0",
        "sequence video2_0",
    ]
    text = " ".join(problems(spec))
    for part in ("24 boxes for 23 frames; frame number 7 is missing", "other_0.txt", "folder of the frames"):
        assert part in text


# LaSOT


def test_lasot_division():
    assert len(lasot_split.TEST) == 70 and {len(set(v)) for v in lasot_split.TEST.values()} == {4}
    assert len(lasot_split.testing_names()) == 280
    every = [f"{name}-{n}" for name in lasot_split.TEST for n in range(1, 21)]
    training, testing = lasot_split.training_names(), lasot_split.testing_names()
    assert len(set(training)) == 1120 and {*training, *testing} == set(every)
    assert "airplane-2" in training and "airplane-1" in testing and not set(training) & set(testing)


def test_lasot_splits(tmp_path):
    trees.lasot(tmp_path)  # cat-2, cat-3, cat-4 with a training_set.txt; officially cat-3 is for testing
    root = f"lasot:{tmp_path}"
    assert names(f"{root}:train") == names(root) == ["cat-2", "cat-3", "cat-4"]
    (tmp_path / "training_set.txt").unlink()
    assert names(f"{root}:train") == ["cat-2", "cat-4"] and names(f"{root}:test") == ["cat-3"]
    (tmp_path / "testing_set.txt").write_text("cat-4\n")
    assert names(f"{root}:train") == ["cat-2", "cat-3"] and names(f"{root}:test") == ["cat-4"]
    (tmp_path / "mine.txt").write_text("cat-4\r\ncat-2\r\n")
    assert names(f"{root}:mine.txt") == names(f"{root}:{tmp_path}/mine.txt") == ["cat-4", "cat-2"]
    (tmp_path / "mine.txt").write_text("cat-4\ncat-9\n")
    fails("1 of 2 sequences of .*mine.txt are missing .* first 'cat-9'", f"{root}:mine.txt")
    fails("split 'val' is neither train, test, all nor a list file", f"{root}:val")
    (tmp_path / "testing_set.txt").unlink()
    assert names(f"lasot:{tmp_path}/cat") == ["cat-2", "cat-4"], "class folders may be missing"
    (tmp_path / "cat").rename(tmp_path / "felidae")
    for n in (2, 3, 4):
        (tmp_path / "felidae" / f"cat-{n}").rename(tmp_path / "felidae" / f"lynx-{n}")
    fails("none of the 1120 train sequences of the official division is under .*training_set.txt", root)
    (tmp_path / "empty").mkdir()
    fails("expected <class>/<class>-<number>/ .* holds nothing", f"lasot:{tmp_path}/empty")


def test_lasot_visibility_and_defects(tmp_path):
    spec = trees.lasot(tmp_path)
    home = tmp_path / "cat" / "cat-2"
    flags = np.zeros(trees.LENGTH, int)
    flags[[3, 4]] = 1
    (home / "full_occlusion.txt").write_text(",".join(map(str, flags)))
    flags[:] = 0
    flags[5] = 1
    (home / "out_of_view.txt").write_text(",".join(map(str, flags)) + "\n")
    assert np.flatnonzero(~open_sources(spec)[0].sequences[0].visible).tolist() == [3, 4, 5]

    (home / "out_of_view.txt").write_text("0,0,0")
    (tmp_path / "cat" / "cat-3" / "full_occlusion.txt").unlink()
    (tmp_path / "cat" / "cat-4" / "groundtruth.txt").write_text("1,2,3,4\n1,2,three,4\n")
    first, second, third = problems(spec)
    assert "cat-2" in first and "out_of_view.txt): 3 values for 24 frames" in first
    assert "cat-3" in second and "full_occlusion.txt): cannot be read: No such file" in second
    assert "cat-4" in third and "line 2 is '1,2,three,4'" in third
    fails("sequence cat-2", spec)
    with pytest.raises(ChaseError, match="no usable sequence is left, 3 problems"):
        open_sources(spec, skip_bad=True)


# GOT-10k


def test_got10k_boxes_without_size_are_not_visible(tmp_path):
    spec = trees.got10k(tmp_path)
    home = tmp_path / "train" / "GOT-10k_Train_000001"
    lines = (home / "groundtruth.txt").read_text().splitlines()
    (home / "groundtruth.txt").write_text("\n".join([lines[0], "-1,-1,-1,-1", "5,5,0,9", *lines[3:]]))
    assert np.flatnonzero(~open_sources(spec)[0].sequences[0].visible).tolist() == [1, 2]
    report = check(spec, progress=False)
    assert report.ok and "2 boxes in 1 sequences (first GOT-10k_Train_000001) have no size" in str(report)


def test_known_bad_sequences_are_noted(tmp_path):
    write_sequence(tmp_path / "train" / "GOT-10k_Train_001636")
    report = check(f"got10k:{tmp_path}:train", progress=False)
    assert report.ok and "GOT-10k_Train_001636: known to be bad as published: frames 43 to 53" in str(report)


@pytest.mark.parametrize("kind", ["got10k", "folder"])
def test_folders_that_hold_no_sequences(tmp_path, kind):
    trees.trackingnet(tmp_path)
    fails("expected folders with frames and groundtruth.txt.* holds TRAIN_0/, TRAIN_1/", f"{kind}:{tmp_path}")
