"""A checkpoint carries what it was trained on, and an evaluation says when it scores that."""

import base64
import json
import os
import shutil

import numpy as np
import pytest

from chase_fast.checkpoint import load_tracker, pack_tracker
from chase_fast.convert.__main__ import main as convert
from chase_fast.data import open_sources
from chase_fast.data.evaluation import open_evaluation
from chase_fast.data.sequences import FileSequence
from chase_fast.data.sources import Source
from chase_fast.data.tables import VideoTable
from chase_fast.data.trained_on import Known, begun, record, seen
from chase_fast.evaluate.__main__ import main as evaluate
from chase_fast.train.__main__ import main as train
from tests import trees
from tests.benchmarks import write
from tests.flags import changed

SMALL = (
    "--epochs 1 --iterations 1 --val-batches 1 --calibration-batches 1 --image-size 64 --batch 2 --threads 1"
)
TINY = [*SMALL.split(), "--train-frames", "1", "--test-frames", "1", "--channels", "4", "--quiet"]


@pytest.fixture(autouse=True, scope="module")
def quick_disk():
    """Checkpoints are 100 MB: nothing has to reach the disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


def known(spec):
    data = open_evaluation(spec)
    return [Known(data.kind, s.name, s.frames[0].rpartition("/")[0]) for s in data.sequences]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Three sequences in GOT-10k's layout, and three of LaSOT."""
    root = tmp_path_factory.mktemp("data")
    trees.got10k(root / "g")
    trees.lasot(root / "l")
    return root


def test_a_source_is_recognised_by_kind_and_name_or_by_its_folder(root, tmp_path):
    (got10k,) = open_sources(f"got10k:{root / 'g'}:train")
    entries = [record("train", got10k)]
    names = [f"GOT-10k_Train_{k:06d}" for k in (1, 2, 3)]
    assert seen(entries, known(f"got10k:{root / 'g'}:train"))["train"] == names
    assert seen(entries, known(f"folder:{root / 'g' / 'train'}"))["train"] == names  # the same folder
    shutil.copytree(root / "g", tmp_path / "moved")
    assert seen(entries, known(f"got10k:{tmp_path / 'moved'}:train"))["train"] == names
    assert (
        seen(entries, known(f"folder:{tmp_path / 'moved' / 'train'}"))["train"] == []
    )  # names alone say little
    assert seen(entries, known(f"lasot:{root / 'l'}:all"))["train"] == []
    (tmp_path / "link").symlink_to(root / "g" / "train")
    assert seen(entries, known(f"folder:{tmp_path / 'link'}"))["train"] == names


def test_parts_of_a_set_and_several_roles(root, tmp_path):
    write(tmp_path / "two.txt", "cat-2\ncat-3\n")
    sources = open_sources([f"lasot:{root / 'l'}:{tmp_path / 'two.txt'}*0.5", "synthetic"])
    (val,) = open_sources(f"lasot:{root / 'l'}:train")
    entries = [record("train", s) for s in sources] + [record("val", val)]
    found = seen(json.loads(json.dumps(entries)), known(f"lasot:{root / 'l'}:all"))
    assert found == {"train": ["cat-2", "cat-3"], "val": ["cat-2", "cat-3", "cat-4"], "init": []}
    assert [e["names"] for e in entries if e["kind"] == "synthetic"] == [""]


def test_packed_data_is_what_was_packed(root, tmp_path):
    from chase_fast.data.pack.__main__ import main as pack

    spec = f"got10k:{root / 'g'}:train"
    assert pack([spec, "--out", str(tmp_path / "p"), "--size", "64", "--workers", "1", "--quiet"]) == 0
    (source,) = open_sources(f"packed:{tmp_path / 'p'}")
    entry = record("train", source)
    assert entry["kind"] == "got10k" and len(seen([entry], known(spec))["train"]) == 3


def test_thirty_thousand_names_are_less_than_400_kb():
    names = [f"{k:x}_video_{k}" for k in range(30_000)]
    one = np.ones(1, bool)
    table = VideoTable.of(FileSequence(n, f"/x/{n}", ("0.jpg",), np.ones((1, 4)), one) for n in names)
    entry = record("train", Source("trackingnet:/x:0-11", "trackingnet", 1.0, table))
    assert len(json.dumps(entry)) < 400_000 and len(base64.b64decode(entry["names"])) == 8 * 30_000
    sequences = [Known("trackingnet", n, f"/y/{n}") for n in ("0_video_0", "1_video_2", names[-1])]
    assert seen([entry], sequences)["train"] == ["0_video_0", names[-1]]


@pytest.mark.parametrize(
    "entries",
    [None, "text", 3, {}, [1], [{}], [{"role": "train"}], [[]],
     [{"role": "test", "spec": "", "kind": "", "root": "", "names": ""}],
     [{"role": "train", "spec": "", "kind": "", "root": "", "names": "not base64!"}],
     [{"role": "train", "spec": "", "kind": "", "root": "", "names": "ä"}]],
)  # fmt: skip
def test_what_is_no_record_is_not_known(entries):
    assert seen(entries, []) is None
    assert begun("x.pth", entries) == [{"role": "init", "spec": "x.pth"} | dict.fromkeys(("kind", "root"), "")
                                       | {"count": 0, "names": ""}]  # fmt: skip


