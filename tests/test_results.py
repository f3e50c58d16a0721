"""Result files: what is written, what is read of other trackers, and what is said about bad ones."""

import numpy as np
import pytest

from chase_fast.errors import ChaseError
from chase_fast.evaluate.results import LAYOUTS, box_file, is_complete, read_results, write_sequence
from chase_fast.evaluate.speed import speed

BOXES = np.array([[10.0, 20.5, 30.25, 40.125], [-1.5, 0.0004, 7.9996, 8.0], [3.9, 4.9, 5.9, 6.9]])
TIMES = np.array([0.125, 0.01, 0.02])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_written_is_read_again_to_three_decimals(tmp_path, layout):
    for name in ("a", "b_1"):
        write_sequence(tmp_path, layout, name, BOXES, TIMES)
    boxes, times = read_results(tmp_path, ["a", "b_1"], {"a": 3, "b_1": 3})
    assert list(boxes) == list(times) == ["a", "b_1"]
    np.testing.assert_array_equal(boxes["b_1"], BOXES.round(3))
    np.testing.assert_array_equal(times["b_1"], TIMES)
    assert not list(tmp_path.rglob(".tmp-*"))


def test_the_files_are_where_the_toolkits_look_for_them(tmp_path):
    for layout in LAYOUTS:
        write_sequence(tmp_path / layout, layout, "a", BOXES, TIMES)
    found = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.txt"))
    assert found == [
        "flat/a.txt",
        "flat/times/a_time.txt",
        "got10k/a/a_001.txt",
        "got10k/a/a_time.txt",
        "pytracking/a.txt",
        "pytracking/a_time.txt",
    ]
    text = (tmp_path / "got10k/a/a_001.txt").read_bytes()
    assert text == b"10.000,20.500,30.250,40.125\n-1.500,0.000,8.000,8.000\n3.900,4.900,5.900,6.900\n"
    assert (tmp_path / "flat/times/a_time.txt").read_bytes() == b"0.12500000\n0.01000000\n0.02000000\n"
    assert (tmp_path / "pytracking/a.txt").read_text().splitlines()[0] == "10.000\t20.500\t30.250\t40.125"


def test_integers_are_cut_as_pytracking_cuts_them(tmp_path):
    write_sequence(tmp_path, "pytracking", "a", BOXES, integers=True)
    assert (tmp_path / "a.txt").read_text() == "10\t20\t30\t40\n-1\t0\t7\t8\n3\t4\t5\t6\n"
    with pytest.raises(ChaseError, match="sequence a are not all finite"):
        write_sequence(tmp_path, "pytracking", "a", BOXES * np.nan, integers=True)


def test_repetitions_share_one_time_file(tmp_path):
    for r in (1, 2, 3):
        times = None if r == 2 else TIMES * r
        write_sequence(tmp_path, "got10k", "a", BOXES + r, times, repetition=r)
    boxes, times = read_results(tmp_path, ["a"])
    assert boxes["a"].shape == (3, 3, 4) and times["a"].shape == (3, 3)
    np.testing.assert_array_equal(times["a"][[0, 2]], [TIMES, 3 * TIMES])
    assert np.isnan(times["a"][1]).all()
    boxes, times = read_results(tmp_path, ["a"], repetition=3)
    np.testing.assert_array_equal(boxes["a"], (BOXES + 3).round(3))
    np.testing.assert_array_equal(times["a"], 3 * TIMES)
    with pytest.raises(ChaseError, match="sequence a has no repetition 4: there are"):
        read_results(tmp_path, ["a"], repetition=4)
    with pytest.raises(ChaseError, match="flat holds one run"):
        write_sequence(tmp_path, "flat", "a", BOXES, repetition=2)


@pytest.mark.parametrize(
    "text",
    [
        "1,2,3,4\n5,6,7,8\n",
        "1\t2\t3\t4\n5\t6\t7\t8",
        "1 2  3 4\r\n5 6 7 8\r\n",
        " 1, 2, 3, 4 \n5.0,6e0,+7,8\n\n",
        "\ufeff1,2 3\t4\n5,6,7,8\n",
    ],
    ids=["comma", "tab", "spaces and CRLF", "mixed", "BOM"],
)
def test_any_delimiter_and_line_end_is_read(tmp_path, text):
    (tmp_path / "a.txt").write_bytes(text.encode())
    boxes, times = read_results(tmp_path, ["a"])
    np.testing.assert_array_equal(boxes["a"], [[1, 2, 3, 4], [5, 6, 7, 8]])
    assert times == {}


