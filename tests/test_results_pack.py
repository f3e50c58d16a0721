"""Submissions to servers: what is packed passes the validator, what a server would refuse is named."""

import zipfile

import numpy as np
import pytest

from chase_fast.errors import ChaseError
from chase_fast.evaluate.pack import KINDS, pack, validate
from chase_fast.evaluate.results import write_sequence

NAMES = ["seq-1", "seq-2"]
LENGTHS = {"seq-1": 3, "seq-2": 5}
ALIEN = " does not belong into a submission to "
CLOCK, RUN = "seq-1/seq-1_time.txt", "seq-1/seq-1_00"
LAYOUT = {"got10k": "got10k", "trackingnet": "flat", "lasot": "pytracking", "visdrone": "flat"}


def results(folder, layout="got10k", repetitions=1):
    rng = np.random.default_rng(3)
    for name, frames in LENGTHS.items():
        for r in range(repetitions):
            boxes, times = rng.uniform(1, 50, (frames, 4)), rng.uniform(0.01, 0.1, frames)
            write_sequence(folder, layout, name, boxes, times, repetition=r + 1)
    return folder


def members(path) -> dict[str, str]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name).decode() for name in archive.namelist()}


def rezip(path, files: dict[str, str]):
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_a_packed_submission_is_valid(tmp_path, kind):
    folder = results(tmp_path / "mine", LAYOUT[kind])
    out = pack(kind, folder, tmp_path / "up" / "mine.zip", NAMES, LENGTHS)
    assert validate(kind, out, NAMES, LENGTHS) == []
    again = pack(kind, folder, tmp_path / "again" / "mine.zip", NAMES, LENGTHS)
    assert again.read_bytes() == out.read_bytes()


def test_the_archives_have_the_servers_layouts(tmp_path):
    flat, two = results(tmp_path / "flat", "flat"), results(tmp_path / "two", "got10k", repetitions=2)
    found = {k: members(pack(k, flat, tmp_path / f"{k}.zip", NAMES)) for k in KINDS if k != "got10k"}
    found["got10k"] = members(pack("got10k", two, tmp_path / "got10k.zip", NAMES))
    assert list(found["trackingnet"]) == list(found["visdrone"]) == ["seq-1.txt", "seq-2.txt"]
    assert list(found["lasot"]) == [f"lasot_tracking_result/{n}.txt" for n in NAMES]
    assert list(found["got10k"]) == [f"{n}/{n}_{x}.txt" for n in NAMES for x in ("001", "002", "time")]
    line = (flat / "seq-1.txt").read_text().splitlines()[0]
    assert found["visdrone"]["seq-1.txt"].splitlines()[0] == line
    rounded = ",".join(f"{float(v):.2f}" for v in line.split(","))
    assert found["trackingnet"]["seq-1.txt"].splitlines()[0] == rounded
    assert found["got10k"]["seq-2/seq-2_time.txt"] == (two / "seq-2/seq-2_time.txt").read_text()
    assert all(len(v.split(",")) == 2 for v in found["got10k"]["seq-2/seq-2_time.txt"].split())


