"""Damaged or foreign annotations, indexes and packed sets: one line that names file and field."""

import json
import shutil
import subprocess

import numpy as np
import pytest

from chase_fast.data import index, open_sources
from chase_fast.data.annotations import read_boxes, read_flags
from chase_fast.data.doctor import check
from chase_fast.data.pack import __main__ as pack_command
from chase_fast.doctor.__main__ import main as doctor
from chase_fast.errors import ChaseError
from tests import trees
from tests.test_data_index import age, same

BIG = 10**25


def refused(spec: str) -> str:
    with pytest.raises(ChaseError) as e:
        open_sources(spec)
    text = str(e.value)
    assert "\n" not in text and len(text) < 700
    return text


COCO = {
    "deep nesting": (lambda d: "[" * 200_000, "nested too deeply"),
    "a width of text": (lambda d: d["images"][0].update(width="wide"), "width is 'wide'"),
    "a huge width": (
        lambda d: d["images"][0].update(width=BIG),
        "width is an integer of more than 25 digits",
    ),
    "a broken width": (lambda d: d["images"][0].update(width=96.5), "width is 96.5"),
    "a width below zero": (lambda d: d["images"][0].update(width=-1), "width is -1"),
    "an id of text": (
        lambda d: d["annotations"][5].update(id="five"),
        "annotation 5 of the list.*id is 'five'",
    ),
    "a huge id": (lambda d: d["annotations"][5].update(id=BIG), "id is an integer of more than 25 digits"),
    "an id of a list": (lambda d: d["images"][1].update(id=[1]), r"image 1 of the list.*id is \[1\]"),
    "an image of a list": (lambda d: d["annotations"][2].update(image_id={}), "image_id is not in the list"),
    "a name of a number": (lambda d: d["images"][2].update(file_name=7), "file_name is 7"),
    "a bbox of nesting": (
        lambda d: d["annotations"][0].update(bbox=[[1], 2, 3, 4]),
        r"bbox is \[\[1\], 2, 3, 4\]",
    ),
    "a bbox of a huge number": (lambda d: d["annotations"][0].update(bbox=[1, 2, 3, 10**400]), "bbox is "),
    "a bbox of infinity": (lambda d: d["annotations"][0].update(bbox=[1, 2, float("inf"), 4]), "bbox is "),
    "images of text": (lambda d: d.update(images="none"), "no list 'images'"),
}


@pytest.mark.parametrize("what", COCO)
def test_coco(tmp_path, what):
    spec = trees.coco(tmp_path)
    file = tmp_path / "annotations" / "instances_train2017.json"
    data = json.loads(file.read_text())
    change, words = COCO[what]
    text = change(data)
    file.write_text(text if isinstance(text, str) else json.dumps(data))
    with pytest.raises(ChaseError, match=words):
        open_sources(spec)
    assert "instances_train2017.json" in refused(spec)
    if words[:2] not in ("ne", "no"):
        (source,) = open_sources(spec, skip_bad=True)
        assert 20 <= len(source.sequences) < 24
        assert not check(spec, progress=False).ok


def test_coco_with_whole_floats_is_read(tmp_path):
    spec = trees.coco(tmp_path)
    file = tmp_path / "annotations" / "instances_train2017.json"
    data = json.loads(file.read_text())
    for image in data["images"]:
        image.update(width=96.0, height=72.0)
    file.write_text(json.dumps(data))
    assert len(open_sources(spec)[0].sequences) == 24


@pytest.mark.parametrize("label", ["1" * 25, "1e30", "inf", "nan", "0.5", "yes", "0x1", "--"])
def test_labels_that_are_none(tmp_path, label):
    spec = trees.lasot(tmp_path)
    file = tmp_path / "cat" / "cat-3" / "full_occlusion.txt"
    values = file.read_text().split(",")
    values[4] = label
    file.write_text(",".join(values))
    text = refused(spec)
    assert "cat-3" in text and "full_occlusion.txt): value 5 is" in text
    spec = trees.got10k(tmp_path / "g")
    (tmp_path / "g/train/GOT-10k_Train_000002/cover.label").write_text("8\n" * 23 + label)
    assert "cover.label): value 24 is" in refused(spec)