def test_nan_and_a_single_line_are_boxes_too(tmp_path):
    (tmp_path / "a.txt").write_text("NaN,nan,NAN,4\n")
    np.testing.assert_array_equal(read_results(tmp_path, ["a"])[0]["a"], [[np.nan, np.nan, np.nan, 4]])


def test_a_sequence_is_complete_with_one_box_per_frame(tmp_path):
    for layout in LAYOUTS:
        folder = tmp_path / layout
        assert not is_complete(folder, layout, "a", 3)
        write_sequence(folder, layout, "a", BOXES)
        assert is_complete(folder, layout, "a", 3) and not is_complete(folder, layout, "a", 4)
        box_file(folder, layout, "a").write_text("1,2,3,4\n5,6,7")
        assert not is_complete(folder, layout, "a", 2)
    assert not is_complete(tmp_path / "got10k", "got10k", "a", 3, repetition=2)


def test_missing_sequences_are_all_listed(tmp_path):
    write_sequence(tmp_path, "flat", "b", BOXES)
    with pytest.raises(
        ChaseError, match=r"no results for 2 of 3 sequences \(a, c\): expected files like a.txt"
    ):
        read_results(tmp_path, ["a", "b", "c"])
    with pytest.raises(ChaseError, match=r"there is no result folder .*nothing"):
        read_results(tmp_path / "nothing", ["a"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"1,2,3,4\n1,2,3\n", r"a\.txt line 2: '1,2,3' is not 4 numbers"),
        (b"1,2,3,4\n\n1,2,3,4\n", r"a\.txt line 2: '' is not 4 numbers"),
        (b"1,2,3,4\n1,2,three,4\n", r"a\.txt line 2: '1,2,three,4' is not 4 numbers"),
        (b"1,2,3,4\n1,2,3,inf\n", r"a\.txt line 2: '1,2,3,inf' is not 4 numbers"),
        (b"1,2,3,4,5,6,7,8\n", r"a\.txt line 1: '1,2,3,4,5,6,7,8' is not 4 numbers"),
        (b"\n", r"a\.txt is empty"),
        (b"\xff\xfe\x00", r"a\.txt is not a text file"),
        (b"1,2,3,4\n", r"a\.txt has 1 boxes for 3 frames"),
    ],
)
def test_bad_files_are_named_with_the_line(tmp_path, text, message):
    (tmp_path / "a.txt").write_bytes(text)
    with pytest.raises(ChaseError, match=message):
        read_results(tmp_path, ["a"], {"a": 3})


def test_contradictions_are_refused(tmp_path):
    write_sequence(tmp_path, "flat", "a", BOXES, TIMES)
    write_sequence(tmp_path, "got10k", "a", BOXES)
    with pytest.raises(ChaseError, match=r"has both a\.txt and a/"):
        read_results(tmp_path, ["a"])
    with pytest.raises(ChaseError, match=r"shape \(3,\)"):
        write_sequence(tmp_path, "flat", "c", BOXES[:, 0])
    with pytest.raises(ChaseError, match="there must be one per box"):
        write_sequence(tmp_path, "flat", "c", BOXES, TIMES[:2])
    with pytest.raises(ChaseError, match="no layout 'vot'"):
        write_sequence(tmp_path, "vot", "c", BOXES)
    assert not (tmp_path / "c.txt").exists()


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    write_sequence(tmp_path, "flat", "a", BOXES)
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "no space")))
    with pytest.raises(ChaseError, match="disk full"):
        write_sequence(tmp_path, "flat", "a", BOXES + 1)
    monkeypatch.undo()
    np.testing.assert_array_equal(read_results(tmp_path, ["a"])[0]["a"], BOXES.round(3))


def test_both_definitions_of_speed():
    times = {"a": np.array([0.5, 0.1, 0.0]), "b": np.array([[0.1, 0.1], [np.nan, 0.2]])}
    found = speed(times)
    assert (found.frames, found.seconds) == (5, pytest.approx(1.0))
    assert found.fps_total == pytest.approx(5.0)
    assert found.fps_mean_of_frames == pytest.approx((2 + 10 + 10 + 10 + 5) / 5)
    assert speed({}) is None and speed({"a": np.zeros(3)}) is None
