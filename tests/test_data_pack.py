"""data.pack and packed:DIR: agreement with unpacked samples, kill and resume, damage, limits, training."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from chase_fast.data import SampleRecipe, SampleSet, loader, open_sources
from chase_fast.data.boxes import jitter_box
from chase_fast.data.doctor import check
from chase_fast.data.pack import shard
from chase_fast.data.pack.__main__ import PROG, main
from chase_fast.data.packed import PackedFrame
from chase_fast.data.reach import Limits, levels, reach
from chase_fast.data.sequences import Problem
from chase_fast.doctor import __main__ as doctor_command
from chase_fast.errors import ChaseError
from chase_fast.kernels.crop import crop, crop_window
from chase_fast.train import __main__ as train_command
from tests import trees
from tests.tolerances import PACKED

SMALL = SampleRecipe(train_frames=2, test_frames=2, max_gap=10, size=64, proposals="prdimp", proposal_count=4)
STD = np.array((0.229, 0.224, 0.225))


def pack(source, out, *flags, code=0):
    assert main([str(source), "--out", str(out), "--workers", "1", "--quiet", *map(str, flags)]) == code


def samples_of(spec, recipe=SMALL, **changes):
    return SampleSet(open_sources(str(spec)), replace(recipe, **changes), seed=3, size=40)


def bytes_of(folder):
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if p.suffix in (".bin", ".npz")}


def enlarged(path, factor=4):
    """The frames and boxes of a tree of `trees.got10k`, larger: targets that crops reduce. Its spec."""
    spec = trees.got10k(path)
    for file in path.rglob("*.jpg"):
        image = cv2.imread(str(file))
        cv2.imwrite(str(file), cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC))
    for file in path.rglob("groundtruth.txt"):
        np.savetxt(file, np.loadtxt(file, delimiter=",") * factor, fmt="%g", delimiter=",")
    return spec


@pytest.fixture(scope="module")
def jpeg(tmp_path_factory):
    return enlarged(tmp_path_factory.mktemp("frames"))


@pytest.fixture(scope="module")
def packed(jpeg, tmp_path_factory):
    out = tmp_path_factory.mktemp("packed") / "raw"
    pack(jpeg, out, "--size", 64, "--shard-frames", 20)
    return out


def assert_agree(a, b, tolerance, count=20):
    """Everything but the images is equal; returns the mean differences of the frames in grey levels."""
    differences = []
    for index in range(count):
        x, y = a.sample(1, index), b.sample(1, index)
        for name in ("boxes", "label", "label_density", "proposals", "proposal_density", "gt_density"):
            assert np.array_equal(getattr(x, name), getattr(y, name)), name
        differences.append(255 * np.abs(x.images - y.images) * STD)
    differences = np.concatenate(differences)  # [frames, size, size, 3]
    means = differences.mean((1, 2, 3))
    assert means.mean() <= tolerance["mean"], means.mean()
    assert means.max() <= tolerance["frame"], means.max()
    assert np.quantile(differences, 0.999) <= tolerance["q999"], np.quantile(differences, 0.999)
    return means


def test_jpeg_frames_packed_raw_agree(jpeg, packed):
    means = assert_agree(samples_of(jpeg), samples_of(f"packed:{packed}"), PACKED["raw"])
    assert means.mean() > 0 and (means > 0).mean() > 0.5, "these crops are made of the reduced level"


def test_jpeg_frames_packed_as_jpeg_agree(jpeg, packed, tmp_path):
    pack(jpeg, tmp_path, "--size", 64, "--format", "jpeg")
    assert_agree(samples_of(jpeg), samples_of(f"packed:{tmp_path}"), PACKED["jpeg"])
    size = sum(p.stat().st_size for p in tmp_path.glob("*.bin"))
    assert size < sum(p.stat().st_size for p in packed.glob("*.bin")) / 5


@pytest.mark.parametrize("mode", ["replicate", "inside", "inside_major"])
def test_full_resolution_is_exact(mode, tmp_path):
    """Small targets are enlarged: the level is the frame's own pixels, up to the frame's borders."""
    spec = trees.got10k(tmp_path / "a")
    pack(spec, tmp_path / "b", "--size", 288)
    recipe = replace(SMALL, size=288, crop_mode=mode)
    means = assert_agree(
        samples_of(spec, recipe), samples_of(f"packed:{tmp_path}/b", recipe), PACKED["exact"], 8
    )
    assert not means.any()


def test_synthetic_video_agrees(tmp_path):
    pack("synthetic:train", tmp_path, "--sequences", 3, "--size", 128)
    (source,) = open_sources("synthetic:train")
    table = open_sources(f"packed:{tmp_path}")[0].sequences
    thirds = [source.sequences[k] for k in (0, 3333, 6666)]
    assert [s.name for s in table] == [s.name for s in thirds]
    plain = samples_of("synthetic:train", size=128)
    plain.sources = [replace(source, sequences=thirds)]
    assert_agree(plain, samples_of(f"packed:{tmp_path}", size=128), PACKED["synthetic"], 8)


def test_still_images_agree(tmp_path):
    spec = trees.coco(tmp_path / "coco")
    pack(spec, tmp_path / "packed", "--size", 64)
    (source,) = open_sources(f"packed:{tmp_path}/packed")
    assert not source.video and len(source.sequences) == 24
    assert_agree(samples_of(spec), samples_of(f"packed:{tmp_path}/packed"), PACKED["raw"], 5)


def test_sequences_keep_what_they_are(jpeg, packed):
    (plain,), (source,) = open_sources(jpeg), open_sources(f"packed:{packed}*0.5")
    assert source.weight == 0.5 and source.kind == "packed" and len(source.sequences) == 3
    for a, b in zip(plain.sequences, source.sequences):
        assert a.name == b.name and a.folder == b.folder
        assert np.array_equal(a.boxes, b.boxes, equal_nan=True) and np.array_equal(a.visible, b.visible)
    assert source.keys() == plain.keys(), "sets that share a sequence are noticed"
    assert "3 sequences" in source.summary() and "raw" in source.summary()
    hidden = int(np.flatnonzero(~plain.sequences[0].visible)[0]) if not a.visible.all() else None
    if hidden is not None:
        with pytest.raises(ChaseError, match="is not packed"):
            source.sequences[0].picture(hidden)


def test_list_file(packed, tmp_path):
    names = tmp_path / "some.txt"
    names.write_text("GOT-10k_Train_000003\nGOT-10k_Train_000001\n")
    (source,) = open_sources(f"packed:{packed}:{names}")
    assert [s.name[-1] for s in source.sequences] == ["3", "1"] and len(source.keys()) == 2
    samples_of(f"packed:{packed}:{names}").sample(0, 0)
    names.write_text("other\n")
    with pytest.raises(ChaseError, match="names 'other'"):
        open_sources(f"packed:{packed}:{names}")
    with pytest.raises(ChaseError, match="list file of sequence names"):
        open_sources(f"packed:{packed}:train")


def test_every_thins_and_keeps_enough(jpeg, tmp_path):
    pack("synthetic:train", tmp_path, "--sequences", 4, "--size", 64, "--every", 3)
    for s in open_sources(f"packed:{tmp_path}")[0].sequences:
        plain = open_sources("synthetic:train")[0].sequences[int(s.name[-5:])]
        step = min(3, plain.visible.sum() // 24)
        assert np.array_equal(np.flatnonzero(s.visible), np.flatnonzero(plain.visible)[::step])
    samples_of(f"packed:{tmp_path}").sample(0, 0)


def test_processes_write_the_same_bytes(jpeg, packed, tmp_path):
    assert main([jpeg, "--out", str(tmp_path), "--size", "64", "--shard-frames", "20", "--workers", "2"]) == 0
    assert bytes_of(tmp_path) == bytes_of(packed)


def test_worker_processes_read_the_same_batches(packed):
    samples = samples_of(f"packed:{packed}")
    samples.size = 6
    here, there = list(loader(samples, 2, epoch=1)), list(loader(samples, 2, epoch=1, workers=1))
    assert len(here) == 3
    for a, b in zip(here, there):
        assert a.train_images.equal(b.train_images) and a.test_boxes.equal(b.test_boxes)


def test_killed_and_continued(jpeg, packed, tmp_path, capsys):
    """Killed while shards are written: incomplete; the same command finishes it and keeps what was done."""
    flags = ["--size", "64", "--shard-frames", "20", "--workers", "1"]
    slow = (
        "import sys, time; from chase_fast.data.pack import __main__, shard; real = shard.pack_frame;"
        "shard.pack_frame = lambda *a: (time.sleep(0.05), real(*a))[1]; __main__.main(sys.argv[1:])"
    )
    process = subprocess.Popen([sys.executable, "-c", slow, jpeg, "--out", str(tmp_path), *flags])
    deadline = time.monotonic() + 60
    while not (tmp_path / "shard-00000.npz").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    first = (tmp_path / "shard-00000.bin").stat()
    with pytest.raises(ChaseError, match=r"incomplete.*finish it with the same command: python -m") as e:
        open_sources(f"packed:{tmp_path}")
    assert "\n" not in str(e.value) and "--shard-frames 20" in str(e.value)
    assert main([jpeg, "--out", str(tmp_path), *flags]) == 0
    assert "1 of them done" in capsys.readouterr().out
    assert bytes_of(tmp_path) == bytes_of(packed) and not list(tmp_path.glob(".tmp-*"))
    assert (tmp_path / "shard-00000.bin").stat().st_mtime_ns == first.st_mtime_ns
    assert main([jpeg, "--out", str(tmp_path), *flags]) == 0
    assert "is complete" in capsys.readouterr().out


@pytest.mark.parametrize("after", range(1, 9, 2))
def test_failing_at_any_write_leaves_nothing_half(jpeg, packed, tmp_path, monkeypatch, capsys, after):
    real, count = os.replace, iter(range(100))

    def full(a, b):
        if next(count) == after:
            raise OSError(28, "No space left on device")
        real(a, b)

    monkeypatch.setattr(os, "replace", full)
    flags = "--size", 64, "--shard-frames", 20
    pack(jpeg, tmp_path, *flags, code=2)
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "disk full" in error and not list(tmp_path.glob(".tmp-*"))
    with pytest.raises(ChaseError, match="incomplete"):
        open_sources(f"packed:{tmp_path}")
    monkeypatch.setattr(os, "replace", real)
    pack(jpeg, tmp_path, *flags)
    assert bytes_of(tmp_path) == bytes_of(packed)


def test_damage_is_found_and_mended(jpeg, packed, tmp_path, capsys):
    flags = "--size", 64, "--shard-frames", 20
    pack(jpeg, tmp_path, *flags)
    report = check(f"packed:{tmp_path}", progress=False)
    assert report.ok and report.sequences == 3 and "ok" in str(report)
    file = tmp_path / "shard-00001.bin"
    data = bytearray(file.read_bytes())
    data[1000] ^= 1
    file.write_bytes(data)
    assert doctor_command.main(["--data", f"packed:{tmp_path}"]) == 2
    assert "shard-00001.bin): its checksum" in capsys.readouterr().out
    file.write_bytes(data[:-3])
    with pytest.raises(ChaseError, match=r"shard-00001.bin has \d+ bytes, packed were \d+") as e:
        open_sources(f"packed:{tmp_path}")
    assert "\n" not in str(e.value)
    assert doctor_command.main(["--data", f"packed:{tmp_path}"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    pack(jpeg, tmp_path, *flags)
    assert bytes_of(tmp_path) == bytes_of(packed)
    (tmp_path / "index.npz").write_bytes(b"PK")
    with pytest.raises(ChaseError, match=r"index.npz is damaged"):
        open_sources(f"packed:{tmp_path}")


def test_shard_that_shrinks_while_training(jpeg, tmp_path):
    pack(jpeg, tmp_path, "--size", 64)
    samples = samples_of(f"packed:{tmp_path}")
    (tmp_path / "shard-00000.bin").write_bytes(b"short")
    with pytest.raises(ChaseError, match=r"shard-00000.bin\): the shard is shorter"):
        samples.sample(0, 0)
    (tmp_path / "shard-00000.bin").unlink()
    with pytest.raises(ChaseError, match="cannot be read: No such file"):
        samples.sample(0, 0)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"size": 96}, "size up to 64, this run asks for 96"),
        ({"search_factor": 6.0}, "search_factor up to 5, this run asks for 6"),
        ({"test_scale_jitter": 0.6}, "--scale-jitter 0.6"),
        ({"train_centre_jitter": 5.0}, "centre_jitter up to 4.5"),
        ({"jitter_limit": 4.0}, "--jitter-limit 4"),
    ],
)
def test_limits(packed, jpeg, change, text):
    samples_of(f"packed:{packed}", size=48, search_factor=4.0, test_scale_jitter=0.2).sample(0, 0)
    with pytest.raises(ChaseError, match=text) as e:
        samples_of(f"packed:{packed}", **change)
    message = str(e.value)
    assert "\n" not in message and f"{PROG} {jpeg} --out NEW_DIR" in message


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["got10k:/nowhere:train"], "there is no folder"),
        (["unknown:x"], "unknown dataset kind"),
        (["synthetic*0.5"], "weight"),
        (["packed:x"], "packed already"),
        (["synthetic", "--size", "0"], "--size 0"),
        (["synthetic", "--every", "0"], "--every 0"),
        (["synthetic", "--detail", "-1"], "--detail"),
        (["synthetic", "--quality", "101"], "--quality"),
    ],
)
def test_bad_input(arguments, text, tmp_path, capsys):
    assert main([*arguments, "--out", str(tmp_path / "x")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and text in error
    assert not (tmp_path / "x").exists()


def test_bad_folders(jpeg, packed, tmp_path, capsys, monkeypatch):
    def refused(out, *flags):
        pack(jpeg, out, *flags, code=2)
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        return error

    (tmp_path / "notes.txt").write_text("mine")
    assert "not empty" in refused(tmp_path)
    assert "is a file" in refused(tmp_path / "notes.txt")
    assert "packed with size 64, not 96" in refused(packed, "--size", 96)
    pack("synthetic:train", packed, "--size", 64, code=2)
    assert "is packed with source" in capsys.readouterr().err
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 10**5}))
    assert "needed" in (error := refused(tmp_path / "new")) and "100 kB free" in error
    with pytest.raises(ChaseError, match="there is no folder"):
        open_sources(f"packed:{tmp_path}/none")
    with pytest.raises(ChaseError, match=r"no pack.json in"):
        open_sources(f"packed:{tmp_path}")


def test_changed_source_is_noticed(tmp_path, capsys):
    spec = trees.got10k(tmp_path / "a")
    pack(spec, tmp_path / "b", "--size", 64)
    truth = next((tmp_path / "a").rglob("groundtruth.txt"))
    truth.write_text("1" + truth.read_text())
    pack(spec, tmp_path / "b", "--size", 64, code=2)
    assert "has changed since it was packed" in capsys.readouterr().err


def test_broken_frame(tmp_path, capsys):
    spec = trees.got10k(tmp_path / "a")
    next((tmp_path / "a").rglob("00000003.jpg")).write_bytes(b"\xff\xd8 no image \xff\xd9")
    pack(spec, tmp_path / "b", "--size", 64, code=2)
    assert "cannot be decoded" in capsys.readouterr().err
    assert main([spec, "--out", str(tmp_path / "c"), "--size", "64", "--skip-bad", "--workers", "1"]) == 0
    assert "1 broken frames left out" in capsys.readouterr().out
    names = sorted(s.visible.sum() for s in open_sources(f"packed:{tmp_path}/c")[0].sequences)
    plain = sorted(s.visible.sum() for s in open_sources(spec)[0].sequences)
    assert sum(names) == sum(plain) - 1


def test_reach_holds_every_window():
    """Random boxes, frames and draws beyond the limit: each window is in far, and in near if it is small."""
    rng, limits = np.random.default_rng(0), Limits(size=96)
    held = 0
    for _ in range(3000):
        hw = tuple(rng.integers(20, 700, 2).tolist())
        box = np.concatenate([rng.uniform(-0.2, 1.0, 2) * hw[::-1], np.exp(rng.uniform(0, 5.5, 2))])
        near, far = levels(box, hw, limits, 1.5)
        z, u = rng.standard_normal(2) * 3, rng.choice((0.0, 0.5, 1 - 1e-9, rng.random()), 2)
        jittered = jitter_box(box, z, u, 0.5, 4.5, limits.jitter_limit)
        window = crop_window(jittered, hw, limits.search_factor, limits.size, "replicate")
        for level in (far, near if window.side <= limits.size else None):
            if level is None:
                continue
            r = level.rectangle
            held += level is near
            assert r.x0 <= max(window.x0, 0) and min(window.x0 + window.side, hw[1]) <= r.x0 + r.width
            assert r.y0 <= max(window.y0, 0) and min(window.y0 + window.side, hw[0]) <= r.y0 + r.height
            assert min(r.x0, r.y0) >= 0 and r.x0 + r.width <= hw[1] and r.y0 + r.height <= hw[0]
        assert near is None or (near.height, near.width) == (near.rectangle.height, near.rectangle.width)
        assert far.height <= far.rectangle.height and far.width <= far.rectangle.width
    assert held > 20
    assert reach((40, 40, 10, 10), (100, 100), 30, limits).width < 100


def test_half_pixel_geometry():
    """A ramp stays a ramp through the reduced level: no shift beyond the rounding to whole grey levels."""
    hw = 400, 600
    ramp = np.repeat((np.arange(600) * 0.4)[None, :, None], 400, 0).repeat(3, 2)
    frame = np.rint(ramp).astype(np.uint8)
    recipe = replace(SMALL, size=64, search_factor=2.0, grey_probability=0.0)
    box = np.array([150.0, 120.0, 120.0, 100.0])
    options = shard.Options("x", replace(recipe.limits, scale_jitter=0.3, centre_jitter=1.0))
    entry, parts = shard.pack_frame(frame, box, options)
    made = PackedFrame("", "raw", entry[0], True, Problem("x", "", 1))
    h, w = entry[0]["far"]["hw"].tolist()
    made._kept["far"] = np.frombuffer(parts[-1], np.uint8).reshape(h, w, 3).copy()
    assert w < entry[0]["far"]["rectangle"][2] / 1.5, "reduced"
    for shift in (0.0, 3.4, -7.7):
        window = crop_window(box + np.array([shift, shift, 0, 0]), hw, 2.0, 64)
        pixels, part = made.part(window)
        flat = {"mean": (0, 0, 0), "std": (1 / 255,) * 3}
        a = crop(torch.from_numpy(frame), window.xywh, 64, **flat)
        b = crop(torch.from_numpy(pixels), part, 64, **flat)
        assert (a - b).mean().abs() < 0.1 and (a - b).abs().max() <= 1.01


def test_jitter_is_clipped_without_another_draw():
    box, u = np.array([10.0, 20, 30, 40]), np.array([0.3, 0.9])
    assert np.array_equal(
        jitter_box(box, np.array([3.7, -5.0]), u, 0.5, 4.5, 3.0),
        jitter_box(box, np.array([3.0, -3.0]), u, 0.5, 4.5),
    )
    spec = "synthetic:test"
    limited, free = samples_of(spec), samples_of(spec, jitter_limit=np.inf)
    tight = samples_of(spec, jitter_limit=0.5)
    a, b, c = (s.sample(0, 1) for s in (limited, free, tight))
    assert np.array_equal(a.images, b.images), "draws within the limit: PrDiMP's sample, bit for bit"
    assert a.proposals.shape == c.proposals.shape and not np.array_equal(a.boxes, c.boxes)


def test_training_from_packed_data(tmp_path, capsys):
    for name, start in (("train", 0), ("val", 3)):
        pack(trees.got10k(tmp_path / f"{name}_frames", start=start), tmp_path / name, "--size", 64)
    out = tmp_path / "run"
    words = f"demo --train packed:{tmp_path}/train*0.5 --val packed:{tmp_path}/val --out {out} --quiet"
    words += " --image-size 64 --train-frames 1 --test-frames 1 --batch 2 --channels 4 --threads 1"
    words += " --iterations 2 --epochs 1 --val-batches 1 --calibration-batches 1"
    threads = torch.get_num_threads()
    assert train_command.main(words.split()) == 0, capsys.readouterr().err
    torch.set_num_threads(threads)
    rows = [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]
    assert len(rows) == 2 and np.isfinite(rows[1]["val_loss"])