def test_got10k_test_has_180_sequences_of_known_names(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(1, 181):
        write_sequence(tmp_path / "r", "got10k", f"GOT-10k_Test_{i:06d}", rng.random((2, 4)), np.ones(2))
    out = pack("got10k", tmp_path / "r", tmp_path / "r.zip")
    assert validate("got10k", out) == []
    files = members(out)
    del files["GOT-10k_Test_000180/GOT-10k_Test_000180_001.txt"]
    del files["GOT-10k_Test_000007/GOT-10k_Test_000007_001.txt"]
    del files["GOT-10k_Test_000007/GOT-10k_Test_000007_time.txt"]
    assert validate("got10k", rezip(tmp_path / "w.zip", files)) == [
        "sequence GOT-10k_Test_000007 is missing",
        "GOT-10k_Test_000180 must hold GOT-10k_Test_000180_001.txt, then _002, _003 for more repetitions",
    ]


WRONG = [
    ("trackingnet", {"seq-2.txt": None}, "sequence seq-2 is missing"),
    ("trackingnet", {"seq-3.txt": "1,2,3,4\n"}, "seq-3 is no sequence of trackingnet"),
    ("trackingnet", {"seq-1.txt": "1,2,3,4\n" * 2}, "seq-1.txt has 2 boxes for 3 frames"),
    ("trackingnet", {"seq-1.txt": "1,2,3,4\n1,2,3\n"}, "seq-1.txt line 2: '1,2,3' is not 4 numbers"),
    ("trackingnet", {"seq-1.txt": "1,2,3,4\n" * 2 + "nan,2,3,4\n"}, "seq-1.txt: box 3 is NaN"),
    ("trackingnet", {"seq-1.txt": "1,2,-3,4\n" * 3}, "seq-1.txt: box 1 is of negative size"),
    ("trackingnet", {"seq-1.txt": "1 2 3 4\n" * 3}, "seq-1.txt: the numbers must be separated by commas"),
    ("trackingnet", {"seq-1.txt": ""}, "seq-1.txt is empty: run the tracker on this sequence again"),
    ("trackingnet", {"seq-1.txt": "ä"}, "seq-1.txt is not plain text"),
    ("trackingnet", {"__MACOSX/._seq-1.txt": "x"}, "__MACOSX/._seq-1.txt" + ALIEN + "trackingnet"),
    ("trackingnet", {"mine/": ""}, "folder mine/ must not be there: the archive must be flat"),
    ("visdrone", {"README.md": "x"}, "README.md" + ALIEN + "visdrone"),
    ("lasot", {"other_tracking_result/a.txt": "1,2,3,4\n"}, "other_tracking_result/" + ALIEN + "lasot"),
    ("got10k", {CLOCK: None}, f"{CLOCK} is missing"),
    ("got10k", {CLOCK: "0.1\n0.1\n"}, f"{CLOCK} has 2 lines for 3 frames"),
    ("got10k", {CLOCK: "0.1\nnan\n0.1\n"}, f"{CLOCK}: time 2 is NaN or negative"),
    ("got10k", {CLOCK: "0.1\n" * 3, RUN + "2.txt": "1,2,3,4\n"}, f"{CLOCK} line 1: '0.1' is not 2 numbers"),
    ("got10k", {RUN + "3.txt": "1,2,3,4\n" * 3}, "seq-1 must hold seq-1_001.txt, then _002, _003"),
    ("got10k", {"seq-1.txt": "1,2,3,4\n"}, "seq-1.txt" + ALIEN + "got10k"),
]


@pytest.mark.parametrize(("kind", "change", "problem"), WRONG)
def test_what_a_server_would_refuse_is_named(tmp_path, kind, change, problem):
    folder = results(tmp_path / "mine", LAYOUT[kind])
    files = members(pack(kind, folder, tmp_path / "mine.zip", NAMES, LENGTHS)) | change
    wrong = rezip(tmp_path / "wrong.zip", {n: text for n, text in files.items() if text is not None})
    assert any(found.startswith(problem) for found in validate(kind, wrong, NAMES, LENGTHS))


def test_one_folder_too_many_is_said_once(tmp_path):
    folder = results(tmp_path / "mine")
    for kind in ("got10k", "trackingnet"):
        files = members(pack(kind, folder, tmp_path / "mine.zip", NAMES))
        wrong = rezip(tmp_path / "wrong.zip", {f"mine/{name}": text for name, text in files.items()})
        assert validate(kind, wrong, NAMES) == ["all files are inside mine/: zip the content of that folder"]


def test_files_that_are_no_archive(tmp_path):
    good = pack("visdrone", results(tmp_path / "mine"), tmp_path / "mine.zip", NAMES)
    cut, empty, text = tmp_path / "cut.zip", rezip(tmp_path / "empty.zip", {}), tmp_path / "text.zip"
    cut.write_bytes(good.read_bytes()[:-30])
    text.write_text("1,2,3,4")
    for path in (cut, text):
        assert validate("visdrone", path, NAMES) == [
            f"{path.name} is not a zip archive, or it is damaged or encrypted"
        ]
    assert validate("visdrone", empty, NAMES) == ["empty.zip is empty"]
    flipped = bytearray(good.read_bytes())
    flipped[60] ^= 0xFF
    cut.write_bytes(flipped)
    assert len(validate("visdrone", cut, NAMES)) == 1
    assert validate("visdrone", good) == ["2 sequences, visdrone has 35"]
    with pytest.raises(ChaseError, match=r"cannot read .*none\.zip"):
        validate("visdrone", tmp_path / "none.zip", NAMES)


def test_results_that_cannot_be_packed_leave_no_archive(tmp_path):
    folder, out = results(tmp_path / "mine", "got10k", repetitions=2), tmp_path / "out.zip"
    wrong = [
        (("vot", folder, out, NAMES), "cannot pack for 'vot': choose one of got10k"),
        (("lasot", folder, out), "lasot needs the names"),
        (("got10k", folder, tmp_path / "out.tar", NAMES), r"out\.tar must end in \.zip"),
        (("got10k", folder, out), "no results for 180 of 180 sequences"),
        (("got10k", folder, out, NAMES, {"seq-1": 4, "seq-2": 5}), "has 3 boxes for 4 frames"),
        (("trackingnet", folder, out, NAMES), "seq-1 has 2 repetitions: trackingnet takes one"),
        (("got10k", folder, out, ["seq-3"]), "seq-3: box 2 is NaN"),
        (("got10k", folder, out, ["seq-4"]), "seq-4: no time file"),
    ]
    boxes = np.ones((2, 4))
    write_sequence(folder, "got10k", "seq-4", boxes)
    write_sequence(folder, "got10k", "seq-3", boxes * [[1], [np.nan]], np.ones(2))
    for arguments, message in wrong:
        with pytest.raises(ChaseError, match=message):
            pack(*arguments)
        assert not out.exists()
    pack("lasot", folder, out, ["seq-3"])  # its toolkit repairs NaN
    assert validate("lasot", out, ["seq-3"]) == []
