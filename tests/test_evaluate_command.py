"""python -m chase_fast.evaluate as a user runs it: scores, page, packs, exit codes."""

import json
import re

import cv2
import numpy as np
import pytest

from chase_fast.checkpoint import pack_tracker
from chase_fast.data.evaluation import open_evaluation
from chase_fast.evaluate.__main__ import main
from chase_fast.evaluate.results import read_results, write_sequence
from chase_fast.evaluate.trackers import Checkpoint
from chase_fast.nn.spec import TrackerSpec
from chase_fast.track import Tracker
from tests import moving
from tests.benchmarks import boxes, got10k_tree, lines, write, write_frames

LENGTHS = {"a": 8, "b": 6}


@pytest.fixture
def tree(tmp_path):
    return got10k_tree(tmp_path / "data", LENGTHS)


def results(folder, shift=0.0, lengths=LENGTHS):
    """Result files whose boxes lie `shift` pixels to the right, but for the first."""
    for name, length in lengths.items():
        moved = boxes(length)
        moved[1:, 0] += shift
        write_sequence(folder, "flat", name, moved, np.full(length, 0.02))
    return folder


def run(*arguments):
    return main([str(a) for a in arguments])


def test_scores_of_result_files(tree, tmp_path, capsys):
    perfect, off = results(tmp_path / "perfect"), results(tmp_path / "off", 4.0)
    out = tmp_path / "out"
    command = ("--data", f"got10k:{tree}:val", "--results", perfect, f"OFF={off}", "--out", out)
    assert run(*command, "--protocol", "got10k", "otb") == 0
    scores = json.loads((out / "scores.json").read_text())
    metrics = {t: v["metrics"] for t, v in scores["protocols"]["got10k"]["trackers"].items()}
    assert metrics["perfect"]["AO"] == pytest.approx(1) and metrics["perfect"]["SR75"] == 1
    # 12 wide, 4 off: 8 / 16; the last frame of each has cover 0 and the first does not count
    assert metrics["OFF"]["AO"] == pytest.approx(0.5) and metrics["OFF"]["frames_scored"] == 6 + 4
    otb = scores["protocols"]["otb"]["trackers"]["OFF"]["metrics"]
    assert otb["P20"] == 1 and 0.4 < otb["AUC"] < 0.55
    assert scores["speed"]["OFF"]["fps_total"] == pytest.approx(50)
    printed = capsys.readouterr().out
    assert re.search(r"AO\s+got10k\s+1\.0000\s+0\.5000", printed) and re.search(r"P20\s+otb", printed)
    rows = (out / "scores.csv").read_text().splitlines()
    assert rows[0] == "tracker,protocol,sequence,metric,value" and "OFF,got10k,ALL,AO,0.5" in rows

    page = (out / "evaluation.html").read_text()
    assert "http://" not in page.replace("http://www.w3.org", "") and "https://" not in page
    assert (
        page.count('class="chart"') == 3 and page.count('class="spark"') == 2
    )  # success; success, precision
    assert page.count("&quot;axis&quot;:&quot;overlap threshold&quot;") == 2  # values under the pointer
    assert "AO (got10k)" in page and "Protocol otb" in page
    # names for people, and no path as the title
    assert (
        "<h1>Evaluation on data val (GOT-10k layout)</h1>" in page and "<title>Evaluation on data val" in page
    )
    assert "Average overlap<small>AO</small>" in page and "Precision at 20 px<small>P20</small>" in page


def test_pictures_and_attributes_are_on_the_page(tree, tmp_path):
    write(tree / "val" / "a" / "cut_by_image.label", "1\n" * 8)
    out = tmp_path / "out"
    arguments = ("--data", f"got10k:{tree}:val", "--results", results(tmp_path / "off", 9.0), "--out", out)
    assert run(*arguments, "--pictures", 3, "--quiet") == 0
    page = (out / "evaluation.html").read_text()
    assert page.count("data:image/jpeg;base64") == 2  # too short for two pictures of one sequence
    assert "Cut by image" in page and "by attribute" in page
    attributes = json.loads((out / "scores.json").read_text())["protocols"]["got10k"]["per_attribute"]
    assert attributes["Cut by image"]["sequences"] == 1
    assert run(*arguments, "--pictures", 0, "--quiet") == 0
    assert "data:image" not in (out / "evaluation.html").read_text()