def test_texts_of_other_systems(tmp_path):
    """UTF-16 of Windows, semicolons, numpy's way to write whole numbers."""
    boxes = "1,2,3,4\r\n5,6,7,8.5\r\n"
    for data in (
        boxes.encode("utf-16"),
        b"\xfe\xff" + boxes.encode("utf-16-be"),
        boxes.encode("utf-8-sig"),
        boxes.replace(",", ";").encode(),
        boxes.replace(",", "\t").encode(),
    ):
        (tmp_path / "b.txt").write_bytes(data)
        assert read_boxes(tmp_path / "b.txt").tolist() == [[1, 2, 3, 4], [5, 6, 7, 8.5]]
    np.savetxt(tmp_path / "f.txt", [0, 1, 0])
    assert read_flags(tmp_path / "f.txt", 3).tolist() == [0, 1, 0]
    (tmp_path / "b.txt").write_bytes(bytes(range(256)) * 9)
    with pytest.raises(ValueError, match=r"line 1 is .*expected four numbers"):
        read_boxes(tmp_path / "b.txt")


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """A dataset, what it holds, and the file of its index."""
    monkeypatch.setenv("CHASE_FAST_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(index, "_said", set())
    spec = trees.got10k(tmp_path / "data")
    age(tmp_path / "data")
    (good,) = open_sources(spec)
    (file,) = (tmp_path / "cache").rglob("*.npz")
    return spec, good, file


CHANGES = {
    "no object": lambda a, j: [j],
    "nested deeply": lambda a, j: "[" * 100_000,
    "no list of files": lambda a, j: j | {"seen": "all"},
    "another table": lambda a, j: j | {"table": "other"},
    "a table of a list": lambda a, j: j | {"table": ["video"]},
    "problems of numbers": lambda a, j: j | {"problems": [7]},
    "a problem without a text": lambda a, j: j | {"problems": [{"sequence": "a"}]},
    "a huge frame": lambda a, j: (
        j | {"problems": [{"sequence": "a", "what": "b", "frame": BIG, "file": None}]}
    ),
    "notes of numbers": lambda a, j: j | {"notes": [1]},
    "stamps of another shape": lambda a, j: a.update(stamps=a["stamps"][:, :1]),
    "fewer boxes": lambda a, j: a.update(boxes=a["boxes"][:-1]),
    "boxes of text": lambda a, j: a.update(boxes=a["boxes"].astype("U9")),
    "ends that fall": lambda a, j: a.update(ends=a["ends"][::-1]),
    "frames that are no flags": lambda a, j: a.update(visible=a["visible"].astype(np.int64)),
    "names of numbers": lambda a, j: a.update(about=np.frombuffer(b'[[1, "a", ["b", 1]]]' * 3, np.uint8)),
    "too few names": lambda a, j: a.update(about=np.frombuffer(b'[["a", "a", ["b"]]]', np.uint8)),
    "no boxes": lambda a, j: a.pop("boxes") is None or None,
}


@pytest.mark.parametrize("what", CHANGES)
def test_an_index_of_something_else_is_read_again(cached, what):
    spec, good, file = cached
    with np.load(file) as archive:
        arrays = dict(archive)
    data = CHANGES[what](arrays, json.loads(arrays["index"].tobytes()))
    if data is not None:
        text = data if isinstance(data, str) else json.dumps(data)
        arrays["index"] = np.frombuffer(text.encode(), np.uint8)
    np.savez(file, **arrays)
    assert index.load(file) is None
    assert same(good, open_sources(spec)[0])


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    path = tmp_path_factory.mktemp("packed")
    words = [
        trees.got10k(path / "frames"),
        "--out",
        str(path / "p"),
        "--size",
        "32",
        "--workers",
        "1",
        "--quiet",
    ]
    assert pack_command.main(words) == 0
    return path / "p"


def test_checksums_are_those_of_sha256sum(packed):
    done = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=packed, capture_output=True, text=True)
    assert done.returncode == 0
    assert {line.split(":")[0] for line in done.stdout.splitlines()} == {
        "pack.json",
        "index.npz",
        "shard-00000.bin",
    }


