"""The baseline of bench/search_step.py, the published structure in plain torch, computes what we compute."""

import argparse

import pytest
import torch

from bench import search_step
from tests.tolerances import GOLDEN, assert_close

TINY = argparse.Namespace(channels=4, frames=4, size=6, recipe="demo", device="cpu")


@pytest.mark.parametrize("flavour", ["chase", "darts"])
@pytest.mark.parametrize(
    ("step", "layout"),
    [
        ("cell", search_step.CHANNELS_LAST),
        ("architect", search_step.PUBLISHED),
        ("iteration", search_step.PUBLISHED),
    ],
)
def test_same_step(step, flavour, layout):
    args = argparse.Namespace(**vars(TINY) | {"step": step})
    ours, published = (
        search_step.make_step(args, flavour, candidate, torch.float64)()()
        for candidate in (search_step.OURS, layout)
    )
    assert ours.keys() == published.keys()
    for name, value in published.items():
        tolerance = "alpha_2nd_order" if step != "cell" else "gradient"
        assert_close(ours[name], value, GOLDEN[tolerance], name)


@pytest.mark.parametrize("flavour", ["chase", "darts"])
def test_same_iteration_of_the_tracker(flavour, monkeypatch):
    """Images to updated weights: backbone, dropout masks, classifier, loss, architect, both optimizers."""
    flags = {"image_size": 64, "batch": 2, "channels": 4, "train_frames": 1, "test_frames": 2}
    recipe = search_step.search_recipe
    monkeypatch.setattr(
        search_step, "search_recipe", lambda name: search_step.dataclasses.replace(recipe(name), **flags)
    )
    args = argparse.Namespace(**vars(TINY) | {"step": "demo"})
    ours, published = (
        search_step.make_step(args, flavour, candidate, torch.float64)()()
        for candidate in (search_step.OURS, search_step.PUBLISHED)
    )
    for name, value in published.items():
        assert_close(ours[name], value, GOLDEN["alpha_2nd_order"], name)


def test_command_prints_mismatch_first_and_lines_that_are_not_equal(capsys):
    flags = "--step architect --flavour chase --channels 4 --frames 4 --size 6 --repeats 1 --not-equal"
    rows = {row["candidate"]: row for row in search_step.main(flags.split())["rows"]}
    assert set(rows) == {*search_step.CANDIDATES, search_step.BF16}
    assert rows[search_step.OURS]["speedup"].keys() == {search_step.PUBLISHED, search_step.CHANNELS_LAST}
    low = rows[search_step.BF16]
    assert low["speedup"] is None and low["mismatch"]["implicit term"] > 0.1  # the difference is lost
    assert "not equal" in capsys.readouterr().out


def test_paper_is_the_papers_size_on_synthetic_video():
    config = search_step.demo_config("paper", "chase").on(1)
    assert (config.channels, config.batch, config.image_size, config.backbone) == (256, 10, 288, "resnet50")
    assert config.train == config.val == ("synthetic",) and config.backbone_weights == "random"