def test_a_checkpoint_and_opencv_are_run_and_resumed(tree, tmp_path, capsys):
    spec = TrackerSpec("prdimp", "resnet18", None, "chase", 16, 8, 2)
    checkpoint = tmp_path / "tiny.safetensors"
    checkpoint.write_bytes(pack_tracker(spec.build("random", 0), spec, {}))
    out = tmp_path / "out"
    arguments = ["--data", f"got10k:{tree}:val", "--checkpoint", checkpoint, "--opencv", "mil"]
    arguments += ["--out", out, "--workers", 0, "--preset", "fast", "--device", "cpu", "--pictures", 0]
    assert run(*arguments) == 0
    assert "checkpoints run on cpu, " in capsys.readouterr().out
    for name in ("tiny", "opencv-mil"):
        found, times = read_results(out / "results" / name, list(LENGTHS), LENGTHS)
        np.testing.assert_array_equal(found["a"][0], boxes(1)[0])
        assert (times["b"] > 0).all()
    about = json.loads((out / "results" / "tiny" / "tracker.json").read_text())
    assert about["preset"] == "fast" and len(about["checkpoint"]) == 64
    first = (out / "scores.json").read_bytes()
    capsys.readouterr()
    assert run(*arguments) == 0
    assert (out / "scores.json").read_bytes() == first and "to track" not in capsys.readouterr().out
    assert run(*arguments, "--precision", "bf16") == 2
    assert "another precision" in capsys.readouterr().err
    assert about["settings"]["lost_below"] == 0.04 and about["settings"]["half_pixel_offset"] is False
    assert run(*arguments, "--set", "lost_below=0.2") == 2
    assert "another settings" in capsys.readouterr().err
    for wrong, says in (("lost_bellow=0.2", "did you mean lost_below"), ("memory=2.5", "a whole number")):
        assert run(*arguments, "--set", wrong) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert says in line
    old = {k: v for k, v in about.items() if k != "precision"}  # of a version that had no choice
    (out / "results" / "tiny" / "tracker.json").write_text(json.dumps(old))
    assert run(*arguments) == 0
    capsys.readouterr()
    arguments[arguments.index("fast")] = "balanced"
    assert run(*arguments) == 2
    assert "another preset" in capsys.readouterr().err


def test_levels_of_deep_frames_are_said_and_part_of_a_result(tmp_path, capsys):
    folder, counts = tmp_path / "data" / "warm", np.linspace(7300, 8300, 60 * 80).reshape(60, 80)
    folder.mkdir(parents=True)
    for i in range(3):
        cv2.imwrite(str(folder / f"{i:08d}.png"), (counts + 20 * i).astype(np.uint16))
    (folder / "groundtruth.txt").write_text("20,20,16,12\n" * 3)
    (sequence,) = open_evaluation(f"folder:{tmp_path}/data").sequences
    assert len(np.unique(sequence.frame(2))) > 240, "as the first frame has them"
    command = (
        "--data",
        f"folder:{tmp_path}/data",
        "--opencv",
        "mil",
        "--workers",
        "0",
        "--out",
        tmp_path / "out",
    )
    assert run(*command, "--levels", "7000,9000") == 0
    assert "frames of more than 8 bits" in capsys.readouterr().out
    about = json.loads((tmp_path / "out" / "results" / "opencv-mil" / "tracker.json").read_text())
    assert about["levels"] == [7000, 9000]
    for others in (("--levels", "0,65535"), ()):
        assert run(*command, *others) == 2
        assert "holds results with another levels" in capsys.readouterr().err
    write_frames(tmp_path / "eight" / "s", 2)
    (tmp_path / "eight" / "s" / "groundtruth.txt").write_text("2,2,6,6\n" * 2)
    assert run("--data", f"folder:{tmp_path}/eight", "--opencv", "mil", "--levels", "0,9") == 2
    assert "have 8 bits" in capsys.readouterr().err


def test_one_tracker_serves_one_sequence_after_the_other(tmp_path):
    """Its boxes depend on the seed of the sequence, not on what it tracked before."""
    spec = TrackerSpec("prdimp", "resnet18", None, "chase", 16, 8, 2)
    path = tmp_path / "tiny.safetensors"
    path.write_bytes(pack_tracker(spec.build("random", 0), spec, {}))
    frames, given = moving.video(3)

    def track(session) -> list:
        session.init(frames[0], given[0])
        return [session.update(frame).box for frame in frames[1:]]

    entrant = Checkpoint(str(path), "fast", "cpu")
    first, other, again = (track(entrant.start(seed)) for seed in (1, 2, 1))
    assert first == again != other
    assert other == track(Tracker.load(path, "fast", "cpu", 2))


def test_a_test_set_is_packed_but_not_scored(tmp_path, capsys):
    root = tmp_path / "data"
    write_frames(root / "TEST" / "frames" / "x", 4, "{}.jpg", 0)
    write(root / "TEST" / "anno" / "x.txt", lines(boxes(1)))
    out = tmp_path / "out"
    folder = results(tmp_path / "mine", lengths={"x": 4})
    assert (
        run("--data", f"trackingnet:{root}", "--results", folder, "--out", out, "--pack", "trackingnet") == 0
    )
    assert "nothing to score" in capsys.readouterr().out
    assert (out / "mine_trackingnet.zip").is_file()
    assert json.loads((out / "scores.json").read_text())["protocols"] == {}


