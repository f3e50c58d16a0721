"""Whatever a protocol cuts, fills up, replaces or leaves out is said, and the numbers stay the toolkit's."""

import dataclasses
import json
import re

import numpy as np
import pytest

from chase_fast.evaluate.__main__ import main
from chase_fast.evaluate.protocols import PROTOCOLS, Truth, score
from chase_fast.remarks import Notes, Remark, by_kind, sentence
from tests.benchmarks import boxes, got10k_tree, lines, write, write_frames
from tests.metric_goldens import probe

LENGTH = 20


def truth(**more) -> Truth:
    clean = Truth("a", boxes(LENGTH), np.zeros(LENGTH, bool), np.full(LENGTH, 8), (64, 48))
    return dataclasses.replace(clean, **more)


def said(protocol: str, predicted: np.ndarray, of: Truth | None = None, unknown: str = "toolkit"):
    """(kind in short, count) of the remarks that are no rules, and of those that are."""
    remarks = score(protocol, [of or truth()], {"a": predicted}, unknown).remarks
    assert {r.sequence for r in remarks} <= {"a"}
    found = [(r.what, r.count) for r in remarks if not r.rule]
    return found, [(r.what, r.count) for r in remarks if r.rule]


def one(found, words: str, count: int) -> None:
    assert len(found) == 1 and re.search(words, found[0][0]) and found[0][1] == count, found


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_clean_and_complete_result_gives_no_remark(protocol):
    found, rules = said(protocol, boxes(LENGTH))
    assert found == [] and rules == [("first frames are not scored", 1)] * (protocol == "got10k")


SHORT = {
    "otb": "those after the last box are not scored",
    "uav123-got10k": "those after the last box are not scored",
    "lasot-got10k": "those after the last box are not scored",
    "uav123-pytracking": "those without a box are misses",
    "otb-pytracking-valid": "those without a box are misses",
    "trackingnet": "those without a box are misses",
}


@pytest.mark.parametrize("protocol", SHORT)
def test_too_few_boxes(protocol):
    one(said(protocol, boxes(LENGTH)[:-2])[0], f"^fewer boxes than annotated frames, {SHORT[protocol]}$", 2)


def test_a_short_result_scores_higher_under_otb_and_that_is_the_toolkits_number():
    """Fault: 18 of 20 lines scored more than all 20, without a word. The last two boxes here are misses."""
    missed = boxes(LENGTH)
    missed[-2:, 0] += 500
    whole, short = (score("otb", [truth()], {"a": b}).metrics["AUC"] for b in (missed, missed[:-2]))
    assert whole == pytest.approx(18 / 20 * 20 / 21) and short == pytest.approx(20 / 21)


@pytest.mark.parametrize(
    "protocol",
    ["otb", "uav123-got10k", "uav123-pytracking", "lasot-pytracking", "lasot-official", "trackingnet"],
)
def test_too_many_boxes(protocol):
    found, _ = said(protocol, np.concatenate([boxes(LENGTH), np.ones((3, 4))]))
    one(found, "^more boxes than annotated frames, the surplus is cut off$", 3)


@pytest.mark.parametrize("protocol", [p for p in PROTOCOLS if p not in ("got10k", "pysot", "pysot-absent")])
def test_another_first_box_is_replaced(protocol):
    moved = boxes(LENGTH)
    moved[0, 0] += 30
    one(said(protocol, moved)[0], "first box is not the annotated one, which counts", 1)
    whole_pixels = boxes(LENGTH)
    whole_pixels[0] += 0.6  # results in whole pixels are off by less than one
    assert said(protocol, whole_pixels)[0] == []


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("box", [(5, 6, 0, 10), (5, 6, 12, 0)])
def test_boxes_without_size(protocol, box):
    odd = boxes(LENGTH)
    odd[[7, 8]] = box
    replaced = protocol.split("-")[0] in ("visdrone", "lasot") and protocol != "lasot-got10k"
    replaced = replaced or "pytracking" in protocol
    words = "replaced by the box before" if replaced else "of no size overlap nothing, their centres count"
    one(said(protocol, odd)[0], words, 2)


