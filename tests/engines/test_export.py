"""Other engines compute what torch computes, and exported folders are checked before they are used."""

import importlib.util
import json
import shutil
import sys

import cv2
import numpy as np
import pytest
import torch

import chase_fast
from chase_fast.checkpoint import load_tracker, pack_tracker
from chase_fast.data.boxes import iou
from chase_fast.engines.engine import make_engine
from chase_fast.engines.folder import digest
from chase_fast.engines.frames import Frames
from chase_fast.engines.outputs import FIRST, LATER, OUTPUTS
from chase_fast.errors import ChaseError
from chase_fast.evaluate.trackers import Checkpoint
from chase_fast.export.__main__ import main as command
from chase_fast.nn.genotype import CHASE
from chase_fast.nn.spec import TrackerSpec
from chase_fast.track import fastest
from chase_fast.track.network import Network
from chase_fast.track.settings import settings_for
from tests.tiny import tiny_tracker
from tests.tolerances import ENGINE

pytest.importorskip("openvino")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
SPECS = {
    "cell": TrackerSpec("prdimp", "resnet18", CHASE, channels=16, feature_size=4),
    "prdimp": TrackerSpec("prdimp", "resnet18", None, feature_size=4),
    "dimp": TrackerSpec("dimp", "resnet50", None, feature_size=4),
}
ENGINES = ("openvino", "onnxruntime")
FRAME = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)


def calibrated(spec: TrackerSpec):
    """A random network in eval mode whose maps are of order 1."""
    net = spec.build().train()
    with torch.no_grad():
        maps = net.feature_extractor(torch.randn(8, 3, 64, 64))
        net.neck(*maps)
        net.bb_regressor.features(*maps)
    return net.eval()


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    file = tiny_tracker(folder / "tiny.safetensors")
    for name, *flags in (("ov",), ("onnx", "--format", "onnx")):
        assert command([str(file), "--out", str(folder / name), "--quiet", *flags]) == 0
    return folder


def test_engines_compute_what_our_kernels_compute():
    """A plain DiMP-50 here; the export of `exported` compares a cell."""
    net = calibrated(SPECS["dimp"])
    network = Network(net, "cpu")
    engines = [make_engine(engine, net, 64) for engine in ENGINES]
    for count in (1, 3, 1):
        patches = torch.randint(0, 256, (count, 64, 64, 3)).float()
        with torch.no_grad():
            features, both = network.layers.first(patches)
            _, maps = network.layers.frame(patches)
            reference = network.reference_maps(both)
        tensors = [features, *(m.permute(0, 2, 3, 1) for m in (*maps, *reference))]
        expected = dict(zip(OUTPUTS, (t.numpy() for t in tensors), strict=True))
        for engine in engines:
            for names in (OUTPUTS, FIRST, LATER):
                for name, found in zip(names, engine.run(patches.numpy(), names), strict=True):
                    assert found.shape == expected[name].shape
                    difference = np.linalg.norm(found - expected[name])
                    assert difference <= ENGINE * np.linalg.norm(expected[name]), (engine.about, name)


def test_the_module_that_is_exported_is_the_network():
    net = calibrated(SPECS["prdimp"]).double()
    patches = torch.randint(0, 256, (2, 64, 64, 3)).double()
    with torch.no_grad():
        images = (patches.permute(0, 3, 1, 2) / 255 - MEAN) / STD
        layer2, layer3 = net.feature_extractor(images)
        expected = net.classifier.normalize(net.neck(layer2, layer3))
        found = Frames(net, 64).double()(patches)
    assert torch.dist(found[0], expected) < 1e-6 * expected.norm()  # its constants are of float32
    reference = net.bb_regressor.conv4_1r(layer3)
    assert torch.dist(found[4].permute(0, 3, 1, 2), reference) < 1e-6 * reference.norm()


MEAN = torch.tensor([0.485, 0.456, 0.406], dtype=torch.float64).view(3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225], dtype=torch.float64).view(3, 1, 1)