@pytest.fixture(scope="module")
def trained(root, tmp_path_factory):
    """A tracker trained on two of the three sequences, its epoch chosen on the third."""
    out = tmp_path_factory.mktemp("run")
    write(out / "two.txt", "GOT-10k_Train_000001\nGOT-10k_Train_000002\n")
    write(out / "one.txt", "GOT-10k_Train_000003\n")
    data = [
        "--train",
        f"got10k:{root / 'g'}:{out / 'two.txt'}",
        "--val",
        f"got10k:{root / 'g'}:{out / 'one.txt'}",
    ]
    assert train(["demo", *TINY, *data, "--out", str(out / "run")]) == 0
    return out / "run" / "best.safetensors"


def scored(spec, tracker, out, *flags):
    arguments = [
        "--data",
        spec,
        *tracker,
        "--out",
        str(out),
        "--preset",
        "fast",
        "--device",
        "cpu",
        "--workers",
        "0",
    ]
    return evaluate([*arguments, "--pictures", "0", *flags])


def test_an_evaluation_says_what_it_was_trained_on(root, trained, tmp_path, capsys):
    """Fault: 0.60 AO on the very sequences of the training read like a win."""
    spec, out = f"got10k:{root / 'g'}:train", tmp_path / "out"
    assert scored(spec, ["--checkpoint", f"MINE={trained}"], out) == 0
    text, page = capsys.readouterr().out, (out / "evaluation.html").read_text()
    notice = "trained on 2 of these 3 sequences (GOT-10k_Train_000001, GOT-10k_Train_000002)"
    assert notice in text and notice in page
    assert "its epoch was chosen on 1 of these 3 sequences (GOT-10k_Train_000003)" in text
    about = json.loads((out / "scores.json").read_text())["trackers"]["MINE"]
    assert about["trained_on"] == {
        "train": ["GOT-10k_Train_000001", "GOT-10k_Train_000002"],
        "val": ["GOT-10k_Train_000003"],
        "init": [],
    }

    # the result files know it too, and how they were made
    again = tmp_path / "again"
    results = out / "results" / "MINE"
    assert scored(spec, ["--results", str(results)], again) == 0
    text, page = capsys.readouterr().out, (again / "evaluation.html").read_text()
    digest = json.loads((results / "tracker.json").read_text())["checkpoint"]
    made = f"checkpoint {digest[:12]}, preset fast, fp32; 1 process"
    assert notice in text and notice in page and made in page and "its own result files" not in page
    about = json.loads((again / "scores.json").read_text())["trackers"]["MINE"]["about"]
    assert about["checkpoint"] == digest and about["preset"] == "fast"

    # a foreign or damaged tracker.json stops nothing
    for damage in (
        "{",
        "[1]",
        '{"checkpoint": 3}',
        '{"opencv": []}',
        '{"trained_on": 5}',
        '{"measured_with": [1]}',
    ):
        write(results / "tracker.json", damage)
        assert scored(spec, ["--results", str(results)], again) == 0
        text = capsys.readouterr().out
        assert "tracker.json is not one of this package and is left aside" in text and notice not in text


def test_nothing_is_said_of_other_video_or_of_checkpoints_that_do_not_know(root, trained, tmp_path, capsys):
    trees.got10k(tmp_path / "other", "val", 3)
    assert scored(f"got10k:{tmp_path / 'other'}:val", ["--checkpoint", str(trained)], tmp_path / "a") == 0
    assert "trained on" not in capsys.readouterr().out
    loaded = load_tracker(trained)
    old = tmp_path / "old.safetensors"
    old.write_bytes(
        pack_tracker(loaded.net, loaded.spec, {k: v for k, v in loaded.about.items() if k != "trained_on"})
    )
    assert scored(f"got10k:{root / 'g'}:train", ["--checkpoint", str(old)], tmp_path / "b") == 0
    assert "trained on" not in capsys.readouterr().out
    assert json.loads((tmp_path / "b" / "scores.json").read_text())["trackers"]["old"]["trained_on"] is None


def test_the_record_survives_conversion_and_a_start_from_another_network(root, trained, tmp_path):
    copy = tmp_path / "copy.safetensors"
    assert convert([str(trained), str(copy)]) == 0
    own = load_tracker(trained).about["trained_on"]
    assert load_tracker(copy).about["trained_on"] == own and len(own) == 2
    spec = f"lasot:{root / 'l'}:train"
    flags = changed(
        TINY, "--init", str(trained), "--train", spec, "--val", spec, "--out", str(tmp_path / "next")
    )
    assert train(["demo", *flags]) == 0
    entries = load_tracker(tmp_path / "next" / "best.safetensors").about["trained_on"]
    assert entries[:2] == own and [e["kind"] for e in entries[2:]] == ["lasot", "lasot"]
    assert len(seen(entries, known(f"got10k:{root / 'g'}:train"))["train"]) == 2

    public = tmp_path / "public.pth.tar"
    assert convert([str(trained), str(public)]) == 0
    more = changed(flags, "--init", str(public), "--out", str(tmp_path / "more"))
    assert train(["demo", *more]) == 0
    found = seen(
        load_tracker(tmp_path / "more" / "best.safetensors").about["trained_on"], known(spec + "")[:0]
    )
    assert found["init"] == [str(public)]