@pytest.mark.parametrize("protocol", [p for p in PROTOCOLS if "pytracking" not in p])
def test_boxes_that_are_nan(protocol):
    odd = boxes(LENGTH)
    odd[7] = np.nan
    words = {
        "got10k": "NaN make AO no number",
        "lasot-official": "replaced by the box before",
        "visdrone": "replaced by the box before",
    }.get(protocol, "that are NaN are misses")
    one(said(protocol, odd)[0], words, 1)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("value", [1e308, -1e308, 1e6])
def test_absurd_boxes_are_misses_and_named(protocol, value, recwarn):
    odd = boxes(LENGTH)
    odd[7] = (value, value, 1e308, 1e308)
    scores = score(protocol, [truth()], {"a": odd})
    clean = score(protocol, [truth()], {"a": boxes(LENGTH)})
    found = [(r.what, r.count) for r in scores.remarks if not r.rule]
    one(found, "numbers over 100000 px lie in no picture", 1)
    headline = next(iter(scores.metrics))
    assert scores.metrics[headline] < clean.metrics[headline] and not recwarn.list


def test_what_the_rules_leave_out_is_counted():
    unknown, hidden, cover = boxes(LENGTH), np.zeros(LENGTH, bool), np.full(LENGTH, 8)
    unknown[[3, 4]] = np.nan
    hidden[[3, 4, 5]], cover[[3, 4, 5, 6]] = True, 0
    rules = dict(said("got10k", boxes(LENGTH), truth(cover=cover))[1])
    assert rules == {"first frames are not scored": 1, "frames with cover 0 are not scored": 4}
    of = truth(boxes=unknown, absent=hidden)
    assert dict(said("uav123-got10k", boxes(LENGTH), of)[1]) == {
        "frames without a known box are not scored": 2
    }
    assert dict(said("otb", boxes(LENGTH), of)[1]) == {"frames without a known box are misses": 2}
    assert dict(said("lasot-official", boxes(LENGTH), of)[1]) == {"frames marked absent are misses": 3}
    assert dict(said("pysot-absent", boxes(LENGTH), of)[1]) == {"frames marked absent are misses": 3}
    border = boxes(LENGTH)
    border[5, 0] = 0
    (rule,) = said("uav123-pytracking", border, truth(boxes=border))[1]
    assert rule == ("annotated boxes with x, y, w or h <= 0 are misses for success, hits for precision", 1)


def test_bounding_and_rounding_count_boxes():
    outside, halves = boxes(LENGTH), boxes(LENGTH)
    outside[[5, 6, 7], 0] -= 40
    halves[2:, 1] += 0.5
    rules = dict(said("got10k", outside)[1])
    assert rules["predicted boxes are bounded by the picture"] == 3
    assert dict(said("trackingnet", halves)[1]) == {"predicted boxes are rounded to whole pixels": 18}


@pytest.mark.parametrize("protocol", ["lasot-official", "visdrone"])
def test_sequences_that_fail_everywhere_are_dropped_from_the_mean_and_named(protocol):
    lost = boxes(LENGTH) + [500, 400, 0, 0]
    at_border = boxes(LENGTH)
    at_border[0, 0] = 0  # even the first frame is invalid
    truths = [truth(name="good"), truth(name="bad", boxes=at_border)]
    scores = score(protocol, truths, {"good": boxes(LENGTH), "bad": lost})
    dropped = [(r.what, r.sequence) for r in scores.remarks if "left out of the mean" in r.what]
    assert dropped == [("a success of zero everywhere is left out of the mean success", "bad")]
    assert scores.metrics["AUC"] == pytest.approx(20 / 21)
    assert scores.metrics["AUC_without_drop"] == pytest.approx(10 / 21)


def test_repetitions_and_treated_frames_are_named():
    of, predicted = probe("clean")
    remarks = score("got10k", [of], {"probe": np.stack([predicted] * 3)}).remarks
    assert ("repetitions of a sequence all count", 3) in [(r.what, r.count) for r in remarks]
    unknown = boxes(LENGTH)
    unknown[4] = np.nan
    for how, words in (("zero", "count as boxes of no size"), ("remove", "are removed")):
        (found,), _ = said("otb", boxes(LENGTH), truth(boxes=unknown), how)
        assert words in found[0] and found[1] == 1


