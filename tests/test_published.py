"""Public checkpoints: every key and shape goes in and out; nothing in a file is ever executed."""

import json
import re
from pathlib import Path

import pytest
import torch

from chase_fast.checkpoint import load_tracker, pack_tracker
from chase_fast.convert.__main__ import main as convert
from chase_fast.errors import ChaseError
from chase_fast.nn.genotype import CHASE, CHASE_FD, CHASE_WO, Genotype
from chase_fast.nn.spec import TrackerSpec
from chase_fast.published import pack_pytracking, to_pytracking_state
from tests import golden, nas_names, public_files

SMALL = {"backbone": "resnet18", "channels": 8}


def shapes(kind: str, depth: int) -> dict[str, tuple[int, ...]]:
    listed = json.loads((golden.ROOT / f"prdimp/{kind}{depth}_state_dict.json").read_text())
    return {key: tuple(shape) for key, shape in listed.items()}


def zeros(listed: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """One stored number per tensor: full shapes in small files."""
    return {key: torch.zeros(()).expand(shape) for key, shape in listed.items()}


def chase_state(spec: TrackerSpec, prefix: str) -> tuple[dict[str, torch.Tensor], torch.nn.Module]:
    """State dict of a CHASE network, its neck named by the map that the golden arrays confirm."""
    net = spec.build("random")
    with torch.no_grad():
        for parameter in net.neck.parameters():
            parameter.normal_()
    slots = nas_names.neck_slots(net.neck, nas_names.derived_slots(net.neck.cell, "chase"))
    neck = {}
    for slot in slots:
        shape = slot.tensor.shape
        if slot.key.startswith("cells") and slot.tensor.dim() > 1:  # released: convolutions
            shape = (len(slot.tensor), 1, *shape[1:]) if slot.tensor.dim() == 3 else (*shape, 1, 1)
        neck[prefix + slot.key] = slot.tensor.detach().view(shape)
        if slot.key.endswith("running_var"):
            neck[prefix + slot.key.replace("running_var", "num_batches_tracked")] = torch.tensor(7)
    rest = {k: v for k, v in net.state_dict().items() if not k.startswith("neck.")}
    return rest | neck, net


@pytest.mark.parametrize(
    ("kind", "depth", "legacy"),
    [("prdimp", 18, False), ("prdimp", 50, True), ("dimp", 18, True), ("dimp", 50, False)],
)
def test_all_keys_and_shapes_go_in_and_out(kind, depth, legacy, tmp_path):
    listed = shapes(kind, depth)
    loaded = load_tracker(public_files.save(tmp_path / "net.pth.tar", zeros(listed), legacy))
    assert loaded.spec == TrackerSpec(kind, f"resnet{depth}") and not loaded.net.training
    assert not any(parameter.any() for parameter in loaded.net.parameters())
    assert loaded.about["epoch"] == 50 and loaded.about["net_type"] == "DiMPnet"
    assert loaded.about["source"] == "net.pth.tar" and loaded.about["assumed"]["filter_iterations"] == 5
    written = to_pytracking_state(loaded.net, loaded.spec)
    assert {key: tuple(tensor.shape) for key, tensor in written.items()} == listed


@pytest.fixture(scope="module")
def trained():
    spec = TrackerSpec(backbone="resnet18", cell=CHASE_FD, channels=8, filter_iterations=3)
    return spec.build("random", seed=5), spec


def same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    b = b.state_dict()
    return all(torch.equal(value, b[key]) for key, value in a.state_dict().items())


def test_there_and_back_with_the_command(trained, tmp_path, capsys):
    """Our file -> public file -> our file: weights, architecture and origin; layer4 takes no room."""
    net, spec = trained
    source, public, back = (
        tmp_path / name for name in ("best.safetensors", "out.pth.tar", "back.safetensors")
    )
    source.write_bytes(pack_tracker(net, spec, {"seed": 5}))
    assert convert([str(tmp_path), str(public)]) == 0 and convert([str(public), str(back)]) == 0  # a folder
    assert "prdimp, resnet18, cell of 4 nodes, 8 channels" in capsys.readouterr().out
    loaded = load_tracker(back)
    assert loaded.spec == spec and same(loaded.net, net) and loaded.about["about"] == {"seed": 5}
    assert public.stat().st_size < 1.1 * source.stat().st_size
    content = torch.load(public, weights_only=True)
    assert content["net"]["feature_extractor.fc.weight"].shape == (1000, 512)


@pytest.mark.parametrize(
    ("cell", "prefix"), [(CHASE, "classifier.feature_extractor."), (CHASE_FD, "neck."), (CHASE_WO, "")]
)
def test_a_published_cell_is_recognised_wherever_its_neck_hangs(cell, prefix, tmp_path):
    spec = TrackerSpec(**SMALL, cell=cell)
    state, net = chase_state(spec, prefix)
    loaded = load_tracker(public_files.save(tmp_path / "chase.pth.tar", state))
    assert loaded.spec == spec and same(loaded.net, net)
    written = to_pytracking_state(net, spec)
    used = {k for k in written if not k.startswith(("feature_extractor.layer4.", "feature_extractor.fc."))}
    assert {k.replace(prefix, "neck.", 1) if "conv_match" in k or "cells" in k else k for k in state} == used


def test_another_cell_must_be_given(tmp_path, capsys):
    cell = Genotype(((("none", 0), ("dil_conv_5x5", 1)), (("skip_connect", 2), ("sep_conv_3x3", 0))))
    spec = TrackerSpec(**SMALL, cell=cell)
    state, net = chase_state(spec, "net.neck.")
    # our name map counts `none` as a gene, as the released derivation does
    state = {k.replace("_ops.1.", "_ops.3.").replace("_ops.0.", "_ops.1."): v for k, v in state.items()}
    state = {k.replace("_ops.2.", "_ops.3."): v for k, v in state.items()}
    path = public_files.save(tmp_path / "own.pth", state)
    with pytest.raises(ChaseError, match=r"1: dil_conv_5x5, 3: sep_conv_3x3.*--cell"):
        load_tracker(path)
    assert same(load_tracker(path, cell).net, net)
    with pytest.raises(ChaseError, match="another architecture: keys"):
        load_tracker(path, CHASE)
    (tmp_path / "cell.json").write_text(json.dumps({"genotype": cell.to_data(), "channels": 8}))
    out = tmp_path / "own.safetensors"
    assert convert([str(path), str(out), "--cell", str(tmp_path / "cell.json")]) == 0
    assert load_tracker(out).spec == spec
    assert "assumed" in capsys.readouterr().out


# errors


def message(path: Path, **options) -> str:
    with pytest.raises(ChaseError) as caught:
        load_tracker(path, **options)
    text = str(caught.value)
    assert path.name in text and "\n" not in text
    return text


@pytest.mark.parametrize("legacy", [False, True])
def test_damaged_files(legacy, tmp_path):
    state = {"net.weight": torch.arange(1000.0), "net.bias": torch.zeros(4)}
    path = public_files.save(tmp_path / "net.pth.tar", state, legacy)
    content = path.read_bytes()
    for end in (1, 10, 200, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:end])
        assert "cannot be read" in message(path), end
    for text in (b"", b"PK", b"not a checkpoint", b"\x80\x02.", b"\x80\x02}."):
        path.write_bytes(text)
        assert "cannot be read" in message(path)


