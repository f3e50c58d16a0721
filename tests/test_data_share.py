"""Shares of a dataset, `folder:PATH:0-80%`, and the warning about roles that share sequences."""

from itertools import chain, pairwise

import pytest

from chase_fast.data import open_sources
from chase_fast.data.evaluation import open_evaluation
from chase_fast.data.overlap import overlaps
from chase_fast.data.pack import __main__ as pack_command
from chase_fast.data.spec import parse_spec
from chase_fast.errors import ChaseError
from chase_fast.runs.progress import RunProgress
from tests import trees
from tests.sequences import write_sequence

KINDS = trees.TREES | {"folder": lambda path: f"folder:{path}/train" if trees.got10k(path) else None}


def names(spec: str) -> list[str]:
    return [s.name for s in open_sources(spec)[0].sequences]


@pytest.mark.parametrize("kind", KINDS)
def test_shares_are_disjoint_and_leave_nothing_out(tmp_path, kind):
    spec = KINDS[kind](tmp_path)
    whole = names(spec)
    for cuts in ((0, 50, 100), (0, 34, 70, 100), (0, 33.4, 100)):
        parts = [names(f"{spec}:{a:g}-{b:g}%") for a, b in pairwise(cuts)]
        assert list(chain(*parts)) == whole and all(parts)
    assert names(f"{spec}:0-100%*0.5") == whole
    if kind == "coco":
        images = [{n.split("#")[0] for n in part} for part in parts]
        assert not images[0] & images[1], "two objects of an image are never apart"


@pytest.mark.parametrize("count", range(1, 12))
def test_neighbours_meet_whatever_the_number(tmp_path, count):
    for i in range(count):
        write_sequence(tmp_path / f"s{i:02d}", 20)
    spec, seen = f"folder:{tmp_path}", []
    for part in ("0-10%", "10-37.5%", "37.5-80%", "80-100%"):
        try:
            seen += names(f"{spec}:{part}")
        except ChaseError as e:
            assert f"of {count} sequences none lies in {part}" in str(e)
    assert seen == [f"s{i:02d}" for i in range(count)]


def test_a_broken_sequence_moves_no_boundary(tmp_path):
    for i in range(10):
        write_sequence(tmp_path / f"s{i}", 20)
    (tmp_path / "s2" / "groundtruth.txt").write_text("broken\n")
    first = open_sources(f"folder:{tmp_path}:0-50%", skip_bad=True)[0].sequences
    assert [s.name for s in first] == ["s0", "s1", "s3", "s4"]
    assert names(f"folder:{tmp_path}:50-100%") == [f"s{i}" for i in range(5, 10)], "its own part is whole"


def test_evaluation_has_the_rest_of_training(tmp_path):
    for i in range(10):
        write_sequence(tmp_path / f"s{i}", 20)
    train = names(f"folder:{tmp_path}:0-70%")
    rest = [s.name for s in open_evaluation(f"folder:{tmp_path}:70-100%").sequences]
    assert train + rest == [f"s{i}" for i in range(10)]
    with pytest.raises(ChaseError, match="70% is no share"):
        open_evaluation(f"folder:{tmp_path}:70%")


def test_packed_shares(tmp_path, capsys):
    for make, count in ((trees.got10k, 3), (trees.coco, 24)):
        home = tmp_path / make.__name__
        spec = make(home / "frames")
        words = ["--size", "32", "--workers", "1", "--quiet", "--out"]
        assert pack_command.main([spec, *words, str(home / "whole")]) == 0
        parts = [names(f"packed:{home}/whole:{part}") for part in ("0-50%", "50-100%")]
        assert [p for p in parts if p] == parts and sum(map(len, parts)) == count
        assert parts[0] == names(f"{spec}:0-50%")
        assert pack_command.main([f"{spec}:0-50%", *words, str(home / "part")]) == 0
        assert names(f"packed:{home}/part") == parts[0]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("folder:/x:80%", "80% is no share of a dataset: write it as 0-80%"),
        ("folder:/x:80-20%", "80-20% is no share"),
        ("folder:/x:0-101%", "0-101% is no share"),
        ("folder:/x:-5-20%", "-5-20% is no share"),
        ("folder:/x:5-5%", "5-5% is no share"),
        ("synthetic:a:0-50%", "synthetic video has no end"),
        ("synthetic:0-50%", "synthetic video has no end"),
    ],
)
def test_what_is_no_share(spec, words):
    with pytest.raises(ChaseError, match=words):
        parse_spec(spec)


def test_sets_of_trackingnet_are_no_shares():
    assert parse_spec("trackingnet:/x:0-3").share is None
    spec = parse_spec("trackingnet:/x:0-3:0-80%*0.5")
    assert (spec.split, str(spec.share), spec.weight) == ("0-3", "0-80%", 0.5)


def test_roles_that_share_sequences_are_said_once(tmp_path, capsys):
    spec = KINDS["folder"](tmp_path)
    roles = {"train": [f"{spec}*0.5"], "val": [spec], "holdout": [spec]}
    sentences = overlaps({role: open_sources(specs) for role, specs in roles.items()})
    assert len(sentences) == 2
    for sentence, role in zip(sentences, ("val", "holdout")):
        assert sentence.startswith(f"train and {role} share 3 of 3 sequences, the first is {tmp_path}/train/")
        assert f"{spec}:0-60%, {spec}:60-80%, {spec}:80-100%" in sentence
    parts = {"train": open_sources(f"{spec}:0-50%"), "val": open_sources(f"{spec}:50-100%")}
    assert overlaps(parts) == []
    (sentence,) = overlaps({"train": open_sources(f"{spec}:0-70%"), "val": open_sources(f"{spec}:30-100%")})
    assert "share 1 of 2 sequences" in sentence and f"{spec}:0-80%, {spec}:80-100%" in sentence
    images = trees.coco(tmp_path / "coco")
    halves = {role: open_sources(f"{images}:{p}") for role, p in (("train", "0-50%"), ("val", "50-100%"))}
    assert overlaps(halves) == []
    (sentence,) = overlaps({"train": open_sources(images), "val": open_sources(f"{images}:50-100%")})
    assert "share 6 of 6 images" in sentence
    progress = RunProgress()
    for _ in range(3):  # seeds
        progress.warn(sentence)
    assert capsys.readouterr().err.count("share 6 of 6") == 1
