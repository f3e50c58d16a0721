"""Ground floor: user paths, whole files, and values of files that are checked when they are taken."""

import errno
import json
import os
import sys
import zipfile

import numpy as np
import pytest

from chase_fast import files
from chase_fast.errors import ChaseError
from chase_fast.fields import Fields, load_arrays, load_json, load_object, read_object, short


def test_cache_folder(monkeypatch):
    monkeypatch.delenv("CHASE_FAST_CACHE", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert str(files.cache_folder()) == "/x/chase_fast"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert str(files.cache_folder()) == "/home/someone/.cache/chase_fast"


def _nobody(monkeypatch):
    def unknown(*_):
        raise KeyError("uid not found")

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", unknown)
    monkeypatch.setattr("pwd.getpwnam", unknown)


def test_without_a_home_folder(monkeypatch):
    _nobody(monkeypatch)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("CHASE_FAST_CACHE", raising=False)
    assert files.cache_folder().name == f"chase_fast-{os.getuid()}"
    for path in ("~/data", "~nobody_of_this_name/data"):
        with pytest.raises(ChaseError, match="home folder is not known"):
            files.user_path(path)
    assert str(files.user_path("/data/~x")) == "/data/~x"


@pytest.mark.parametrize(
    ("number", "text"), [(errno.ENOSPC, "disk full.*rescued"), (errno.EACCES, "cannot write")]
)
def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch, number, text):
    path = tmp_path / "a"
    files.write_atomic(path, b"old")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(number, "no")))
    with pytest.raises(ChaseError, match=text):
        files.write_atomic(path, b"new", "it is rescued")
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "data",
    ["[" * 200_000, '{"a":' * 200_000, "1" * 10_000, "", b"\xff\xfe{", "{]", "nul", '{"a": 1', b"\x00" * 40],
)
def test_what_is_no_json_is_one_line(data):
    with pytest.raises(ChaseError, match=r"^file ") as e:
        load_json(data, "file")
    assert "\n" not in str(e.value) and len(str(e.value)) < 200


@pytest.mark.parametrize("value", [[], 3, None, "text", 1e999, [["a"] * 3]])
def test_what_is_no_object_is_one_line(value):
    with pytest.raises(ChaseError, match="expected an object"):
        load_object(json.dumps(value), "file")


GOOD = {
    "text": "a", "integer": 3, "number": 2.5, "flag": True, "entries": [1, "x"], "texts": ["a", "b"],
    "numbers": [1, 2.5], "inner": {"k": 1}, "many": [{"k": 1}, {"k": 2}],
}  # fmt: skip
ODD = [
    None,
    True,
    3,
    -1,
    2.5,
    float("nan"),
    float("inf"),
    10**400,
    "a",
    "",
    [],
    [None],
    [1],
    ["a", 1],
    {},
    [{}, 1],
]


def test_good_fields_come_back():
    fields = load_object(json.dumps(GOOD), "file")
    for name, value in GOOD.items():
        found = getattr(fields, name)(name)
        found = dict(found) if name == "inner" else list(map(dict, found)) if name == "many" else found
        assert found == value and type(found) is type(value)
    assert fields.choice("text", ("a", "b")) == "a"
    assert fields.integer("missing", default=None) is None and fields.number("missing", default=1) == 1
    assert isinstance(fields.number("integer"), float) and fields.numbers("numbers", 2) == [1.0, 2.5]


@pytest.mark.parametrize("value", ODD)
@pytest.mark.parametrize("method", GOOD)
def test_odd_fields_are_refused_in_one_line(method, value):
    accepted = {
        "text": (str,), "integer": (int,), "number": (int, float), "flag": (bool,), "entries": (list,),
        "texts": (list,), "numbers": (list,), "inner": (dict,), "many": (list,),
    }[method]  # fmt: skip
    fields = Fields({"name": value}, "file")
    try:
        getattr(fields, method)("name")
    except ChaseError as e:
        assert str(e).startswith("file") and "name" in str(e) and "\n" not in str(e) and len(str(e)) < 200
    else:
        assert isinstance(value, accepted) and (method == "flag") == isinstance(value, bool)
        assert value != 10**400 and value == value and value != float("inf")


def test_limits_and_missing_fields():
    fields = Fields({"n": 5, "x": 0.5}, "file")
    assert fields.integer("n", 0, 5) == 5 and fields.number("x", 0, 1) == 0.5
    for call in (
        lambda: fields.integer("n", 6),
        lambda: fields.integer("n", 0, 4),
        lambda: fields.number("x", 1, 2),
        lambda: fields.text("missing"),
        lambda: fields.choice("n", ("5",)),
        lambda: fields.numbers("x", 1),
        lambda: fields.inner("missing"),
    ):
        with pytest.raises(ChaseError):
            call()


def test_short_is_short():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    for value in (deep, 10**10_000, "a\nb" * 1000, list(range(1000)), {"a": "b" * 1000}, [10**10_000]):
        assert len(short(value)) <= 60 and "\n" not in short(value)


def test_arrays(tmp_path):
    file = tmp_path / "a.npz"
    np.savez(file, a=np.arange(3), b=np.zeros((2, 2)))
    found = load_arrays(file, {"a": "iu", "b": "f"})
    assert found["a"].tolist() == [0, 1, 2] and found["b"].shape == (2, 2)
    with pytest.raises(FileNotFoundError):
        load_arrays(tmp_path / "missing.npz", {})
    for kinds in ({"c": "f"}, {"a": "f"}):
        with pytest.raises(ChaseError, match="damaged"):
            load_arrays(file, kinds)
    np.savez_compressed(tmp_path / "c.npz", a=np.zeros(10))
    np.savez(tmp_path / "o.npz", a=np.array([{}], object))
    with zipfile.ZipFile(tmp_path / "n.npz", "w") as archive:
        archive.writestr("a.npy", b"no array")
    for name in ("c", "o"):
        with pytest.raises(ChaseError, match="damaged"):
            load_arrays(tmp_path / f"{name}.npz", {"a": "f"})
    with pytest.raises(ChaseError, match="damaged"):
        load_arrays(tmp_path / "n.npz", {"a": "f"})


def test_every_damaged_byte_of_an_npz_is_noticed_or_harmless(tmp_path):
    file = tmp_path / "a.npz"
    np.savez(file, a=np.arange(5, dtype=np.int64))
    whole = file.read_bytes()
    rng = np.random.default_rng(0)
    for k in range(0, len(whole), 3):
        damaged = bytearray(whole)
        damaged[k] ^= int(rng.integers(1, 256))
        file.write_bytes(damaged[: len(whole) - (k % 7 == 0) * 20])
        try:
            load_arrays(file, {"a": "iu"})
        except ChaseError as e:
            assert "\n" not in str(e)


def test_read_object_tells_missing_from_unreadable(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_object(tmp_path / "missing.json")
    with pytest.raises(ChaseError, match="cannot be read"):
        read_object(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names")
def test_a_pipe_among_files_is_no_wait(tmp_path):
    """Fault: a pipe in the place of an annotation stopped the command for ever."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder"):
        with pytest.raises(OSError, match=r"is no file|Is a directory|is a folder"):
            files.read_bytes(tmp_path / name)
    reader, writer = os.pipe()  # as the shell's <(command)
    os.write(writer, b"a list")
    os.close(writer)
    assert files.read_text(f"/dev/fd/{reader}") == "a list"
    os.close(reader)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_texts_of_any_system(tmp_path, encoding):
    (tmp_path / "text").write_bytes("Bäume\r\n".encode(encoding))
    assert files.read_text(tmp_path / "text") == "Bäume\r\n"