def test_a_sentence_has_counts_and_the_first_names():
    remarks: list[Remark] = []
    for k in range(7):
        Notes(f"s{k}", remarks)("boxes are odd", k, "box")
    (group,) = by_kind(remarks).values()
    assert sentence("boxes are odd", group) == (
        "boxes are odd: 21 boxes in 6 sequences (s1 1, s2 2, s3 3, s4 4, s5 5 and 1 more)"
    )
    assert sentence("x", [Remark("x", "a", 1, "file")]) == "x: 1 file in 1 sequence (a)"
    assert sentence("x", [Remark("x")]) == "x"


# the command


def run(*arguments) -> int:
    return main([str(a) for a in arguments])


def results(folder, lengths, shift=0.0):
    for name, length in lengths.items():
        moved = boxes(length)
        moved[1:, 0] += shift
        write(folder / f"{name}.txt", lines(moved))
    return folder


@pytest.fixture
def tree(tmp_path):
    root = got10k_tree(tmp_path / "data", {"a": 8, "b": 6})
    for name, length in (("a", 8), ("b", 6)):
        write(root / "val" / name / "cover.label", "8\n" * length)
    return root


def test_console_scores_and_page_name_what_was_cut(tree, tmp_path, capsys):
    """Fault: boxes of 6 of 8 frames scored as a complete result."""
    short = results(tmp_path / "short", {"a": 6, "b": 6})
    write(short / "z.txt", lines(boxes(3)))
    write(short / "b_time.txt", "")
    out = tmp_path / "out"
    command = ("--data", f"got10k:{tree}:val", "--results", short, "--protocol", "otb", "uav123-got10k")
    assert run(*command, "--out", out) == 0
    text, page = capsys.readouterr().out, (out / "evaluation.html").read_text()
    line = "fewer boxes than annotated frames, those after the last box are not scored"
    assert f"short (otb, uav123-got10k): {line}: 2 frames in 1 sequence (a)" in text
    assert "short: time files that cannot be read are left aside: 1 file in 1 sequence (b)" in text
    assert "What was cut, filled up or left out" in page and "those after the last box are not scored" in page
    found = json.loads((out / "scores.json").read_text())["remarks"]
    by_what = {e["what"].split(",")[0]: e for e in found}
    cut = by_what["fewer boxes than annotated frames"]
    assert cut["tracker"] == "short" and cut["protocols"] == ["otb", "uav123-got10k"]
    assert cut["sequences"] == {"a": 2} and cut["total"] == 2 and not cut["by_rule"]
    assert by_what["results of sequences that are not in this set are not used"]["sequences"] == {"z": 0}


def test_a_clean_evaluation_says_nothing(tree, tmp_path, capsys):
    out = tmp_path / "out"
    clean = results(tmp_path / "clean", {"a": 8, "b": 6}, 2.0)
    assert run("--data", f"got10k:{tree}:val", "--results", clean, "--out", out) == 0
    text, page = capsys.readouterr().out, (out / "evaluation.html").read_text()
    assert "remarks" not in text and "by these rules" not in text and "left out" not in page
    scores = json.loads((out / "scores.json").read_text())
    assert [e["what"] for e in scores["remarks"]] == ["first frames are not scored"]
    assert scores["remarks"][0]["by_rule"] and scores["remarks"][0]["sequences"] == {"a": 1, "b": 1}
    assert scores["protocols"]["got10k"]["trackers"]["clean"]["metrics"]["frames_scored"] == 12


def test_boxes_that_are_nan_are_not_taken_for_unknown_annotations(tree, tmp_path, capsys):
    """--unknown is for NaN in annotations and would not help."""
    odd = results(tmp_path / "odd", {"a": 8, "b": 6})
    write(odd / "a.txt", "nan,nan,nan,nan".join(lines(boxes(8)).rsplit(lines(boxes(8)[5:6]).strip(), 1)))
    command = ("--data", f"got10k:{tree}:val", "--results", odd, "--out", tmp_path / "out")
    assert run(*command) == 0
    text = capsys.readouterr().out
    assert "predicted boxes that are NaN make AO no number: 1 box in 1 sequence (a)" in text
    assert "--unknown" not in text


