"""The adapters, driven by the packages they are for: OpenCV, the got10k toolkit, a TraX client."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from chase_fast.checkpoint import pack_tracker
from chase_fast.errors import ChaseError
from chase_fast.nn.genotype import CHASE
from chase_fast.nn.spec import TrackerSpec
from chase_fast.track import MultiTracker, Tracker
from chase_fast.track.adapters import trax as server
from chase_fast.track.adapters.got10k import GOT10kTracker
from chase_fast.track.adapters.opencv import TrackerChase
from tests import moving

FRAMES, BOXES = moving.video(4)
BOX = (120, 90, 40, 50)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """A random network that looks at 64 x 64 pixels."""
    spec = TrackerSpec("prdimp", "resnet18", CHASE, channels=16, feature_size=4)
    path = tmp_path_factory.mktemp("checkpoint") / "best.safetensors"
    path.write_bytes(pack_tracker(spec.build(), spec, {}))
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> list[str]:
    """The frames as PNG files in the layout of GOT-10k, ROOT/val/moving."""
    folder = tmp_path_factory.mktemp("got10k") / "val" / "moving"
    folder.mkdir(parents=True)
    paths = [str(folder / f"{i:08d}.png") for i in range(1, len(FRAMES) + 1)]
    for path, frame in zip(paths, FRAMES):
        cv2.imwrite(path, frame[..., ::-1])
    return paths


@pytest.fixture(scope="module")
def expected(checkpoint) -> list:
    """Results of the tracker itself for the frames after the first."""
    tracker = Tracker.load(checkpoint, device="cpu")
    tracker.init(FRAMES[0], BOX)
    return [tracker.update(frame) for frame in FRAMES[1:]]


def opencv_user(tracker, files: list[str]) -> list[tuple]:
    """What a program written for OpenCV does with a tracker."""
    assert tracker.init(cv2.imread(files[0]), BOX) is None
    return [tracker.update(cv2.imread(path)) for path in files[1:]]


def kinds(results: list[tuple]) -> set:
    return {(type(ok), type(box), *map(type, box)) for ok, box in results}


def test_opencv_programs_need_no_change(checkpoint, files, expected):
    theirs = opencv_user(cv2.TrackerMIL_create(), files)
    tracker = TrackerChase.create(checkpoint, device="cpu")
    assert tracker.box is None and tracker.state is None
    ours = opencv_user(tracker, files)
    assert kinds(ours) == kinds(theirs)
    for (ok, box), result in zip(ours, expected):
        assert ok == (result.state != "lost")
        assert np.abs(np.subtract(box, result.box)).max() <= 0.5
    assert tracker.box == expected[-1].box and tracker.state == expected[-1].state
    assert tracker.getTrackingScore() == expected[-1].score
    tracker.init(cv2.imread(files[1], cv2.IMREAD_GRAYSCALE), (127.5, 94, 40, 50))  # again, grey, floats
    assert tracker.box == (127.5, 94, 40, 50) and tracker.getTrackingScore() == 0
    with pytest.raises(ChaseError, match="outside the frame"):
        tracker.init(cv2.imread(files[0]), (900, 0, 10, 10))


def test_the_got10k_toolkit_runs_it(checkpoint, files, expected, tmp_path):
    pytest.importorskip("got10k", reason="the got10k toolkit is not installed")
    from got10k.experiments import ExperimentGOT10k

    sequence = Path(files[0]).parent
    for path in files:  # the toolkit looks for .jpg; a PNG of that name is read all the same
        Path(path).with_suffix(".jpg").write_bytes(Path(path).read_bytes())
    np.savetxt(sequence / "groundtruth.txt", BOXES, "%.3f", ",")
    (sequence.parent / "list.txt").write_text("moving\n")
    tracker = GOT10kTracker(checkpoint, device="cpu")
    results = tmp_path / "results"
    experiment = ExperimentGOT10k(str(sequence.parents[1]), "val", str(results), str(tmp_path / "reports"))
    experiment.run(tracker)
    folder = results / "GOT-10k" / "chase_fast" / "moving"
    assert sorted(p.name for p in folder.iterdir()) == ["moving_001.txt", "moving_time.txt"]
    found = np.loadtxt(folder / "moving_001.txt", delimiter=",")
    np.testing.assert_allclose(found, [BOX, *(r.box for r in expected)], atol=5.1e-4)
    assert np.loadtxt(folder / "moving_time.txt").min() > 0


def test_the_got10k_adapter_takes_pictures_of_any_mode_without_the_toolkit(checkpoint, files, expected):
    from PIL import Image

    tracker = GOT10kTracker(checkpoint, "mine", device="cpu")
    boxes, seconds = tracker.track(files, np.array(BOX))
    assert tracker.name == "mine" and tracker.is_deterministic
    np.testing.assert_array_equal(boxes, [BOX, *(r.box for r in expected)])
    assert seconds.shape == (4,) and seconds.min() > 0
    with Image.open(files[0]) as picture:
        tracker.init(picture.convert("L"), BOX)
        assert tracker.update(picture.convert("RGBA")).shape == (4,)


@pytest.fixture
def client(checkpoint):
    """A TraX client with our server as its tracker process."""
    pytest.importorskip("trax", reason="vot-trax is not installed")
    from trax.client import Client

    command = [sys.executable, "-m", "chase_fast.track.adapters.trax"]
    process = subprocess.Popen(
        [*command, "--checkpoint", str(checkpoint), "--device", "cpu"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        # vot-trax 4.0.2 cannot do without a log
        yield Client((process.stdin.fileno(), process.stdout.fileno()), log=lambda text: None), process
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            pipe.close()


def test_a_trax_client_tracks_objects_that_come_and_join(client, checkpoint, files):
    import trax

    client, process = client
    assert client.tracker_name == "chase_fast" and client.get("multiobject")
    assert client.region_formats == ["rectangle"] and client.image_formats == ["path"]
    images = [{"color": trax.FileImage.create(path)} for path in files]
    second = (30, 40, 35.5, 30)
    replies = [client.initialize(images[0], [(trax.Rectangle.create(*BOX), {})], {})[0]]
    replies.append(client.frame(images[1], {}, [(trax.Rectangle.create(*second), {})])[0])
    replies += [client.frame(image, {}, [])[0] for image in images[2:]]

    tracker = MultiTracker.load(checkpoint, device="cpu")
    tracker.init(FRAMES[0], [BOX])
    expected = [[(BOX, 1.0)], [(r.box, r.score) for r in tracker.update(FRAMES[1])] + [(second, 1.0)]]
    tracker.add(FRAMES[1], second)
    expected += [[(r.box, r.score) for r in tracker.update(frame)] for frame in FRAMES[2:]]
    assert [len(reply) for reply in replies] == [1, 2, 2, 2]
    for reply, wanted in zip(replies, expected):
        for (region, properties), (box, score) in zip(reply, wanted):
            np.testing.assert_allclose(region.bounds(), box, atol=1e-3)  # sent with four decimals
            assert float(properties["confidence"]) == pytest.approx(score, abs=1e-5)

    # a polygon arrives as the rectangle around it
    corners = [(120.0, 90.0), (160.0, 90.0), (160.0, 140.0), (120.0, 140.0)]
    (again,), _ = client.initialize(images[0], [(trax.Polygon.create(corners), {})], {})
    np.testing.assert_allclose(again[0].bounds(), BOX, atol=1.01)
    missing = {"color": trax.FileImage.create(files[0] + ".gone")}
    with pytest.raises(trax.TraxException, match="cannot be read"):
        client.frame(missing, {}, [])
    process.stdin.close()
    assert process.wait(20) == 2
    *_, message = process.stderr.read().decode().splitlines()
    assert message.startswith("error: frame") and message.endswith(
        ".gone cannot be read: No such file or directory"
    )


def test_the_trax_server_says_what_is_missing(checkpoint, tmp_path, monkeypatch, capsys):
    if importlib.util.find_spec("trax"):
        assert server.main(["--checkpoint", str(tmp_path / "none.safetensors")]) == 2
        assert "none.safetensors: no such file" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "trax", None)
    assert server.main(["--checkpoint", str(checkpoint)]) == 2
    assert "pip install vot-trax" in capsys.readouterr().err
