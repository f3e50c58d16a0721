"""The reader of foreign checkpoints: hostile files do nothing, honest ones give torch's own tensors."""

import collections
import functools
import io
import os
import pickle
import subprocess
import zipfile
from pathlib import Path

import pytest
import torch

from chase_fast import unpickle
from chase_fast.errors import ChaseError
from chase_fast.published import read_pytracking
from chase_fast.unpickle import TensorRecord, open_checkpoint
from tests import public_files

TENSORS = {"a.weight": torch.arange(12.0).view(3, 4), "a.bias": torch.tensor(3)}


class Call:
    """Pickles as `function(*arguments)`, with a state to be built on what it returns."""

    def __init__(self, function, *arguments, state=None):
        self.reduced = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.reduced

    def __call__(self):
        """Pickling asks that a function can be called."""


def attacks(marker: Path) -> dict[str, object]:
    """Objects that create the file `marker` when they are unpickled."""
    touch, python = f"touch {marker}", f"open({str(marker)!r}, 'w').close()"
    system = Call(os.system, touch)
    return {
        "os.system": system,
        "eval": Call(eval, python),
        "exec": Call(exec, python),
        "Popen": Call(subprocess.Popen, ["touch", str(marker)]),
        "open": Call(open, str(marker), "w"),
        "getattr": Call(Call(getattr, Call(__import__, "os"), "system"), touch),
        "partial": Call(functools.partial(os.system, touch)),
        "map": Call(list, Call(map, os.system, [touch])),
        "nested": {"x": [(1, {"y": collections.OrderedDict(z=system)})]},
        "argument of a tensor": Call(torch._utils._rebuild_tensor_v2, system, 0, (2,), (1,), False, system),
        "state of a dict": Call(collections.OrderedDict, state={"items": system, "__class__": system}),
        "default factory": Call(collections.defaultdict, Call(functools.partial, os.system, touch)),
        "torch.load": Call(
            torch.load, Call(io.BytesIO, pickle.dumps(system)), None, Call(__import__, "pickle")
        ),
        "loads": Call(pickle.loads, pickle.dumps(system)),
    }


@pytest.mark.parametrize("name", list(attacks(Path("x"))))
def test_nothing_in_a_file_runs(name, tmp_path):
    """Beside the weights, among them, and in their place; both formats, all protocols."""
    marker = tmp_path / "marker"
    attack = attacks(marker)[name]
    for protocol in range(2, 6):
        for legacy in (False, True):
            options = {"pickle_protocol": protocol, "_use_new_zipfile_serialization": not legacy}
            torch.save({"net": TENSORS, "settings": attack}, tmp_path / "beside.pth", **options)
            with open_checkpoint(tmp_path / "beside.pth") as content:
                assert torch.equal(content["net"]["a.weight"].tensor(), TENSORS["a.weight"])
            for file, net in (("among.pth", TENSORS | {"b": attack}), ("instead.pth", attack)):
                torch.save({"net": net}, tmp_path / file, **options)
                with pytest.raises(ChaseError, match=file):
                    read_pytracking(tmp_path / file)
            torch.save(attack, tmp_path / "whole.pth", **options)
            with pytest.raises(ChaseError, match="whole"):
                read_pytracking(tmp_path / "whole.pth")
    assert not marker.exists()


@pytest.mark.parametrize("name", ["os.system", "exec", "getattr", "partial", "nested", "loads"])
def test_the_attacks_are_real(name, tmp_path):
    """The same file does run in torch.load without weights_only."""
    torch.save({"net": attacks(tmp_path / "marker")[name]}, tmp_path / "net.pth")
    torch.load(tmp_path / "net.pth", weights_only=False)
    assert (tmp_path / "marker").exists()


