"""Which frames a sample takes, what it holds, and that batches do not depend on who makes them."""

import logging
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from chase_fast.data import SampleRecipe, SampleSet, loader, open_sources
from chase_fast.data.sampler import choose_frames
from chase_fast.errors import ChaseError
from tests.sequences import write_sequence

SMALL = SampleRecipe(train_frames=2, test_frames=2, max_gap=10, size=48)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("videos")
    for k in range(3):
        write_sequence(root / f"video{k}", 24 + k)
    return root


def same(a, b):
    return all(
        torch.equal(x, y)
        for f in fields(a)
        if (x := getattr(a, f.name)) is not None and (y := getattr(b, f.name)) is not None
    )


def test_choose_frames_is_causal():
    rng = np.random.default_rng(0)
    visible = np.ones(60, bool)
    visible[20:30] = False
    bases = set()
    for _ in range(500):
        frames = choose_frames(rng, visible, 3, 3, 8)
        base, train, test = frames[0], frames[1:3], frames[3:]
        bases.add(int(base))
        assert visible[frames].all() and len(frames) == 6
        assert (train < base).all() and (test > base).all()
        assert 2 <= base < 57
    assert bases >= set(range(3, 19)) | set(range(31, 56))


def test_choose_frames_reach_grows():
    # two visible groups 40 frames apart: a gap of 3 must grow until it bridges them from the edge frames
    visible = np.zeros(80, bool)
    visible[[0, 1, 2, 3, 4, 5, 46, 47, 48, 49, 50, 51, 52]] = True
    rng = np.random.default_rng(1)
    gaps = [np.diff(np.sort(choose_frames(rng, visible, 3, 3, 1))).max() for _ in range(200)]
    assert max(gaps) >= 4
    single = choose_frames(rng, visible, 1, 2, 5)
    assert len(single) == 3 and (single[1:] > single[0]).all()


