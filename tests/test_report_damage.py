"""Pages of damaged run folders: written, true, and said in one line; cells with operations of others."""

import json
import random

import pytest

from chase_fast.report import __main__ as command
from tests.fake_run import write_run, write_train_run
from tests.test_report import TWO, Page

OWN = [[["ghost_conv", 0], ["none", 1]], [["skip_connect", 0], ["ghost_conv", 2]]]


def own_run(path):
    """A finished search with an operation that is not registered here."""
    run = write_run(path, "chase_2n", epochs=30, chosen=20, genotype=TWO)
    cell = json.loads((run / "cell.json").read_text())
    (run / "cell.json").write_text(json.dumps(cell | {"genotype": {"nodes": OWN}}))
    return run


def test_operations_of_others_are_drawn(tmp_path, capsys):
    run = own_run(tmp_path / "r")
    assert command.main([str(run)]) == 0
    page = Page(run / "report.html")
    drawn = [g["data-op"] for g in page.find("g", class_="gene")]
    assert drawn == [op for node in OWN for op, _ in node]
    assert "No cell yet" not in page.words() and "register_operation for ghost_conv" in page.words()
    assert capsys.readouterr().err == ""
    svg = tmp_path / "c.svg"
    assert command.main(["--cell", str(run / "cell.json"), "--svg", str(svg)]) == 0
    assert "ghost_conv" in svg.read_text()
    assert command.main([str(run), str(own_run(tmp_path / "s")), "--out", str(tmp_path / "c.html")]) == 0


def test_operations_of_others_in_a_training(tmp_path, capsys):
    run = write_train_run(tmp_path / "r")
    config = json.loads((run / "config.json").read_text())
    config["spec"]["cell"] = {"nodes": OWN}
    (run / "config.json").write_text(json.dumps(config))
    assert command.main([str(run)]) == 0 and capsys.readouterr().err == ""
    assert "ghost_conv" in (run / "report.html").read_text()


def test_none_and_the_inputs_are_explained(tmp_path):
    run = own_run(tmp_path / "r")
    command.main([str(run)])
    words = Page(run / "report.html").words()
    assert "nodes 0 and 1" in words and "gives zero" in words and "--no-none-counts" in words
    run = write_run(tmp_path / "s", epochs=14, chosen=12)  # CHASE: without none
    command.main([str(run)])
    words = Page(run / "report.html").words()
    assert "nodes 0 and 1" in words and "gives zero" not in words


@pytest.mark.parametrize(
    "name, content",
    [
        ("cell.json", "{}}"),
        ("cell.json", "{}" * 2),
        ("cell.json", '{"epoch": 3}'),
        ("cell.json", '{"genotype": {"nodes": []}}'),
        ("cell.json", '{"genotype": "' + "[" * 5000 + '"}'),
        ("cell.json", "[" * 200_000),
        ("cell.json", "\x00" * 50),
        ("cell.json", '{"genotype": {"nodes": [[["' + "x" * 1000 + '", 0]]]}}'),
        ("config.json", "[1]"),
        ("config.json", '{"a":' * 50 + "1" + "}" * 50),
        ("history.jsonl", '{"epoch": 1e400}\n'),
        ("history.jsonl", '{"epoch": Infinity}\n'),
        ("history.jsonl", '{"epoch": ' + "9" * 400 + "}\n"),
        ("history.jsonl", '{"epoch": "3"}\n[1]\nnull\n'),
        ("history.jsonl", '{"epoch": 3, "holdout_loss": 1}\r\n{"epoch": 3, "holdout_loss": 2}\r\n'),
        ("history.jsonl", "[" * 200_000),
        ("alphas.jsonl", '{"epoch": 3, "alpha": [[1, "x"]]}\n'),
        ("alphas.jsonl", '{"epoch": 3, "alpha": [[1, 2], [3]]}\n'),
        ("perf.jsonl", '{"epoch": -1}\n'),
    ],
)
def test_damage_is_said_and_the_page_is_written(name, content, tmp_path, capsys):
    run = write_run(tmp_path / "r", epochs=14, chosen=12)
    (run / name).write_text(content)
    assert command.main([str(run)]) == 2
    out, err = capsys.readouterr()
    assert out.strip() == str(run / "report.html")
    assert err.startswith("error: ") and err.count("\n") == 1 and name in err and len(err) < 500
    words = Page(run / "report.html").words()
    assert name in words and "Not everything could be read" in words
    assert "No cell yet" not in words


def test_a_file_that_is_a_link_to_nothing(tmp_path, capsys):
    for name, target in (("config.json", "config.json"), ("perf.jsonl", "elsewhere")):
        run = write_run(tmp_path / name, epochs=14, chosen=12)
        (run / name).unlink()
        (run / name).symlink_to(target)
        assert command.main([str(run)]) == 2
        assert name in capsys.readouterr().err


def test_a_file_that_is_a_folder(tmp_path, capsys):
    for name in ("cell.json", "history.jsonl", "perf.jsonl"):
        run = write_run(tmp_path / name, epochs=14, chosen=12)
        (run / name).unlink()
        (run / name).mkdir()
        assert command.main([str(run)]) == 2
        assert name in capsys.readouterr().err


VALUES = [
    None, True, -1, 0, 3, 10**400, 1e308, -1e308, 1e99, float("nan"), float("inf"), "", "text", [], [[]],
    [1e308], {}, {"a": {"b": [1]}}, {"nodes": 3},
]  # fmt: skip


@pytest.mark.parametrize("write", [write_run, write_train_run])
def test_values_of_any_type_make_a_page_or_one_line(write, tmp_path, capsys):
    rng = random.Random(0)
    run = write(tmp_path / "r", epochs=8, **({"chosen": 6, "recipe": "demo"} if write is write_run else {}))
    files = {p.name: p.read_text() for p in run.iterdir()}
    for _ in range(40):
        name = rng.choice(sorted(files))
        lines = files[name].splitlines() if name.endswith("jsonl") else [files[name]]
        k = rng.randrange(len(lines))
        value = json.loads(lines[k])
        inner, key = value, rng.choice(sorted(value))
        while isinstance(inner[key], dict) and inner[key] and rng.random() < 0.8:
            inner = inner[key]
            key = rng.choice(sorted(inner))
        inner[key] = rng.choice(VALUES)
        lines[k] = json.dumps(value)
        (run / name).write_text("\n".join(lines) + "\n")
        code = command.main([str(run)])
        err = capsys.readouterr().err
        assert code in (0, 2) and err.count("\n") == (code == 2), (name, key, inner[key], err)
        lines = Page(run / "report.html").find("path", class_="line")
        assert not any("nan" in line["d"] or "inf" in line["d"] for line in lines)
        (run / name).write_text(files[name])