def test_a_broken_frame_ends_with_code_1_and_keeps_the_rest(tree, tmp_path, capsys):
    frame = tree / "val" / "a" / "00000003.jpg"
    frame.write_bytes(frame.read_bytes()[:300])
    out = tmp_path / "out"
    command = ("--data", f"got10k:{tree}:val", "--opencv", "mil", "--workers", 0, "--out", out, "--quiet")
    assert run(*command) == 1
    errors = capsys.readouterr().err
    assert "sequence a, frame 3" in errors and "1 of 2 sequences could not be tracked" in errors
    assert (out / "results" / "opencv-mil" / "b" / "b_001.txt").is_file()
    assert not (out / "scores.json").exists()


def test_second_targets_are_found_under_the_names_of_other_toolkits(tmp_path):
    root, folder = tmp_path / "otb", tmp_path / "mine"
    write_frames(root / "Jogging" / "img", 4, "{:04d}.jpg")
    for target, spelling in ((1, "Jogging-1"), (2, "Jogging_2")):
        write(root / "Jogging" / f"groundtruth_rect.{target}.txt", lines(boxes(4)))
        write(folder / f"{spelling}.txt", lines(boxes(4)))
    assert run("--data", f"otb:{root}", "--results", folder, "--out", tmp_path / "out", "--quiet") == 0
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())["protocols"]["otb"]["trackers"]
    assert set(scores["mine"]["per_sequence"]) == {"Jogging.1", "Jogging.2"}
    assert scores["mine"]["metrics"]["AUC"] == pytest.approx(20 / 21)


def test_unknown_boxes_are_explained(tree, tmp_path, capsys):
    rows = boxes(8)
    rows[3] = np.nan
    write(tree / "val" / "a" / "groundtruth.txt", lines(rows))
    command = (
        "--data",
        f"got10k:{tree}:val",
        "--results",
        results(tmp_path / "r"),
        "--out",
        tmp_path / "out",
    )
    assert run(*command) == 0
    assert "AO (got10k) is not a number" in capsys.readouterr().out
    assert run(*command, "--unknown", "remove", "--quiet") == 0
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert scores["protocols"]["got10k"]["trackers"]["r"]["metrics"]["AO"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "no tracker: give --checkpoint FILE"),
        (("--data", "imagenet:/x"), "unknown dataset kind 'imagenet'"),
        (("--checkpoint", "{tmp}/no.safetensors"), "no.safetensors: no such file"),
        (("--results", "{tmp}/none"), "there is no such folder"),
        (("--results", "{tmp}/off", "--protocol", "auc"), "--protocol auc: unknown, choose from got10k"),
        (("--results", "{tmp}/others"), "no results for 2 of 2 sequences (a, b)"),
        (("--results", "{tmp}/short"), "sequence a"),
        (("--results", "{tmp}/off", "{tmp}/off"), "two trackers are called off"),
        (("--results", "{tmp}/off", "--pack", "kitti"), "--pack kitti: choose from"),
        (("--results", "{tmp}/off", "--workers", "-1"), "--workers -1: must be 0 or more"),
        (("--results", "{tmp}/off", "--unknown", "drop"), "--unknown drop: choose from"),
        (("--opencv", "csrt"), "known are mil or nano:BACKBONE.onnx:HEAD.onnx"),
        (("--opencv", "nano:{tmp}/a.onnx:{tmp}/b.onnx"), "there is no file"),
    ],
)
def test_wrong_commands_say_so_in_one_line_with_code_2(tree, tmp_path, capsys, arguments, message):
    results(tmp_path / "off", 4.0)
    results(tmp_path / "others", lengths={"z": 3})
    results(tmp_path / "short", lengths={"a": 5, "b": 6})
    data = () if "--data" in arguments else ("--data", f"got10k:{tree}:val")
    filled = [a.format(tmp=tmp_path) for a in arguments]
    assert run(*data, *filled, "--out", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and message in error


def test_equal_to_the_got10k_package(tree, tmp_path):
    """The report of the package itself on the same files."""
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    experiments = pytest.importorskip("got10k.experiments")
    toolkit = tmp_path / "toolkit" / "GOT-10k"
    for name, length in LENGTHS.items():
        noisy = boxes(length) + np.random.default_rng(length).normal(0, 3, (length, 4))
        write_sequence(toolkit / "noisy", "got10k", name, noisy, np.linspace(0.01, 0.05, length))
        write(tree / "val" / name / "cut_by_image.label", "0\n" * length)
    experiment = experiments.ExperimentGOT10k(tree, "val", tmp_path / "toolkit", tmp_path / "reports")
    theirs = experiment.report(["noisy"])["noisy"]["overall"]
    assert (
        run("--data", f"got10k:{tree}:val", "--results", toolkit / "noisy", "--out", tmp_path, "--quiet") == 0
    )
    ours = json.loads((tmp_path / "scores.json").read_text())
    metrics = ours["protocols"]["got10k"]["trackers"]["noisy"]["metrics"]
    assert metrics["AO"] == theirs["ao"] and metrics["SR50"] == theirs["sr"]
    assert ours["speed"]["noisy"]["fps_mean_of_frames"] == pytest.approx(theirs["speed_fps"])
