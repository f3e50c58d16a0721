"""Our own checkpoint files, cells by name, and what is said about files that are neither."""

import json

import pytest
import torch
from safetensors.torch import save_file

from chase_fast.cells import load_cell
from chase_fast.checkpoint import load_tracker, pack_tracker
from chase_fast.errors import ChaseError
from chase_fast.nn.backbone import build_backbone
from chase_fast.nn.genotype import CHASE, CHASE_WO
from chase_fast.nn.spec import TrackerSpec

SPEC = TrackerSpec("dimp", "resnet18", CHASE_WO, "darts", channels=4, feature_size=8, filter_iterations=2)
ABOUT = {"seed": 3, "config": {"lr": 1e-3}, "epoch": 2}


@pytest.fixture(scope="module")
def net():
    return SPEC.build("random", seed=3)


@pytest.fixture(scope="module")
def packed(net):
    return pack_tracker(net, SPEC, ABOUT)


def message(path, content: bytes | None) -> str:
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ChaseError) as caught:
        load_tracker(path)
    text = str(caught.value)
    assert path.name in text and "\n" not in text
    return text


def test_a_checkpoint_says_what_it_is(net, packed, tmp_path):
    path = tmp_path / "best.safetensors"
    path.write_bytes(packed)
    loaded = load_tracker(path)
    assert loaded.spec == SPEC and loaded.about == ABOUT and not loaded.net.training
    state = loaded.net.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())
    assert pack_tracker(net, SPEC, ABOUT) == packed


def test_files_that_are_no_tracker(packed, tmp_path):
    assert "no such file" in message(tmp_path / "absent.safetensors", None)
    assert "is a folder" in message(tmp_path, None)
    for size in (0, 6, 100, len(packed) - 1):
        assert "damaged or incomplete" in message(tmp_path / "cut.safetensors", packed[:size])
    path = tmp_path / "other.safetensors"
    save_file({"alpha": torch.zeros(14, 8)}, path, {"search": json.dumps({"recipe": "demo"})})
    assert "network of a search" in message(path, None)
    save_file(build_backbone("resnet18", "random").state_dict(), path)
    assert "backbone alone" in message(path, None)
    save_file({"a": torch.zeros(1)}, path)
    assert "does not describe a tracker" in message(path, None)
    save_file({"a": torch.zeros(1)}, path, {"tracker": json.dumps({"format": 9})})
    assert "format 9" in message(path, None)


def test_weights_of_another_architecture(net, tmp_path):
    path = tmp_path / "best.safetensors"
    other = TrackerSpec("dimp", "resnet18", CHASE, "darts", channels=4, feature_size=8)
    text = message(path, pack_tracker(net, other, {}))
    assert "another architecture: keys" in text and "unexpected (e.g. neck.cell.nodes.0.0.blocks" in text
    other = TrackerSpec("dimp", "resnet18", CHASE_WO, "darts", channels=8, feature_size=8)
    assert "of another shape (e.g. neck.preprocess.0.even.weight)" in message(
        path, pack_tracker(net, other, {})
    )


# cells


def cell_error(tmp_path, content) -> str:
    path = tmp_path / "cell.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(ChaseError) as caught:
        load_cell(str(path))
    text = str(caught.value)
    assert text.startswith(f"--cell {path}: ") and "\n" not in text
    return text


def test_cells_by_name_and_file(tmp_path):
    assert load_cell("CHASE_WO") == (CHASE_WO, {})
    path = tmp_path / "cell.json"
    path.write_text(CHASE.to_json())
    assert load_cell(str(path)) == (CHASE, {})
    about = {"flavour": "darts", "channels": 16, "seed": 1}
    path.write_text(json.dumps({"genotype": CHASE.to_json()} | about))
    assert load_cell(str(path)) == (CHASE, about)


def test_a_cell_that_cannot_be_built(tmp_path):
    def nodes(*genes):
        return {"nodes": [[["skip_connect", 0]], list(genes)]}

    cycle = cell_error(tmp_path, nodes(["skip_connect", 4]))
    assert "node 1: source 4 of skip_connect must be an integer in 0..2" in cycle
    assert "source 3" in cell_error(tmp_path, {"genotype": nodes(["skip_connect", 3])})
    assert "source -1" in cell_error(tmp_path, nodes(["skip_connect", -1]))
    assert "source 'x'" in cell_error(tmp_path, nodes(["skip_connect", "x"]))
    assert "unknown operation 'conv_9x9'" in cell_error(tmp_path, nodes(["conv_9x9", 0]))
    assert "unknown operation 3" in cell_error(tmp_path, nodes([3, 0]))
    assert "no nodes" in cell_error(tmp_path, {"nodes": []})
    assert "nothing else" in cell_error(tmp_path, {"cells": 1})
    assert "nothing else" in cell_error(tmp_path, [1, 2])
    assert "not valid JSON" in cell_error(tmp_path, {"genotype": "{"})
    assert "cannot be read as JSON" in cell_error(tmp_path, "{")
    assert "flavour" in cell_error(tmp_path, {"genotype": CHASE.to_data(), "flavour": "x"})
    assert "channels are 0" in cell_error(tmp_path, {"genotype": CHASE.to_data(), "channels": 0})
    with pytest.raises(ChaseError, match="cannot be read"):
        load_cell(str(tmp_path))
    with pytest.raises(ChaseError, match="chase, chase_fd, chase_wo, plain"):
        load_cell("absent.json", ("plain",))
