"""Result files as public toolkits name and place them: found, read, and what is said about them."""

import os
import zipfile

import numpy as np
import pytest

from chase_fast.data.evaluation import open_evaluation
from chase_fast.errors import ChaseError
from chase_fast.evaluate import results_zip
from chase_fast.evaluate.results import read_run, write_sequence
from chase_fast.evaluate.results_zip import unpack
from tests.benchmarks import boxes, lines, write, write_frames


def spread(folder, files):
    for number, name in enumerate(files):
        write(folder / name, lines(boxes(3, 10 * number), "\t"))
    return folder


def read(folder, *names, **more):
    return read_run(folder, {name: (name,) for name in names}, **more)


def starts(found):
    """Sequence -> number of its file in `spread`."""
    return {name: int(b[0, 0]) // 10 for name, b in found.boxes.items()}


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["uav_bike1.txt", "uav_car1_s.txt", "uav_bird1_2.txt"], ["bike1", "car1_s", "bird1_2"]),
        (["nfs_Gymnastics.txt", "nfs_bee.txt"], ["Gymnastics", "bee"]),
        (["Jogging_1.txt", "Jogging_2.txt", "Skating2_1.txt"], ["Jogging.1", "Jogging.2", "Skating2.1"]),
        (["Jogging-1.txt", "Jogging-2.txt"], ["Jogging.1", "Jogging.2"]),
        (["jogging.1.txt", "FLEETFACE.txt"], ["Jogging.1", "FleetFace"]),
        (["a.txt", "a_time.txt", "a_object_presence_scores.txt", "a_all_boxes.txt"], ["a"]),
        (["uav0000_1_s.txt", "uav0000_2_s.txt"], ["uav0000_1_s", "uav0000_2_s"]),
        (["a/a_001.txt", "b/b_001.txt"], ["a", "b"]),
        (["a/boxes.txt", "b/boxes.txt"], ["a", "b"]),
        (["boxes.txt"], ["anything"]),
        (["._a.txt", "a.txt"], ["a"]),
    ],
)
def test_names_of_the_public_toolkits(tmp_path, files, names):
    found = read(spread(tmp_path, files), *names)
    wanted = [f for f in files if not f.startswith("._")]
    assert starts(found) == {n: files.index(wanted[k]) for k, n in enumerate(names)}
    assert not found.remarks and found.folder == tmp_path


def test_an_exact_name_goes_before_a_similar_one(tmp_path):
    found = read(spread(tmp_path, ["uav_car1.txt", "Car1.txt", "car1.txt"]), "car1", "Car1")
    assert starts(found) == {"car1": 2, "Car1": 1}


def test_two_files_that_may_be_meant_are_one_line(tmp_path):
    spread(tmp_path, ["uav_bike1.txt", "Bike1.txt"])
    with pytest.raises(ChaseError, match=r"results of bike1 may be Bike1 or uav_bike1: keep one of them"):
        read(tmp_path, "bike1")


@pytest.mark.parametrize(
    ("place", "given"),
    [
        ("tracking_results/dimp/prdimp50", "tracking_results"),
        ("tracking_results/ostrack/vitb_256/lasot", "tracking_results/ostrack"),
        ("tracking_results/dimp/prdimp50_003", "tracking_results/dimp"),
        ("results/OTB100/DaSiamRPN", "results"),
        ("mine_tracking_result", "."),
        ("out/results/acc", "out"),
        ("baseline", "."),
    ],
)
def test_a_folder_above_the_run_is_seen_through_and_said(tmp_path, place, given):
    spread(tmp_path / place, ["x-1.txt", "x-2.txt"])
    spread(tmp_path / place, ["times/x-1_time.txt"])
    found = read(tmp_path / given, "x-1", "x-2")
    assert found.folder == tmp_path / place and starts(found) == {"x-1": 0, "x-2": 1}
    assert found.remarks[0].what.endswith(os.path.relpath(tmp_path / place, tmp_path / given))


@pytest.mark.parametrize("below", ["times", "a"])
def test_a_folder_below_the_run_is_seen_through_and_said(tmp_path, below):
    files = ["a.txt", "b.txt", "times/a_time.txt"] if below == "times" else ["a/a_001.txt", "b/b_001.txt"]
    found = read(spread(tmp_path / "run", files) / below, "a", "b")
    assert starts(found) == {"a": 0, "b": 1}
    assert found.remarks[0].what == "the results are those in run, the folder above"


