"""Weight files as other code writes them: wrappers, prefixes, types; damage; files of another kind."""

import json
import os
import pickle
import random
import struct
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from chase_fast.checkpoint import load_tracker, pack_tracker
from chase_fast.convert.__main__ import main as convert
from chase_fast.errors import ChaseError, MissingFile
from chase_fast.nn.backbone import build_backbone
from chase_fast.nn.genotype import CHASE_FD
from chase_fast.nn.spec import TrackerSpec
from chase_fast.published import to_pytracking_state
from tests.test_published_unpickle import archive

SPEC = TrackerSpec(backbone="resnet18", cell=CHASE_FD, channels=8)


@pytest.fixture(scope="module")
def net():
    return SPEC.build("random", seed=5)


@pytest.fixture(scope="module")
def public(net):
    """The network's state dict in the public names."""
    return to_pytracking_state(net, SPEC)


def named(state, before="", inside="") -> dict:
    """Keys behind a prefix, with a wrapper behind their first part."""
    split = (key.partition(".") for key in state)
    return {f"{before}{a}.{inside}{rest}": state[f"{a}.{rest}"] for a, _, rest in split}


NOISE = {"optimizer": {"state": {0: {"step": 3, "exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 0.1}]}}


class Lightning:
    """What this class is, no reader of a file knows."""


WRAPPED = {
    "compiled": lambda s: named(s, "_orig_mod."),
    "parallel": lambda s: named(s, "module."),
    "compiled, parallel": lambda s: {"net": named(s, "module._orig_mod.")},
    "parallel, compiled": lambda s: named(s, "_orig_mod.module."),
    "compiled parts": lambda s: {"net": named(s, inside="_orig_mod.")},
    "state_dict": lambda s: {"state_dict": s, "epoch": 3, **NOISE},
    "model": lambda s: {"model": s, **NOISE},
    "params": lambda s: {"params": s},
    "two levels": lambda s: {"checkpoint": {"model": s, "step": 1}, **NOISE},
    "lightning": lambda s: {
        "state_dict": named(s, "net.") | {"loss.weight": torch.ones(2)},
        "hyper_parameters": Lightning(),
        "callbacks": {"ModelCheckpoint": {"best": torch.tensor(1.0)}},
    },
    "lightning, compiled": lambda s: {"state_dict": named(s, "model._orig_mod.")},
    "averaged": lambda s: named(s, "module.") | {"n_averaged": torch.tensor(7)},
    "twice the same": lambda s: {"net": s, "model": s},
}


# no choice was made: the whole file, or what it calls net
QUIET = {
    *("compiled", "parallel", "compiled, parallel", "parallel, compiled", "compiled parts"),
    *("averaged", "twice the same"),
}


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("kind", WRAPPED)
def test_a_wrapped_tracker_is_found(kind, legacy, net, public, tmp_path, caplog):
    path = tmp_path / "x.pth"
    torch.save(WRAPPED[kind](public), path, _use_new_zipfile_serialization=not legacy)
    loaded = load_tracker(path)
    expected = net.state_dict()
    assert loaded.spec == SPEC
    assert all(torch.equal(v, expected[k]) for k, v in loaded.net.state_dict().items())
    assert len(caplog.records) == (kind not in QUIET)


@pytest.mark.parametrize("kind", WRAPPED)
def test_a_wrapped_backbone_is_found(kind, tmp_path):
    expected = build_backbone("resnet18", "random", 3).state_dict()
    torch.save(WRAPPED[kind](expected | {"fc.weight": torch.ones(1)}), tmp_path / "x.pth")
    found = build_backbone("resnet18", tmp_path / "x.pth").state_dict()
    assert all(torch.equal(found[k], v) for k, v in expected.items())


def test_a_tracker_lends_its_backbone(net, public, tmp_path):
    torch.save({"net": public}, tmp_path / "x.pth")
    found = build_backbone("resnet18", tmp_path / "x.pth").state_dict()
    expected = net.feature_extractor.state_dict()
    assert all(torch.equal(found[k], v) for k, v in expected.items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_and_safetensors_with_public_names(dtype, public, tmp_path):
    state = {k: v.to(dtype).contiguous() if v.is_floating_point() else v for k, v in public.items()}
    save_file(state, tmp_path / "x.safetensors")
    torch.save(state, tmp_path / "x.pth")
    (tmp_path / "y.pth").write_bytes((tmp_path / "x.safetensors").read_bytes())
    for name in ("x.safetensors", "x.pth", "y.pth"):
        loaded = load_tracker(tmp_path / name)
        assert loaded.spec == SPEC
        for key, value in loaded.net.feature_extractor.state_dict().items():
            if value.is_floating_point():
                assert value.dtype == torch.float32
                assert torch.equal(value, state[f"feature_extractor.{key}"].float())


def message(path, reader=load_tracker) -> str:
    with pytest.raises(ChaseError) as caught:
        reader(path)
    text = str(caught.value)
    assert path.name in text and "\n" not in text and len(text) < 600
    return text


def test_two_sets_of_weights_are_refused(public, tmp_path):
    path = tmp_path / "x.pth"
    other = {k: v + 1 if v.is_floating_point() else v for k, v in public.items()}
    for content in (
        {"model": public, "ema": other},
        named(public, "model.") | named(other, "ema."),
        {"state_dict": public, "state_dict_ema": {"module": other}},
    ):
        torch.save(content, path)
        assert "several sets of weights" in message(path)
    torch.save(public | named(other, "module."), path)
    assert "two tensors" in message(path)


def test_weights_that_are_none(public, tmp_path):
    path = tmp_path / "x.pth"
    key = "feature_extractor.bn1.bias"
    for value, says in (
        (torch.zeros(64, dtype=torch.int8), "int8"),
        (torch.zeros(64, dtype=torch.complex64), "complex64"),
        (torch.full((64,), 1e300, dtype=torch.float64), "infinity"),
        (torch.full((64,), float("nan"), dtype=torch.float16), "NaN"),
        (torch.zeros(63), "another shape"),
    ):
        torch.save(public | {key: value}, path)
        assert says in message(path)


def test_other_kinds_of_files(tmp_path):
    """Each says what it is; none is a traceback."""
    path = tmp_path / "x.pth"
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(path))
    assert "TorchScript" in message(path)
    torch.save(torch.nn.Linear(2, 2), path)
    assert "no dictionary" in message(path)
    for content, says in (
        (b"<!DOCTYPE html><html>Quota exceeded</html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "HDF5"),
        (b"\x08\x07\x12\x07pytorch\x1a\x05" + bytes(100), "ONNX"),
        (b"\x1f\x8b\x08" + bytes(100), "gzip"),
        (b"", "cannot be read"),
        (bytes(1000), "cannot be read"),
        (b"\x93NUMPY\x01\x00" + bytes(100), "cannot be read"),
        (b"PK\x05\x06" + bytes(18), "cannot be read"),
    ):
        for name in ("x.pth", "x.safetensors"):
            (tmp_path / name).write_bytes(content)
            text = message(tmp_path / name)
            assert says in text or name == "x.safetensors", text
    assert "folder" in message(tmp_path)
    os.mkfifo(tmp_path / "pipe.pth")
    for reader in (load_tracker, lambda p: build_backbone("resnet18", p)):
        assert "no regular file" in message(tmp_path / "pipe.pth", reader)
        with pytest.raises(FileNotFoundError, match="no such file") as caught:
            reader(tmp_path / "absent.pth")
        assert isinstance(caught.value, MissingFile)


def memory() -> int:
    """Peak resident memory of this process in MiB."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


LONG = struct.pack("<I", 0x7FFFFFFF)
BOMBS = {
    "memo": b"\x80\x02}r" + LONG + b".",
    "binput": b"\x80\x02" + b"".join(b"]r" + struct.pack("<I", 1 << k) for k in range(31)) + b"e.",
    "bytes": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b"x.",
    "bytearray": b"\x80\x05\x96" + struct.pack("<Q", 1 << 33) + b"x.",
    "unicode": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 40) + b"x.",
    "frame": b"\x80\x04\x95" + struct.pack("<Q", 1 << 40) + b"}.",
    "long": b"\x80\x02\x8b" + LONG + b"\x01.",
    "hashes": b"\x80\x02})" + b"2\x86" * 60 + b"K\x01s.",  # the hash of a tuple of tuples takes 2^60 steps
    "set of hashes": b"\x80\x04\x8f()" + b"2\x86" * 60 + b"\x90.",
    "frozenset of hashes": b"\x80\x04()" + b"2\x86" * 60 + b"\x91.",
    "deep": b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
    "deep dictionaries": b"\x80\x02" + b"}X\x01\x00\x00\x00a" * 50_000 + b"}" + b"s" * 50_000 + b".",
    "deep tuples": b"\x80\x02)" + b"\x85" * 100_000 + b".",
    "digits": b"I" + b"9" * 100_000 + b"\n.",
    "recursive": b"\x80\x02}q\x00X\x03\x00\x00\x00neth\x00s.",
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_small_file_takes_no_memory_and_no_time(name, tmp_path):
    """A pickle of torch's two formats; C's unpickler takes 32 GiB for the first."""
    before = memory()
    archive(tmp_path / "x.pth", BOMBS[name])
    head = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2)
    head += pickle.dumps({"little_endian": True}, 2)
    (tmp_path / "y.pth").write_bytes(head + BOMBS[name])
    for path in (tmp_path / "x.pth", tmp_path / "y.pth"):
        message(path)
        message(path, lambda p: build_backbone("resnet18", p))
    assert memory() - before < 400


def test_a_claim_of_giant_weights_is_refused(public, tmp_path):
    """One number per tensor, shown as a network of many gigabytes."""
    path, before = tmp_path / "x.pth", memory()
    wide = TrackerSpec(backbone="resnet18", cell=CHASE_FD, channels=4096)
    with torch.device("meta"):
        shapes = {k: v.shape for k, v in wide.build().state_dict().items()}
    tensors = {k: torch.zeros(()).expand(s) for k, s in shapes.items()}
    own = json.dumps({"spec": wide.to_data(), "about": {}})
    torch.save({"net": tensors, "chase_fast": own}, path)
    assert "claims" in message(path)
    key = next(k for k in public if k.endswith("conv_match3.weight"))
    torch.save(public | {key: torch.zeros(()).expand(10**6, 128, 3, 3)}, path)
    assert "channels" in message(path)
    assert memory() - before < 1200


def test_overlapping_entries_are_refused(public, tmp_path):
    path = tmp_path / "x.pth"
    torch.save({"net": public}, path)
    content = path.read_bytes()
    with zipfile.ZipFile(path) as file:
        entry = next(e for e in file.infolist() if e.filename.endswith("data/0"))
    content = content.replace(struct.pack("<II", entry.file_size, entry.file_size), b"\xff\xff\xff\x7f" * 2)
    path.write_bytes(content)
    assert "cannot be read" in message(path)


# damage


def test_every_flipped_bit_of_a_checkpoint_is_noticed(net, tmp_path):
    """Weights, names, shapes, description and digest of best.safetensors."""
    path, whole = tmp_path / "best.safetensors", pack_tracker(net, SPEC, {"seed": 5, "config": {"lr": 1e-3}})
    header = struct.unpack("<Q", whole[:8])[0]
    rng = random.Random(0)
    places = [rng.randrange(8 + header) for _ in range(16)]
    places += [rng.randrange(8 + header, len(whole)) for _ in range(3)]
    mark = whole.index(b"tracker")  # the description
    places += range(mark - 20, mark + 400, 29)
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        try:
            loaded = load_tracker(path)
        except ChaseError as e:
            assert "best.safetensors" in str(e) and "\n" not in str(e)
        else:  # a blank of the header, or the case of an escape: nothing that is read has changed
            assert loaded.spec == SPEC and loaded.about == {"seed": 5, "config": {"lr": 1e-3}}, place
            assert all(torch.equal(v, net.state_dict()[k]) for k, v in loaded.net.state_dict().items())


def test_a_checkpoint_without_a_digest_still_loads(net, tmp_path):
    path = tmp_path / "best.safetensors"
    tensors = {k: v.contiguous() for k, v in net.state_dict().items()}
    described = {"format": 1, "spec": SPEC.to_data(), "about": {"epoch": 3}}
    save_file(tensors, path, {"tracker": json.dumps(described)})
    assert load_tracker(path).about == {"epoch": 3}


@pytest.mark.parametrize(
    "change",
    [
        {"spec": 3}, {"spec": None}, {"about": []}, {"format": "1"}, {"format": True}, {"digest": 3},
        {"extra": 1}, {"spec": {"channels": "8"}},
        {"spec": {"channels": 1e999}}, {"spec": {"channels": 10**9}},
        {"spec": {"feature_size": 10**400}},
        {"spec": {"feature_size": -1}}, {"spec": {"filter_iterations": 0}},
        {"spec": {"flavour": ["chase"]}}, {"spec": {"classifier": {}}}, {"spec": {"backbone": []}},
        {"spec": {"cell": "x"}}, {"spec": {"cell": {"nodes": [[["none", 0]]] * 10_000}}},
    ],
    ids=str,
)  # fmt: skip
def test_a_description_of_wrong_types_is_one_line(change, net, tmp_path):
    path = tmp_path / "best.safetensors"
    described = {"format": 1, "spec": SPEC.to_data(), "about": {}}
    for key, value in change.items():
        described[key] = described[key] | value if isinstance(value, dict) else value
    save_file({"a": torch.zeros(1)}, path, {"tracker": json.dumps(described)})
    message(path)
    assert convert([str(path), str(tmp_path / "out.pth")]) == 2
    save_file({"a": torch.zeros(1)}, path, {"tracker": "[" * 200_000})
    message(path)


def test_random_damage_of_public_files_is_one_line(public, tmp_path):
    rng = random.Random(1)
    for legacy in (False, True):
        path = tmp_path / "x.pth"
        torch.save({"net": public}, path, _use_new_zipfile_serialization=not legacy)
        whole = path.read_bytes()
        for _ in range(20):
            damaged = bytearray(whole)
            for _ in range(rng.choice((1, 10))):
                damaged[rng.randrange(min(len(whole), 60_000))] = rng.randrange(256)
            path.write_bytes(damaged[: rng.choice((len(whole), len(whole) // 2))])
            try:
                load_tracker(path)
            except ChaseError as e:
                assert "\n" not in str(e)


def test_a_path_with_a_tilde(public, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    torch.save({"net": public}, tmp_path / "x.pth")
    assert load_tracker("~/x.pth").spec == SPEC
    assert convert(["~/x.pth", "~/y.safetensors"]) == 0 and (tmp_path / "y.safetensors").is_file()
    assert not Path("~").exists()