PACKED = {
    "a byte of the boxes": lambda p: flip(p / "index.npz", 0.5),
    "a byte of the directory": lambda p: flip(p / "index.npz", 0.999),
    "half an index": lambda p: (p / "index.npz").write_bytes((p / "index.npz").read_bytes()[:900]),
    "another size of crops": lambda p: edit(p / "pack.json", '"size": 32', '"size": 48'),
    "another source": lambda p: edit(p / "pack.json", "got10k:", "got1Ok:"),
    "pack.json nested deeply": lambda p: (p / "pack.json").write_text("[" * 100_000),
    "pack.json of a list": lambda p: (p / "pack.json").write_text("[]"),
    "a checksum": lambda p: flip(p / "SHA256SUMS", 0.01),
    "no checksums": lambda p: (p / "SHA256SUMS").write_text("nothing\n"),
}


def flip(file, where):
    data = bytearray(file.read_bytes())
    data[int(len(data) * where)] ^= 1
    file.write_bytes(data)


def edit(file, old, new):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize("what", PACKED)
def test_damage_of_a_packed_set_is_noticed(packed, tmp_path, what, capsys):
    folder = shutil.copytree(packed, tmp_path / "p")
    PACKED[what](folder)
    text = refused(f"packed:{folder}")
    assert str(folder) in text and ("damaged" in text or "pack.json" in text)
    assert doctor(["--data", f"packed:{folder}"]) == 2
    assert capsys.readouterr().err.startswith(f"error: packed:{folder}: ")


KEYS = {
    "format": "raW",
    "source": 7,
    "video": "yes",
    "command": ["a"],
    "limits": {"size": "large"},
    "format_version": 1.5,
}


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("missing", [False, True])
def test_sets_packed_before_there_were_checksums(packed, tmp_path, key, missing):
    folder = shutil.copytree(packed, tmp_path / "p")
    (folder / "SHA256SUMS").unlink()
    report = check(f"packed:{folder}", progress=False)
    assert report.ok and any("before there were checksums" in n for n in report.notes)
    about = json.loads((folder / "pack.json").read_text())
    about[key] = KEYS[key]
    if missing:
        del about[key]
    (folder / "pack.json").write_text(json.dumps(about))
    with pytest.raises(ChaseError) as e:
        (source,) = open_sources(f"packed:{folder}")
        source.sequences.check(type("Wanted", (), {"__init__": lambda s: s.__dict__.update(size=9)})())
    assert "\n" not in str(e.value) and str(folder) in str(e.value)


INDEX = {
    "texts of a number": lambda a: a.update(texts=np.frombuffer(b"7", np.uint8)),
    "names missing": lambda a: a.update(
        texts=np.frombuffer(b'{"folders": [], "shard_digests": []}', np.uint8)
    ),
    "boxes missing": lambda a: a.pop("boxes"),
    "half of the boxes": lambda a: a.update(boxes=a["boxes"][::2]),
    "entries cut": lambda a: a.update(entries=a["entries"][:-3]),
    "a shard that is none": lambda a: entry(a, "shard", 7),
    "a frame that is none": lambda a: entry(a, "flat", 10**6),
    "a level outside its shard": lambda a: entry(a, "near", None),
    "ends of floats": lambda a: a.update(ends=a["ends"].astype(float)),
}


def entry(arrays, field, value):
    from chase_fast.data.packed import ENTRY

    entries = arrays["entries"].copy().view(ENTRY)
    if value is None:
        entries["near"]["bytes"] += 10**12
    else:
        entries[field][-1] = value
    arrays["entries"] = entries.view(np.uint8)


@pytest.mark.parametrize("what", INDEX)
def test_an_index_whose_parts_do_not_fit(packed, tmp_path, what):
    folder = shutil.copytree(packed, tmp_path / "p")
    (folder / "SHA256SUMS").unlink()
    with np.load(folder / "index.npz") as archive:
        arrays = dict(archive)
    INDEX[what](arrays)
    np.savez(folder / "index.npz", **arrays)
    assert "index.npz" in refused(f"packed:{folder}")