def boxes(tracker) -> np.ndarray:
    tracker.init(FRAME, (40, 30, 30, 24))
    shifted = [np.roll(FRAME, k, 1) for k in (2, 4)]
    return np.array([tracker.update(frame).box for frame in shifted])


def test_a_folder_tracks_as_its_checkpoint_does(exported, monkeypatch):
    expected = boxes(chase_fast.Tracker.load(exported / "tiny.safetensors"))
    for folder in ("ov", "onnx"):
        for path in (exported / folder, exported / folder / "tracker.safetensors"):
            tracker = chase_fast.Tracker.load(path)
            assert tracker.engine.startswith("OpenVINO") and tracker.engine in tracker.about
            np.testing.assert_allclose(boxes(tracker), expected, atol=1e-2)
    tracker = chase_fast.Tracker.load(exported / "onnx", engine="onnxruntime")
    assert tracker.engine.startswith("ONNX Runtime")
    np.testing.assert_allclose(boxes(tracker), expected, atol=1e-2)
    tracker = chase_fast.Tracker.load(exported / "ov", engine="torch")
    assert tracker.engine == ""
    np.testing.assert_array_equal(boxes(tracker), expected)
    many = chase_fast.MultiTracker.load(exported / "ov")
    many.init(FRAME, [(40, 30, 30, 24), (60, 50, 20, 20)])
    assert len(many.update(FRAME)) == 2


def test_an_evaluation_names_the_engine_and_the_model_that_track(exported, tmp_path, monkeypatch):
    """Results of other identities are never mixed: fp16 weights are another tracker than fp32 ones."""
    half = tmp_path / "half"
    assert (
        command([str(exported / "tiny.safetensors"), "--out", str(half), "--precision", "fp16", "--quiet"])
        == 0
    )
    paths = {name: str(folder / "tracker.safetensors") for name, folder in
             {"fp32": exported / "ov", "fp16": half, "onnx": exported / "onnx"}.items()}  # fmt: skip
    found = {name: Checkpoint(path, "fast").identity() for name, path in paths.items()}
    plain = Checkpoint(str(exported / "tiny.safetensors"), "fast").identity()
    assert "engine" not in plain and Checkpoint(paths["fp32"], "fast", engine="torch").identity() == plain
    assert {about["engine"] for about in found.values()} == {"openvino"}
    assert len({about["model"] for about in found.values()}) == 3
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "openvino" else find(name))
    assert Checkpoint(paths["onnx"], "fast").identity()["engine"] == "onnxruntime"
    assert chase_fast.Tracker.load(paths["onnx"]).engine.startswith("ONNX Runtime")


def test_an_engine_that_computes_something_else_is_left_aside(exported, monkeypatch, caplog):
    loaded = load_tracker(exported / "tiny.safetensors")
    other = calibrated(SPECS["cell"])
    monkeypatch.setattr(fastest, "installed", lambda: ["openvino"])
    monkeypatch.setattr(fastest, "make_engine", lambda name, net, *how: make_engine(name, other, *how))
    tracker = chase_fast.Tracker(loaded.net, loaded.spec, engine="auto", device="cpu")
    assert tracker.engine == "" and "engine openvino computes other features" in caplog.text


def test_eight_bits(exported, tmp_path, capsys):
    """Features of a random network suffer, its boxes little; what was left in higher precision is said."""
    if not importlib.util.find_spec("nncf"):  # importing it here would print
        pytest.skip("without nncf")
    out = tmp_path / "int8"
    words = [str(exported / "tiny.safetensors"), "--out", str(out), "--precision", "int8"]
    assert command(words) == 0
    said = capsys.readouterr()
    assert (
        "calibrated on 96 search windows of synthetic:train, checked on others" in said.out
        and "8 bits, " in said.out
    )
    assert said.err == ""
    about = json.loads((out / "manifest.json").read_text())
    assert about["precision"] == "int8" and about["calibrated_on"] == "synthetic:train"
    assert about["higher_precision"] in ("", "neck")
    assert "8-bit convolutions, the rest fp32" in chase_fast.Tracker.load(out).about
    assert "8-bit" in Checkpoint(str(out / "tracker.safetensors"), "fast").about()
    small, whole = ((folder / "frames.bin").stat().st_size for folder in (out, exported / "ov"))
    assert small < whole / 3
    found, expected = (boxes(chase_fast.Tracker.load(p)) for p in (out, exported / "tiny.safetensors"))
    overlaps = [iou(a, b) for a, b in zip(found, expected, strict=True)]
    assert min(overlaps) > 0.5, overlaps


