"""COCO: which annotations are read, which images they are on, and what is called wrong."""

import json

import cv2
import numpy as np
import pytest

from chase_fast.data import open_sources
from chase_fast.data import sequences as sequences_module
from chase_fast.data.doctor import check
from chase_fast.doctor.__main__ import main as doctor
from chase_fast.errors import ChaseError
from tests import trees


def fails(text, spec):
    with pytest.raises(ChaseError, match=text) as e:
        open_sources(spec)
    assert "\n" not in str(e.value)


def edit(tmp_path, change, year=2017):
    file = tmp_path / "annotations" / f"instances_train{year}.json"
    data = json.loads(file.read_text())
    change(data)
    file.write_text(json.dumps(data))


def test_coco_rules(tmp_path):
    spec = trees.coco(tmp_path, 2014)
    (source,) = open_sources(spec)
    assert source.summary().endswith("24 annotations on 12 images") and not source.video
    assert source.sequences[0].name == "COCO_train2014_000000000009#1000"
    assert "1 crowd annotations" in source.notes[0] and "1 boxes without size" in source.notes[1]
    (tmp_path / "images" / "train2014").rename(tmp_path / "train2014")
    assert len(open_sources(spec)[0].sequences) == 24, "ROOT/train2014 is as good"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda d: d.pop("annotations"), "no list 'annotations' .it has info, images."),
        (lambda d: d.pop("images"), "no list 'images'"),
        (lambda d: d["annotations"].clear(), "lists no annotations"),
        (lambda d: [a.pop("bbox") for a in d["annotations"]], "no boxes: no annotation has 'bbox'"),
        (lambda d: d["annotations"][3].pop("bbox"), "1 of 26 annotations have no 'bbox'"),
        (lambda d: [i.pop("file_name") for i in d["images"]], "none of them has 'file_name'"),
        (lambda d: [i.update(file_name="x.jpg") for i in d["images"]], "none of the 12 images .*found 0000"),
    ],
)
def test_coco_json_of_another_kind(tmp_path, change, text):
    spec = trees.coco(tmp_path)
    edit(tmp_path, change)
    fails(text, spec)


def test_coco_files_that_are_missing(tmp_path):
    spec = trees.coco(tmp_path)
    fails("say which split, e.g. .*:train2017; there are train2017", f"coco:{tmp_path}")
    fails("there is no .*instances_val2017.json; there are train2017", f"coco:{tmp_path}:val2017")
    file = tmp_path / "annotations" / "instances_train2017.json"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    fails("no complete JSON", spec)
    file.write_bytes(b"[1, 2]")
    fails("holds a list", spec)
    file.write_bytes(whole)
    (tmp_path / "images").rename(tmp_path / "pictures")
    fails(r"expected images/train2017/ or train2017/; .* holds annotations/, pictures/", spec)
    (tmp_path / "annotations").rename(tmp_path / "labels")
    fails("expected annotations/instances_<split>.json; .* holds labels/, pictures/", spec)


def test_coco_defects_one_line_each(tmp_path, monkeypatch):
    spec = trees.coco(tmp_path)
    home = tmp_path / "images" / "train2017"
    images = sorted(home.iterdir())
    images[0].unlink()  # two annotations
    images[1].write_bytes(images[1].read_bytes()[:-60])
    data = bytearray(images[2].read_bytes())
    data[len(data) // 2 : len(data) // 2 + 60] = bytes(60)
    images[2].write_bytes(data)
    cv2.imwrite(str(images[3]), np.zeros((20, 30, 3), np.uint8))

    def change(d):
        d["annotations"][20]["image_id"] = -7
        d["annotations"][23]["bbox"] = [1, 2, "3", 4]

    edit(tmp_path, change)
    read, decoded = sequences_module.read_frame, []
    monkeypatch.setattr(
        sequences_module, "read_frame", lambda path, *levels: decoded.append(path) or read(path, *levels)
    )
    found = [str(p) for p in check(spec, progress=False).problems]
    assert len(decoded) == len(set(decoded)) == 10, "every image once; the missing and the cut one not at all"
    for part in (
        "annotation 1023 (.*): bbox is [1, 2, '3', 4], expected x, y, w, h",
        "annotation 1020 (.*): its image_id is not in the list of images",
        f"{images[0].name} (.*): the image is missing",
        f"{images[1].name} (.*): the JPEG ends too early",
        f"{images[2].name} (.*): cannot be decoded",
        f"{images[3].name} (.*): the image is 30x20, its annotations are for 96x72",
    ):
        start, _, end = part.partition("(.*)")
        assert sum(start in p and end in p for p in found) == 1, (part, found)
    assert len(found) == 6
    fails("and 3 more", spec)
    (source,) = open_sources(spec, skip_bad=True)
    assert len(source.sequences) == 24 - 6 and "left out 4 images or annotations" in source.summary()


def test_doctor_command(tmp_path, capsys):
    spec = trees.coco(tmp_path)
    assert doctor(["--data", spec, trees.trackingnet(tmp_path / "tn")]) == 0
    assert "24 annotations on 12 images" in capsys.readouterr().out
    next((tmp_path / "images" / "train2017").iterdir()).write_bytes(b"")
    assert doctor(["--data", spec]) == 2
    assert "the file is empty" in capsys.readouterr().out
    assert doctor(["--data", f"coco:{tmp_path}:val2017", f"trackingnet:{tmp_path}/tn:1"]) == 2
    out, err = capsys.readouterr()
    assert err.startswith("error: coco:") and "1 sequences, 24 frames" in out, "the second one is checked"