def archive(path: Path, code: bytes) -> Path:
    """A checkpoint in the zip format with this pickle in it."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", code)
    return path


@pytest.mark.parametrize(
    "code",
    [
        b"cos\nsystem\n(S'touch MARKER'\ntR.",  # GLOBAL, REDUCE
        b"(S'touch MARKER'\nios\nsystem\n.",  # INST
        b"(cos\nsystem\nS'touch MARKER'\no.",  # OBJ
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x0ctouch MARKER\x85R.",  # STACK_GLOBAL
        b"\x80\x02cos\nsystem\nX\x0c\x00\x00\x00touch MARKER\x85\x81.",  # NEWOBJ
        b"\x80\x02\x82\xf0X\x0c\x00\x00\x00touch MARKER\x85R.",  # EXT1: no such code is registered
        b'cbuiltins\neval\n(S\'open("MARKER", "w")\'\ntR.',
        b"c__builtin__\napply\n(cos\nsystem\n(S'touch MARKER'\nttR.",
        # attributes set on the stand-in, on the dictionary's class, on the function that rebuilds tensors
        b"\x80\x02cos\nsystem\nN}X\x08\x00\x00\x00__call__cos\npopen\ns\x86b.",
        b"\x80\x02ccollections\nOrderedDict\nN}X\x0c\x00\x00\x00__setstate__cos\npopen\ns\x86b.",
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nN}X\x06\x00\x00\x00tensorcos\npopen\ns\x86b.",
        b"\x80\x02ctorch\nFloatStorage\nN}X\x05\x00\x00\x00dtypecos\npopen\ns\x86b.",
    ],
)
def test_hand_written_pickles(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kept = {c: dict(vars(c)) for c in (unpickle.Inert, unpickle.Mapping, TensorRecord, unpickle.StorageType)}
    storage = unpickle._KNOWN["torch", "FloatStorage"]
    with pytest.raises(ChaseError, match=r"evil\.pth"):
        read_pytracking(archive(tmp_path / "evil.pth", code))
    assert [p.name for p in tmp_path.iterdir()] == ["evil.pth"]
    assert all(dict(vars(c)) == before for c, before in kept.items()) and storage.dtype is torch.float32


@pytest.mark.parametrize("legacy", [False, True])
def test_tensors_are_those_that_torch_reads(legacy, tmp_path):
    """Kinds, views of one storage, parameters; no storage but those asked for is read."""
    base = torch.arange(24.0)
    tensors = {
        "transposed": base.view(4, 6).t(),
        "slice": base[5:9],
        "expanded": torch.ones(1, 3).expand(5, 3),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "empty": torch.empty(0, 3),
        "scalar": torch.tensor(4),
        **{str(d): torch.tensor([1, 0, 1], dtype=d) for d in unpickle._DTYPES.values() if d != torch.float32},
    }
    path = public_files.save(tmp_path / "net.pth", tensors, legacy)
    with open_checkpoint(path) as content:
        assert content["net"].keys() == tensors.keys()
        for key, tensor in tensors.items():
            found = content["net"][key].tensor()
            assert found.dtype == tensor.dtype and torch.equal(found, tensor), key


@pytest.mark.parametrize(
    "numbers",
    [
        (0, (100,), (1,)),
        (20, (8,), (1,)),
        (0, (2,), (99,)),
        (-1, (2,), (1,)),
        (0, (2, 2), (1,)),
        (0, (2,), "x"),
    ],
)
def test_a_tensor_cannot_reach_outside_its_storage(numbers, tmp_path):
    class Wrong:
        def __reduce__(self):
            return torch._utils._rebuild_tensor_v2, (Place(), *numbers, False, collections.OrderedDict())

    class Place:
        pass

    class Pickler(pickle.Pickler):
        def persistent_id(self, thing):
            return ("storage", torch.FloatStorage, "0", "cpu", 24) if isinstance(thing, Place) else None

    buffer = io.BytesIO()
    Pickler(buffer, 2).dump({"net": {"a": Wrong()}})
    path = archive(tmp_path / "evil.pth", buffer.getvalue())
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("archive/data/0", torch.arange(24.0).numpy().tobytes())
    with pytest.raises(ChaseError, match="cannot be read"):
        read_pytracking(path)


def test_a_compressed_archive_is_refused(tmp_path):
    """torch stores without compression; a small file could otherwise ask for all memory."""
    path = public_files.save(tmp_path / "net.pth", {"a": torch.zeros(1000)})
    with (
        zipfile.ZipFile(path) as old,
        zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            new.writestr(name, old.read(name))
    with pytest.raises(ChaseError, match="cannot be read"):
        read_pytracking(tmp_path / "bomb.pth")