def test_a_calibration_that_is_too_small_is_refused(exported, tmp_path, capsys):
    data = tmp_path / "data" / "a"
    data.mkdir(parents=True)
    for k in range(3):
        cv2.imwrite(str(data / f"{k:04d}.jpg"), FRAME)
    (data / "groundtruth.txt").write_text("40,30,30,24\n" * 3)
    words = [str(exported / "tiny.safetensors"), "--out", str(tmp_path / "x"), "--precision", "int8"]
    assert command([*words, "--calibrate", f"folder:{data.parent}"]) == 2
    assert "3 frames with a target are too few, it takes 32" in capsys.readouterr().err
    for precision in ("int8", "fp32"):  # whose outputs are checked on it
        assert command([*words[:-1], precision, "--calibrate", "nowhere:x"]) == 2
        assert "nowhere" in capsys.readouterr().err


def test_auto_is_one_of_them(exported):
    tracker = chase_fast.Tracker.load(exported / "tiny.safetensors", engine="auto")
    assert tracker.engine.partition(" ")[0] in ("", "OpenVINO", "ONNX")
    expected = boxes(chase_fast.Tracker.load(exported / "tiny.safetensors"))
    np.testing.assert_allclose(boxes(tracker), expected, atol=1e-2)


def test_the_manifest_says_what_was_exported(exported):
    about = json.loads((exported / "ov" / "manifest.json").read_text())
    assert about["origin"]["file"] == "tiny.safetensors"
    assert set(about["files"]) == {"frames.xml", "frames.bin", "constants.safetensors", "tracker.safetensors"}
    assert max(about["check"]["outputs"].values()) < ENGINE and about["check"]["median_iou"] > 0.999
    spec = load_tracker(exported / "tiny.safetensors").spec
    assert about["size"] == settings_for(spec, own=True).image_size


def damaged(folder, name, change):
    data = bytearray((folder / name).read_bytes())
    change(data)
    (folder / name).write_bytes(bytes(data))


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda f: damaged(f, "frames.bin", lambda d: d.__setitem__(0, d[0] ^ 1)), "its checksum differs"),
        (lambda f: (f / "frames.xml").unlink(), "frames.xml is missing"),
        (lambda f: (f / "manifest.json").write_text("{"), "no complete JSON"),
        (lambda f: edit(f, manifest=1), "is no manifest of this version"),
        (lambda f: edit(f, files={}), "does not name constants.safetensors"),
        (lambda f: edit(f, constants={}), "channels is missing; export again"),
        (lambda f: edit(f, constants={"channels": ["x"]}), "channels"),
        (lambda f: edit(f, tracker={}), "a tracker is described by"),
        (lambda f: edit(f, files={"../x": "0"}), "is no name of a file in this folder"),
        (lambda f: edit(f, files={"frames.xml": 3}), "is no name of a file in this folder"),
        (lambda f: edit(f, files=[]), "expected an object"),
        (lambda f: edit(f, format="tensorrt"), "format is 'tensorrt', expected one of"),
        (lambda f: edit(f, size="64"), "size is '64', expected an integer"),
        (lambda f: edit(f, size=80), "is for patches of 80 px"),
    ],
)
def test_a_changed_folder_is_refused_in_one_line(exported, tmp_path, change, message):
    folder = shutil.copytree(exported / "ov", tmp_path / "copy")
    change(folder)
    with pytest.raises(ChaseError, match=message) as caught:
        chase_fast.Tracker.load(folder)
    assert "\n" not in str(caught.value)