def test_further_repetitions_are_left_aside_where_a_protocol_takes_one(tree, tmp_path, capsys):
    for name, length in (("a", 8), ("b", 6)):
        for r in (1, 2):
            moved = boxes(length) + [[20 * (r - 1), 0, 0, 0]]
            write(tmp_path / "twice" / name / f"{name}_{r:03d}.txt", lines(moved))
    write(tmp_path / "twice" / "a" / "a_time.txt", "0.1\n" * 8)  # of one repetition
    command = ("--data", f"got10k:{tree}:val", "--results", tmp_path / "twice", "--out", tmp_path / "out")
    assert run(*command, "--protocol", "otb") == 0
    text = capsys.readouterr().out
    assert "only the first repetition is scored: 2 further repetitions in 2 sequences" in text
    assert "another number of frames or repetitions than boxes are left aside: 1 file" in text
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())["protocols"]["otb"]["trackers"]
    assert scores["twice"]["metrics"]["AUC"] == pytest.approx(20 / 21)


def test_boxes_after_a_shorter_annotation_are_cut(tmp_path, capsys):
    """An annotation that ends before the video is no error, nor is a tracker that ran to the end."""
    root = tmp_path / "data"
    write_frames(root / "val" / "a", 8)
    write(root / "val" / "a" / "groundtruth.txt", lines(boxes(5)))
    whole = results(tmp_path / "whole", {"a": 8})
    assert run("--data", f"got10k:{root}:val", "--results", whole, "--out", tmp_path / "out") == 0
    text = capsys.readouterr().out
    assert (
        "the annotation ends before the video: frames after it are not scored: 3 frames in 1 sequence" in text
    )
    assert (
        "whole (got10k): boxes of frames after the annotation are cut off: 3 boxes in 1 sequence (a)" in text
    )
    metrics = json.loads((tmp_path / "out" / "scores.json").read_text())["protocols"]["got10k"]["trackers"]
    assert metrics["whole"]["metrics"]["frames_scored"] == 4 and metrics["whole"]["metrics"]["AO"] == 1


def test_a_stated_resolution_of_another_size_is_said(tree, tmp_path, capsys):
    """The toolkit bounds boxes by what meta_info.ini states; here by a sixth of the frame."""
    write(tree / "val" / "a" / "meta_info.ini", "resolution: (10, 8)\n")
    clean = results(tmp_path / "clean", {"a": 8, "b": 6})
    command = ("--data", f"got10k:{tree}:val", "--results", clean, "--out", tmp_path / "out")
    assert run(*command) == 0
    line = "(got10k): boxes are bounded by the stated resolution, which no frame has: 1 sequence (a)"
    assert line in capsys.readouterr().out
    assert run(*command, "--protocol", "otb") == 0
    assert "stated resolution" not in capsys.readouterr().out


def test_absurd_boxes_end_in_numbers_a_remark_and_a_page(tree, tmp_path, capfd):
    odd = results(tmp_path / "odd", {"a": 8, "b": 6})
    rows = (odd / "a.txt").read_text().splitlines()
    rows[4:6] = ["1e308,1e308,1e308,1e308", "-1e308,5,1e308,7"]
    write(odd / "a.txt", "\n".join(rows))
    command = ("--data", f"got10k:{tree}:val", "--results", odd, "--out", tmp_path / "out")
    assert run(*command, "--protocol", "otb", "got10k") == 0
    text, errors = capfd.readouterr()
    assert "boxes with numbers over 100000 px lie in no picture and are scored as they are: 2 boxes" in text
    assert errors == ""
    write(odd / "a.txt", "\n".join([*rows[:4], "inf,1,2,3", *rows[5:]]))
    assert run(*command) == 2
    assert "a.txt line 5: 'inf,1,2,3' is not 4 numbers" in capfd.readouterr().err