def test_several_runs_are_one_line(tmp_path):
    for run in ("prdimp50_000", "prdimp50_001"):
        spread(tmp_path / run, ["a.txt", "b.txt"])
    spread(tmp_path / "incomplete", ["a.txt"])
    with pytest.raises(ChaseError, match=r"several runs \(prdimp50_000, prdimp50_001\): name the folder of"):
        read(tmp_path, "a", "b")
    with pytest.raises(ChaseError, match=r"incomplete has no results for 1 of 2 sequences \(b\)"):
        read(tmp_path / "incomplete", "a", "b")


def test_results_that_are_not_used_are_named(tmp_path):
    spread(tmp_path, ["a.txt", "a_time.txt", "other.txt", "more/more_001.txt", "a_fps.txt", "note.md"])
    (remark, *_), *_ = [[r for r in read(tmp_path, "a").remarks if "not in this set" in r.what]]
    named = [r.sequence for r in read(tmp_path, "a").remarks if r.what == remark.what]
    assert named == ["more", "other"]


CLOCKS = {
    "empty": ("", "cannot be read"),
    "short": ("0.1\n0.2\n", "another number of frames"),
    "long": ("0.1\n" * 7, "another number of frames"),
    "words": ("fast\n" * 3, "cannot be read"),
    "infinite": ("inf\n" * 3, "cannot be read"),
    "binary": ("\udcff\udcfe\x00", "cannot be read"),
}


@pytest.mark.parametrize("kind", CLOCKS)
@pytest.mark.parametrize("layout", ["flat", "pytracking", "got10k"])
def test_a_time_file_never_stops_the_scoring(tmp_path, layout, kind):
    for name in "ab":
        write_sequence(tmp_path, layout, name, boxes(3), np.full(3, 0.5))
    clock = next(tmp_path.rglob("a_time.txt"))
    clock.write_bytes(CLOCKS[kind][0].encode("utf-8", "surrogateescape"))
    found = read(tmp_path, "a", "b")
    assert list(found.boxes) == ["a", "b"] and list(found.times) == ["b"]
    assert [(r.sequence, r.count, r.unit) for r in found.remarks] == [("a", 1, "file")]
    assert CLOCKS[kind][1] in found.remarks[0].what


def test_a_time_file_that_is_a_folder_is_none(tmp_path):
    write_sequence(tmp_path, "pytracking", "a", boxes(3))
    (tmp_path / "a_time.txt").mkdir()
    assert read(tmp_path, "a").times == {}


def test_human4_has_the_number_of_its_only_annotation(tmp_path):
    root = tmp_path / "otb"
    write_frames(root / "Human4" / "img", 3, "{:04d}.jpg")
    write(root / "Human4" / "groundtruth_rect.1.txt", "\n")
    write(root / "Human4" / "groundtruth_rect.2.txt", lines(boxes(3)))
    (human4,) = open_evaluation(f"otb:{root}").sequences
    for number, spelling in enumerate(("Human4", "Human4.2", "Human4-2", "Human4_2", "otb_Human4_2")):
        folder = spread(tmp_path / str(number), [f"{spelling}.txt"])
        assert list(read_run(folder, {human4.name: (human4.name, *human4.also)}).boxes) == ["Human4"]


def test_an_archive_of_results(tmp_path, monkeypatch):
    spread(tmp_path / "run", ["a/a_001.txt", "b/b_001.txt"])
    archive = tmp_path / "run.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as z:
        for file in sorted((tmp_path / "run").rglob("*.txt")):
            z.write(file, file.relative_to(tmp_path))
        z.writestr("../outside.txt", "x")
        z.writestr("run/readme.pdf", "x")
    found = read(unpack(archive, tmp_path / "unpacked"), "a", "b")
    assert starts(found) == {"a": 0, "b": 1}
    assert not (tmp_path / "outside.txt").exists() and not list((tmp_path / "unpacked").rglob("*.pdf"))
    monkeypatch.setattr(results_zip, "MOST_BYTES", 10)
    with pytest.raises(ChaseError, match=r"run\.zip unpacks to 0 MiB of text: these are no result files"):
        unpack(archive, tmp_path / "large")
    archive.write_bytes(archive.read_bytes()[:200])
    with pytest.raises(ChaseError, match=r"run\.zip is not a zip archive, or it is damaged"):
        unpack(archive, tmp_path / "again")