def test_a_flipped_bit_is_found(tmp_path):
    """The zip archive has a checksum."""
    path = public_files.save(tmp_path / "net.pth", {"net.weight": torch.arange(1000.0)})
    content = bytearray(path.read_bytes())
    content[content.index(torch.arange(1000.0).numpy().tobytes()) + 100] ^= 1
    path.write_bytes(content)
    assert "cannot be read" in message(path)


def test_other_files(tmp_path):
    listed = shapes("prdimp", 18)

    def error(**content):
        torch.save(content, tmp_path / "x.pth")
        return message(tmp_path / "x.pth")

    backbone = {k.removeprefix("feature_extractor."): v for k, v in zeros(listed).items() if "layer1" in k}
    assert "--backbone-weights" in error(**backbone)
    assert "best.safetensors" in error(net={"neck.0.weight": torch.zeros(1)}, history=[], optimizer={})
    assert "'model', 'step'" in error(model=1, step=2)
    assert "'net'" in error(net={})
    assert "'net'" in error(net={"a": torch.zeros(1), "b": 3})
    kys = error(net={"backbone.conv1.weight": torch.zeros(1), "head.bias": torch.zeros(1)})
    assert "classifier.filter_optimizer.filter_reg" in kys and "backbone.conv1, head.bias" in kys
    assert "no dictionary" in (torch.save([1], tmp_path / "y.pth"), message(tmp_path / "y.pth"))[1]
    missing = zeros({k: v for k, v in listed.items() if k != "bb_regressor.fc3_rt.bn.bias"})
    assert "1 missing (e.g. bb_regressor.fc3_rt.bn.bias)" in error(net=missing)
    other = zeros(listed | {"classifier.extra": (1,), "feature_extractor.conv1.weight": (64, 1, 7, 7)})
    text = error(net=other)
    assert "1 unexpected (e.g. classifier.extra)" in text and "feature_extractor.conv1.weight" in text
    nan = zeros(listed) | {"feature_extractor.bn1.bias": torch.full((64,), float("nan"))}
    assert "NaN" in error(net=nan)
    supernet = {k: v for k, v in zeros(listed).items() if not k.startswith("classifier.feature_extractor")}
    search = {"conv_match3.weight": (8, 128, 3, 3), "cells.0._ops.0._ops.4.op.0.weight": (8, 1, 3, 3)}
    assert "search network" in error(net=supernet | zeros(search))
    assert "leave out --cell" in message(public_files.save(tmp_path / "plain.pth", zeros(listed)), cell=CHASE)
    assert "damaged" in error(net=zeros(listed), chase_fast="{}")
    assert error(net={f"module.{k}": v for k, v in missing.items()}).count("module.") == 0


def test_the_state_of_a_run_is_no_checkpoint(trained, tmp_path):
    """Also with an average of the weights beside them, as --ema keeps it."""
    net, spec = trained
    state = {"net": to_pytracking_state(net, spec), "average": to_pytracking_state(net, spec)}
    torch.save(state | {"history": [], "optimizer": {}}, path := tmp_path / "last.ckpt")
    assert "is the state that a run goes on from; give its best.safetensors" in message(path)


def test_networks_without_public_names(tmp_path):
    spec = TrackerSpec(**SMALL, cell=CHASE, flavour="darts")
    with pytest.raises(ChaseError, match="flavour darts"):
        pack_pytracking(spec.build("random"), spec, {})


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["{best}", "out.onnx"], r"\.safetensors, \.pth, \.pth\.tar"),
        (["{best}", "{best}"], "exists"),
        (["{best}", "no/folder/out.pth"], "no folder"),
        (["absent.pth", "out.safetensors"], "no such file"),
        (["{best}", "out.pth", "--cell", "chase"], "leave out --cell"),
        (["{best}", "out.pth", "--cell", "absent.json"], "no such file"),
    ],
)
def test_wrong_commands_say_so_in_one_line(trained, arguments, text, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("best.safetensors").write_bytes(pack_tracker(*trained, {}))
    assert convert([a.format(best="best.safetensors") for a in arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert re.search(text, error), error
    assert [p.name for p in tmp_path.iterdir()] == ["best.safetensors"]