def test_sample_holds_what_it_says():
    recipe = replace(SMALL, size=96, proposals="prdimp", proposal_count=10)
    samples = SampleSet(open_sources("synthetic:test"), recipe, seed=3, size=8)
    (batch,) = loader(samples, 8, epoch=1)
    assert batch.train_images.shape == batch.test_images.shape == (2, 8, 3, 96, 96)
    assert batch.train_images.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)
    assert batch.label.shape == batch.label_density.shape == (2, 8, 7, 7)
    torch.testing.assert_close(batch.label_density.sum((-2, -1)), torch.ones(2, 8))
    assert batch.proposals.shape == (2, 8, 10, 4) and batch.gt_density.shape == (2, 8, 10)
    assert batch.proposal_iou is None and (batch.proposal_density > 0).all()
    for images in (batch.train_images, batch.test_images):
        assert images.dtype == torch.float32 and images.isfinite().all()
        assert -2.2 < images.min() < images.max() < 2.7 and images.std() > 0.1
    # the label peaks in the cell nearest to the box centre
    centre = (batch.test_boxes[..., :2] + batch.test_boxes[..., 2:] / 2) / 16
    peak = batch.label.flatten(-2).argmax(-1)
    cell = torch.stack([peak % 7, peak // 7], -1)
    assert torch.equal(cell, centre.round().clamp(0, 6).long())
    # search area 5: a box has 1/5 of the crop's side, up to the scale jitter
    side = batch.train_boxes[..., 2:].prod(-1).sqrt() / 96
    assert 0.1 < side.median() < 0.4
    moved = batch.to("cpu")
    assert same(batch, moved)


def test_dimp_proposals():
    recipe = replace(SMALL, proposals="dimp", proposal_count=8)
    (batch,) = loader(SampleSet(open_sources("synthetic:test"), recipe, 0, 2), 2, epoch=0)
    assert batch.proposals.shape == (2, 2, 8, 4) and batch.proposal_density is None
    assert (batch.proposal_iou > 0).all() and (batch.proposal_iou <= 1).all()


def test_crop_follows_the_target(folder):
    """The box in the crop frames the same pixels as the box in the frame."""
    recipe = replace(SMALL, size=160, search_factor=2.0, train_centre_jitter=0.5, test_centre_jitter=0.5)
    (source,) = open_sources(f"folder:{folder}")
    samples = SampleSet([source], recipe, 0, 4, augment=False)
    sequence = source.sequences[0]
    box = sequence.boxes[3]
    image = np.empty((160, 160, 3), np.float32)
    mapped = samples._crop(image, sequence.picture(3), box, box, False, 1.0)
    x, y, w, h = np.rint(mapped).astype(int)
    inside = image[y : y + h, x : x + w].mean((0, 1))
    bx, by, bw, bh = np.rint(box).astype(int)
    pixels = sequence.frame(3)[by : by + bh, bx : bx + bw].mean((0, 1)) / 255
    expected = (pixels - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    assert np.abs(inside - expected).max() < 0.15


def test_depends_on_seed_epoch_and_index_only(folder):
    sources = open_sources([f"folder:{folder}", "synthetic:test*0.5"])
    samples = SampleSet(sources, SMALL, seed=5, size=6)
    again = SampleSet(sources, SMALL, seed=5, size=6)
    a = samples.sample(1, 4)
    again.sample(7, 0)
    assert np.array_equal(a.images, again.sample(1, 4).images)
    for other in (samples.sample(1, 5), samples.sample(2, 4), SampleSet(sources, SMALL, 6, 6).sample(1, 4)):
        assert not np.array_equal(a.images, other.images)


def test_fixed_start_and_threads(folder):
    samples = SampleSet(open_sources([f"folder:{folder}", "synthetic:test"]), SMALL, seed=0, size=11)
    first = list(loader(samples, 2, epoch=1, threads=1))
    assert len(first) == 5, "the incomplete batch is dropped"
    assert all(same(x, y) for x, y in zip(first, loader(samples, 2, epoch=1, threads=3)))
    rest = list(loader(samples, 2, epoch=1, start=3))
    assert len(rest) == 2 and all(same(x, y) for x, y in zip(first[3:], rest))
    one, two = (next(loader(samples, 2, epoch=e, fixed=True)) for e in (1, 2))
    assert same(one, two) and not same(one, first[0])


def test_worker_processes_give_the_same_batches(folder, tmp_path):
    sources = open_sources([f"folder:{folder}", "synthetic:test"])
    samples = SampleSet(sources, SMALL, seed=0, size=6)
    here = list(loader(samples, 2, epoch=1))
    there = list(loader(samples, 2, epoch=1, workers=2))
    assert len(here) == len(there) == 3 and all(same(x, y) for x, y in zip(here, there))


def test_augment(folder):
    sources = open_sources(f"folder:{folder}")
    recipe = replace(SMALL, grey_probability=1.0)
    mean, std = np.array((0.485, 0.456, 0.406)), np.array((0.229, 0.224, 0.225))

    def pixels(augment, recipe):
        return SampleSet(sources, recipe, 0, 1, augment).sample(0, 0).images * std + mean

    grey = pixels(True, recipe)
    assert np.abs(grey - grey.mean(-1, keepdims=True)).max() < 1e-6, "all frames grey together"
    plain = pixels(False, recipe)
    assert np.abs(plain - plain.mean(-1, keepdims=True)).max() > 0.05
    bright = pixels(True, replace(SMALL, grey_probability=0.0))
    ratio = (bright / np.maximum(plain, 1e-3))[(plain > 0.3) & (plain < 0.8)]
    assert ratio.min() >= 0.8 and ratio.max() <= 1.21 and ratio.std() > 0.01


def test_still_images(tmp_path):
    for name in "ab":
        write_sequence(tmp_path / name, 1, ["20,16,20,16"])
    samples = SampleSet(open_sources(f"folder:{tmp_path}"), SMALL, 0, 2)
    (batch,) = loader(samples, 2, epoch=0)
    assert batch.train_images.shape == (2, 2, 3, 48, 48)


def test_weights(folder, tmp_path):
    write_sequence(tmp_path / "other" / "x", 20)
    sources = open_sources([f"folder:{folder}*3", f"folder:{tmp_path}/other"])
    samples = SampleSet(sources, SMALL, 0, 1)
    rng = np.random.default_rng(0)
    share = np.mean([samples._draw(rng)[0] is sources[0] for _ in range(400)])
    assert 0.68 < share < 0.82


def test_too_little_data(tmp_path):
    write_sequence(tmp_path / "short", 19)
    with pytest.raises(ChaseError, match="too little data for a sample"):
        SampleSet(open_sources(f"folder:{tmp_path}"), SMALL, 0, 1)
    hidden = write_sequence(tmp_path / "hidden", 22, ["NaN,NaN,NaN,NaN"] * 14 + ["5,5,9,9"] * 8)
    assert hidden.exists()
    with pytest.raises(ChaseError, match="visible in more than 8"):
        SampleSet(open_sources(f"folder:{tmp_path}"), SMALL, 0, 1)
    with pytest.raises(ChaseError, match="no batch of 4"):
        loader(SampleSet(open_sources("synthetic"), SMALL, 0, 3), 4, epoch=0)


@pytest.mark.parametrize("workers", [0, 1])
def test_frame_that_breaks_while_training(tmp_path, caplog, workers):
    folder = write_sequence(tmp_path / "s", 20)
    specs = f"folder:{tmp_path}"
    strict, lenient = open_sources(specs), open_sources(specs, skip_bad=True)
    for i in range(8, 12):
        (folder / f"{i:08d}.jpg").write_bytes(b"broken")
    with pytest.raises(ChaseError, match=r"sequence s, frame \d+ \(.*\.jpg\): cannot be decoded") as e:
        list(loader(SampleSet(strict, SMALL, 0, 8), 2, epoch=0, workers=workers))
    assert "\n" not in str(e.value)
    if workers == 0:
        with caplog.at_level(logging.WARNING, "chase_fast.data"):
            made = list(loader(SampleSet(lenient, SMALL, 0, 8), 2, epoch=0))
        assert len(made) == 4 and "left out: sequence s" in caplog.text


@pytest.mark.parametrize(
    "change",
    [{"size": 100}, {"size": 0}, {"train_frames": 0}, {"proposals": "other"}, {"crop_mode": "other"}],
)
def test_bad_recipe(change):
    with pytest.raises(ChaseError):
        replace(SMALL, **change)