def edit(folder, **values):
    about = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(about | values))


def test_damaged_constants_are_refused_whatever_their_checksum(exported, tmp_path):
    folder = shutil.copytree(exported / "ov", tmp_path / "copy")
    for data in (b"", b"junk", (9).to_bytes(8, "little") + b'{"a": {}}'):
        (folder / "constants.safetensors").write_bytes(data)
        files = json.loads((folder / "manifest.json").read_text())["files"]
        edit(folder, files=files | {"constants.safetensors": digest(data)})
        with pytest.raises(ChaseError, match=r"constants\.safetensors cannot be read .*; export again"):
            chase_fast.Tracker.load(folder)


def test_a_model_that_is_not_ours_is_refused(exported, tmp_path):
    import onnx

    folder = shutil.copytree(exported / "onnx", tmp_path / "copy")
    one = onnx.helper.make_tensor_value_info("patches", 1, [1])
    other = onnx.helper.make_tensor_value_info("y", 1, [1])
    node = onnx.helper.make_node("Relu", ["patches"], ["y"])
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", [one], [other]))
    onnx.save(model, folder / "frames.onnx")
    files = json.loads((folder / "manifest.json").read_text())["files"]
    edit(folder, files=files | {"frames.onnx": digest((folder / "frames.onnx").read_bytes())})
    for engine in ENGINES:
        with pytest.raises(ChaseError, match="its outputs are not features, low, high"):
            chase_fast.Tracker.load(folder, engine=engine)


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--out", "{}/ov"], "exists and is not empty"),
        (["--out", "{}/new", "--format", "onnx", "--precision", "fp16"], "--format onnx stores fp32"),
        (["--out", "{}/new", "--format", "onnx", "--precision", "int8"], "--format onnx stores fp32"),
        (["--out", "{}/new", "--preset", "fats"], "fats"),
    ],
)
def test_wrong_commands_write_nothing(exported, flags, message, capsys):
    flags = [flag.format(exported) for flag in flags]
    try:
        code = command([str(exported / "tiny.safetensors"), *flags])
    except SystemExit as e:
        code = e.code
    assert code == 2 and message in capsys.readouterr().err
    assert not (exported / "new").exists()


def test_a_model_beyond_its_limits_is_not_written(exported, tmp_path, monkeypatch, capsys):
    from chase_fast.export import export

    wrong = pack_tracker(calibrated(SPECS["cell"]), SPECS["cell"], {})
    (tmp_path / "other.safetensors").write_bytes(wrong)
    other = load_tracker(tmp_path / "other.safetensors")
    true = export._write
    monkeypatch.setattr(export, "_write", lambda loaded, *rest: true(other, *rest))
    assert command([str(exported / "tiny.safetensors"), "--out", str(tmp_path / "new")]) == 2
    assert "does not compute what torch computes" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("package, extra", [("openvino", "openvino"), ("onnxruntime", "onnxruntime")])
def test_a_missing_package_is_named(exported, monkeypatch, package, extra):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ChaseError, match=rf'pip install "chase-fast\[{extra}\]"'):
        chase_fast.Tracker.load(exported / "onnx", engine=package)


def test_ours_is_not_run_where_there_is_no_such_precision(exported):
    with pytest.raises(ChaseError, match="ONNX Runtime has fp32 on a CPU"):
        chase_fast.Tracker.load(exported / "onnx", engine="onnxruntime", precision="bf16")
    with pytest.raises(ChaseError, match=r"--engine onnxruntime: .* is for openvino, or torch"):
        chase_fast.Tracker.load(exported / "ov", engine="onnxruntime")
    with pytest.raises(ChaseError, match="--engine tensorrt is unknown"):
        chase_fast.Tracker.load(exported / "tiny.safetensors", engine="tensorrt")
