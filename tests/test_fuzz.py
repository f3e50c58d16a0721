"""The fuzz campaign: a short round of it, and that it sees what is planted."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.fuzz import media, mutate, mutate_words, oracles_files, oracles_frames, oracles_sets
from tests.fuzz.campaign import plan
from tests.fuzz.cases import CASES, KINDS, SHORT
from tests.fuzz.judge import Case, Trial
from tests.fuzz.meaning import meaning, role
from tests.fuzz.mutate import Mutation
from tests.fuzz.server import Ending

ROOT = Path(__file__).parents[1]
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="the harness forks and reads /proc (Linux)")


def python(*words: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", *words]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )


@LINUX
def test_a_short_round_is_clean(tmp_path):
    report = tmp_path / "report.json"
    done = python(
        "tests.fuzz", "--short", "--inputs", "25", "--seed", "1", "--jobs", "2", "--json", str(report)
    )
    assert done.returncode == 0, done.stdout + done.stderr
    about = json.loads(report.read_text())
    words = [word for counts in about["kinds"].values() for word, n in counts.items() for _ in range(n)]
    assert len(words) == about["inputs"] == 25 and set(words) == {"right", "refused"}
    assert all(about["kinds"][kind] for kind in KINDS), "a kind of input was not tried"


@pytest.fixture(scope="module")
def planted():
    done = python("tests.fuzz.toy")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


PLANTED = {
    "traceback": "traceback: ValueError: planted",
    "hang": "hang: still running",
    "memory": "memory: 20",
    "silent": "silent: 1003 is not 3",
    "signal": "ended by signal 11",
    "exit code": "exit code 3",
    "left over": "left over: out/.tmp-",
    "temporary file": "left over: tmp/",
    "half-written": "half-written: out/sum.json",
    "changed input": "the input was changed: data.txt",
    "two errors": "2 error lines",
    "no error": "0 error lines",
    "noise": "neither error nor warning: [toy @ 0x1]",
    "unnamed": "names neither file nor flag",
    "not the same in a new Python": "a new Python ends in another way",
}


@LINUX
@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_is_seen(planted, fault):
    word, reason = planted[fault]
    assert word == "failed" and PLANTED[fault] in reason


@LINUX
def test_good_endings_are_no_failures_and_failures_are_kept(planted):
    assert planted["refused"] == ["refused", "error: in/data.txt: cut off"] and planted["said"] == [
        "right",
        "",
    ]
    clean = [found for name, found in planted.items() if name.startswith("clean ")]
    assert len(clean) == len(PLANTED) - 1 + 2 and all(found == ["right", ""] for found in clean)
    assert len(planted["kept"]) == len(PLANTED) - 1


def test_kinds_take_turns_and_every_case_is_reached():
    assert [plan(CASES, 0, n).kind for n in range(len(KINDS))] == KINDS
    assert {plan(CASES, seed, n) for seed in range(3) for n in range(300)} == set(CASES)
    assert {case.kind for case in SHORT} == set(KINDS)


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    """A file of every structure that mutations know, and one that they do not."""
    folder = tmp_path_factory.mktemp("samples")
    (folder / "groundtruth.txt").write_text("".join(f"{i},{2 * i}.5,30,40\n" for i in range(9)))
    (folder / "list.txt").write_text("a\nb\nc\n")
    (folder / "a.json").write_text(
        json.dumps({"a": [1, {"b": 2.5}], "c": "text", "d": {"e": None}}, indent=1)
    )
    (folder / "a.jsonl").write_text(
        "".join(json.dumps({"epoch": i, "loss": 1 / (i + 1)}) + "\n" for i in range(4))
    )
    np.savez(folder / "a.npz", a=np.arange(20), b=np.zeros((3, 4)))
    save_file(
        {"w": torch.ones(40), "b": torch.zeros(3)}, folder / "a.safetensors", {"tracker": '{"format": 1}'}
    )
    (folder / "a.bin").write_bytes(bytes(range(256)) * 8)
    return folder


def damaged(samples: Path, target: Path, name: str, seed: int) -> tuple[str, dict]:
    """What was done to a copy of the samples, and every file (or what stands in its place) afterwards."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(samples, target / "in")
    done = mutate.mutate(np.random.default_rng([seed, 1]), target / "in", (name,))
    assert done.path == name and done.text
    paths = sorted(target.rglob("*"))
    return done.text, {
        str(p.relative_to(target)): p.read_bytes() if p.is_file() else p.lstat().st_mode for p in paths
    }


@pytest.mark.parametrize(
    "name", ["groundtruth.txt", "list.txt", "a.json", "a.jsonl", "a.npz", "a.safetensors", "a.bin"]
)
def test_damage_is_repeatable_and_changes_something(samples, tmp_path, name):
    before = {f"in/{p.name}": p.read_bytes() for p in samples.iterdir()}
    texts = set()
    for seed in range(60):
        text, found = damaged(samples, tmp_path / "a", name, seed)
        assert (text, found) == damaged(samples, tmp_path / "b", name, seed)
        texts.add(text)
        found.pop("in")
        assert found != before or "link to the same" in text, text
        others = {k: v for k, v in found.items() if k in before and k != f"in/{name}"}
        assert all(before[k] == v for k, v in others.items()), "another file was changed"
    assert len(texts) > 30


def test_command_lines_are_damaged_repeatably():
    words = ["in/a", "--box", "1,2,3,4", "--out", "out", "--quiet"]
    found = [mutate_words.change(np.random.default_rng(seed), list(words)) for seed in range(300)]
    assert found == [mutate_words.change(np.random.default_rng(seed), list(words)) for seed in range(300)]
    assert len({tuple(changed) for changed, _ in found}) > 100
    assert all("\0" not in word for changed, _ in found for word in changed)


def test_bar_codes_survive_enlarging_and_compression_and_noise_is_none():
    for number in range(media.COUNT):
        large = cv2.resize(media.picture(number), None, fx=5, fy=5, interpolation=cv2.INTER_NEAREST)
        again = cv2.imdecode(cv2.imencode(".jpg", large, [cv2.IMWRITE_JPEG_QUALITY, 40])[1], cv2.IMREAD_COLOR)
        assert media.number_of(media.squares(again)) == number
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3))
    for image in (noise, np.zeros((64, 96, 3)), np.full((64, 96), np.nan), media.picture(0)[::-1]):
        assert media.number_of(media.squares(image)) is None


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("1,2,3,4\n5,6,7,8\n", True), ("1\t2\t3\t4\r\n5 6 7 8\r\n\r\n", True),
        ("\ufeff1.0,2,3e0,4\n5,6,7,+8", True), ("1,2,3,4\n5,6,7,9\n", False), ("1,2,3,4\n", False),
        ("1,2,3,4\n\n5,6,7,8\n", None), ("1;2;3;4\n5;6;7;8", None), ("1,2,3,4\n5,6,7,0x8\n", None),
        ("1,2,3,4\n5,6,7,８\n", None), ("1,2,3,1_0\n5,6,7,8\n", None), ("", None),
    ],
)  # fmt: skip
def test_tables_are_read_independently(tmp_path, text, same):
    path = tmp_path / "groundtruth.txt"
    path.write_text(text)
    found = meaning(path, role("data/a/groundtruth.txt"))
    expected = [["1.0", "2.0", "3.0", "4.0"], ["5.0", "6.0", "7.0", "8.0"]]
    assert found is None if same is None else (found == expected) is same
    assert meaning(tmp_path / "missing.txt", "boxes") is None and meaning(tmp_path, "boxes") is None


# ---- oracles: folders as commands leave them, with a fault planted


def trial(box: Path, path: str, clean: Path | None = None, said: str = "") -> Trial:
    """An input `path` whose command ended well in `box`; `clean` is the folder of the undamaged one."""
    ending = Ending(0, 0, 1.0, 100.0, "", False, "12 frames\n", said, box)
    other = None if clean is None else dataclasses.replace(ending, stderr="", box=clean)
    return Trial(Case("kind", "case", "", ""), ("track",), Mutation(path, "damaged"), ending, other, {})


def tracked(box: Path, pictures: list[np.ndarray]) -> Path:
    """in/mpeg4.avi, and what tracking it would leave if its frames were `pictures`."""
    (box / "in").mkdir(parents=True)
    (box / "out").mkdir()
    media.write_video(box / "in" / "mpeg4.avi")
    out = cv2.VideoWriter(str(box / "out/annotated.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 25, (480, 320))
    for image in pictures:
        out.write(cv2.resize(image, (480, 320), interpolation=cv2.INTER_NEAREST))
    out.release()
    (box / "out/boxes.txt").write_text("1,2,3,4\n" * len(pictures))
    return box


def test_garbage_and_lost_frames_of_a_video_are_silent_wrong_results(tmp_path):
    whole = [media.picture(k) for k in range(media.COUNT)]
    garbage = np.random.default_rng(0).integers(0, 256, whole[0].shape, dtype=np.uint8)
    clean = tracked(tmp_path / "clean", whole)
    assert oracles_frames.frames_of_video(trial(clean, "mpeg4.avi")) == ""
    planted = {
        "garbage": [*whole[:4], garbage, *whole[5:]],
        "lost": whole[:4] + whole[5:],
        "grey": [whole[0] * 0 + 128] * 12,
    }
    for name, pictures in planted.items():
        box = tracked(tmp_path / name, pictures)
        assert "the clean video" in oracles_frames.frames_of_video(trial(box, "mpeg4.avi"))
        assert oracles_frames.frames_of_video(trial(box, "mpeg4.avi", clean)).startswith("silent: "), name
        assert oracles_frames.frames_of_video(trial(box, "mpeg4.avi", clean, "warning: damaged")) == ""
    repeated = tracked(tmp_path / "repeated", [whole[0], *whole])
    assert oracles_frames.frames_of_video(trial(repeated, "mpeg4.avi", clean)) == ""


def test_wrong_pictures_of_images_are_silent_wrong_results(tmp_path):
    def folder(name: str, pictures: list[np.ndarray], kind: str = "png") -> Path:
        box = tracked(tmp_path / name, pictures)
        media.write_images(box / "in/walk", kind)
        return box

    whole = [media.picture(k) for k in range(media.FRAMES)]
    wrong = [*whole[:2], np.full_like(whole[0], 128), *whole[3:]]
    clean, box = folder("clean", whole), folder("wrong", wrong)
    third = "walk/00000003.png"
    assert oracles_frames.frames_of_folder(trial(clean, third)) == ""
    assert "Pillow sees another" in oracles_frames.frames_of_folder(trial(box, third, clean))
    assert oracles_frames.frames_of_folder(trial(box, third, clean, "warning: damaged")) == ""
    cv2.imwrite(str(box / "in" / third), wrong[2])  # now the file says so itself
    assert oracles_frames.frames_of_folder(trial(box, third, clean)) == ""
    (box / "in" / third).write_bytes(b"no image")
    assert "Pillow refuses" in oracles_frames.frames_of_folder(trial(box, third, clean))
    assert "silent" in oracles_frames.frames_of_folder(trial(folder("lost", whole[:5]), third, clean))


def test_the_doctor_may_call_whole_what_has_all_its_pixels(tmp_path):
    name = "data/walk/00000001.jpg"
    clean, box = tmp_path / "clean", tmp_path / "box"
    for folder in (clean, box):
        media.write_images(folder / "in/data/walk", "jpeg")
    data = (clean / "in" / name).read_bytes()
    assert data.endswith(b"\xff\xd9")

    def found(content: bytes, said: str = "") -> str:
        (box / "in" / name).write_bytes(content)
        return oracles_sets.visible(trial(box, name, clean, said))

    assert found(data[:-2]) == found(data + b"stray") == ""
    assert "called whole" in found(data[: len(data) // 2]) and "called whole" in found(b"no image")
    assert found(data[: len(data) // 2], "warning: cut off") == ""


def scored(box: Path, value: float, last: str = "9,9,12,10", names: tuple[str, ...] = ("a", "b")) -> Path:
    truth = "4,6,12,10\n5,6,12,10\n6,7,12,10\n7,7,12,10\n"
    for name in ("a", "b"):
        for file, text in (
            (f"data/{name}/groundtruth.txt", truth),
            (f"results/{name}.txt", f"4,6,12,10\n{last}\n" * 2),
        ):
            (box / "in" / file).parent.mkdir(parents=True, exist_ok=True)
            (box / "in" / file).write_text(text)
    (box / "in/data/list.txt").write_text("a\nb\n")
    about = {"metrics": {"AO": value}, "per_sequence": {name: {"AO": value} for name in names}}
    (box / "out").mkdir()
    (box / "out/scores.json").write_text(json.dumps({"protocols": {"got10k": {"trackers": {"T": about}}}}))
    return box


def test_scores_must_follow_the_boxes(tmp_path):
    clean = scored(tmp_path / "clean", 0.5)

    def found(name: str, path: str, text: str, value: float, said: str = "", **options) -> str:
        box = scored(tmp_path / name, value, **options)
        (box / "in" / path).write_bytes(text.encode())
        return oracles_sets.scores(trial(box, path, clean, said))

    rows = "4,6,12,10\n9,9,12,10\n4,6,12,10\n9,9,12,10\n"
    result = "results/a.txt"
    assert oracles_sets.scores(trial(clean, "")) == ""
    assert found("other form", result, rows.replace(",", "\t"), 0.5) == ""
    assert "says the same" in found("form", result, rows.replace(",", "\t"), 0.4)
    assert found("moved", result, rows.replace("9,9", "8,9"), 0.6) == ""
    assert "same scores" in found("unused", result, rows.replace("9,9", "8,9"), 0.5)
    assert "3 boxes for 4 frames" in found("short", result, rows[:-10], 0.4)
    assert found("short, said", result, rows[:-10], 0.4, "warning: a is short") == ""
    assert "infinite" in found("inf", result, rows.replace("9,9", "inf,9"), 0.4)
    assert "no table" in found("hex", result, rows.replace("9,9", "0x9,9"), 0.4)
    assert found("lenient", result, rows.replace(",", ";"), 0.5) == ""
    assert "are scored" in found("dropped", result, rows, 0.5, names=("a",))
    assert found("list", "data/list.txt", "a\n", 0.5, names=("a",)) == ""
    assert "the list says" in found("list ignored", "data/list.txt", "a\nc\n", 0.5, names=("a",))


def test_one_changed_bit_of_weights_and_packs_is_seen(tmp_path):
    clean, box = tmp_path / "clean", tmp_path / "box"
    for folder in (clean, box):
        (folder / "in").mkdir(parents=True)
        save_file(
            {"w": torch.ones(4)}, folder / "in/a.safetensors", {"tracker": '{"spec": 1, "about": {"a": 1}}'}
        )
        (folder / "in/shard-00000.bin").write_bytes(bytes(100))
        (folder / "in/pack.json").write_text('{"a": 1}')
    net, shard, about = (
        trial(box, name, clean) for name in ("a.safetensors", "shard-00000.bin", "pack.json")
    )
    assert (
        oracles_files.weights(net) == oracles_files.whole_pack(shard) == oracles_files.whole_pack(about) == ""
    )
    (box / "in/pack.json").write_text('{"a":1}')
    assert oracles_files.whole_pack(about) == ""
    (box / "in/pack.json").write_text('{"a":2}')
    (box / "in/shard-00000.bin").write_bytes(bytes(99) + b"\x01")
    data = (box / "in/a.safetensors").read_bytes()
    (box / "in/a.safetensors").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert "called whole" in oracles_files.whole_pack(about) and "called whole" in oracles_files.whole_pack(
        shard
    )
    assert "other weights" in oracles_files.weights(net)
    assert oracles_files.weights(trial(box, "a.safetensors", clean, "warning: other digest")) == ""
    (box / "in/a.safetensors").write_bytes(data.replace(b'\\"a\\": 1', b'\\"a\\": 2'))
    assert oracles_files.weights(net) == "", "where a network comes from does not change what it does"
    (box / "in/a.safetensors").write_bytes(data[:-1])
    assert "refuses" in oracles_files.weights(net)
