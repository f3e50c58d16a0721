"""The comparison page: what stands side by side, what is flagged, what is not ranked, and the statistics."""

import dataclasses
import json
import shutil
import statistics

import pytest

from chase_fast.errors import ChaseError
from chase_fast.nn.genotype import CHASE_WO
from chase_fast.recipes import SearchConfig
from chase_fast.recipes.train import TrainConfig
from chase_fast.report import __main__ as command
from chase_fast.report import markdown, write_comparison
from chase_fast.report.compare import entries
from chase_fast.report.spread import difference, spread, student
from chase_fast.report.tables import Table
from tests.fake_run import write_run, write_seeds, write_train_run
from tests.test_report import Page
from tests.test_report_train import rewrite


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    write_seeds(root / "searched", level=2.5)
    write_seeds(root / "same", level=2.505, cell=CHASE_WO)
    write_seeds(root / "plain", level=2.9, cell=None)
    return root


@pytest.fixture(scope="module")
def found(runs) -> Page:
    return Page(write_comparison([runs / name for name in ("searched", "same", "plain")]))


def table(text: str, title: str) -> list[list[str]]:
    """Rows of a Markdown table, the head first."""
    lines = text.split(f"**{title}**\n\n")[1].split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "---" not in line]


def test_page_sets_curves_cells_and_sizes_side_by_side(found, runs):
    assert found.path == runs / "report_comparison.html"
    curves = json.loads(found.find("svg", class_="chart")[0]["data-chart"])["series"]
    assert [name for name, _, _ in curves] == ["searched", "same", "plain"]
    assert len({colour for _, colour, _ in curves}) == 3
    assert all(points[0][0] == 1 and "±" in points[0][1] for _, _, points in curves)
    assert len(found.find("polygon", class_="spread")) == 3 * (1 + 1 + 5)  # whole, second half, five small
    assert len(found.find("svg", class_="upright")) == 2 and "No searched cell" in found.words()
    assert len([c for c in found.find("circle", class_="dot") if c["r"] == "4.5"]) == 9  # a dot per seed
    assert "1.77 M" in found.words() and "430 k" in found.words()
    assert found.raw.replace("http://www.w3.org/2000/svg", "").count("://") == 0
    assert not found.find("div", class_="problems")  # nothing to warn of


def test_hover_of_the_second_half_starts_at_its_first_epoch(found):
    late = [a for a in found.find("svg", class_="chart") if "last epochs" in a["aria-label"]]
    data = json.loads(late[0]["data-chart"])
    assert (data["start"], data["end"]) == (10, 20)
    assert data["series"][0][2][0][0] == 10


def test_numbers_are_those_of_the_seeds(runs):
    text = markdown([runs / "searched", runs / "plain"])
    rows = table(text, "Validation losses, epoch of the lowest")
    for row, name in zip(rows[1:], ("searched", "plain")):
        results = [json.loads((runs / name / f"seed_{s}/result.json").read_text()) for s in range(3)]
        losses = [r["val_loss"] for r in results]
        mean, deviation = (float(v) for v in row[3].split("±"))
        assert row[:2] == [name, "3"]
        assert mean == pytest.approx(statistics.mean(losses), abs=6e-4)
        assert deviation == pytest.approx(statistics.stdev(losses), abs=6e-4)
        history = [
            json.loads((runs / name / f"seed_{s}/history.jsonl").read_text().splitlines()[r["epoch"]])
            for s, r in enumerate(results)
        ]
        assert float(row[7].split("±")[0]) == pytest.approx(
            statistics.mean(h["val_box"] for h in history), abs=6e-4
        )
    assert rows[1][-1] == "lowest" and rows[2][-1].endswith("beyond seed noise")


def test_pairs_are_read_by_the_seed_noise(runs):
    rows = table(markdown([runs / n for n in ("searched", "same", "plain")]), "Differences between pairs")
    reading = {(row[0], row[1]): row[-1] for row in rows[1:]}
    assert len(rows) == 1 + 3 * 2
    assert reading["searched − same", "lowest validation loss"] == "difference within seed noise"
    assert reading["searched − plain", "last epoch"] == "beyond seed noise: searched is lower"


def test_student_and_pooled_difference():
    # quantiles of a printed table (two-sided 95 %)
    for freedom, quantile in ((1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (9, 2.262), (30, 2.042)):
        assert student(freedom) == pytest.approx(quantile, abs=6e-4)
    a, b = spread([1.0, 2.0, 3.0]), spread([2.0, 4.0, 6.0])
    gap = difference(a, b)  # pooled variance (2 + 8) / 4
    assert gap.pooled == pytest.approx(-2 / 2.5**0.5)
    assert gap.half_width == pytest.approx(2.776 * 2.5**0.5 * (2 / 3) ** 0.5, rel=1e-3)
    assert not gap.beyond and gap.verdict == "difference within seed noise"
    alone = difference(spread([1.0]), spread([2.0]))
    assert alone.half_width is None and "unknown" in alone.verdict
    assert difference(spread([1.0]), spread([2.0, 2.1])).half_width is not None
    assert difference(spread([1.0, 1.0]), spread([2.0, 2.0])).pooled is None
    assert spread([None, None]) is None


def test_every_flag_of_the_comparison_exists():
    train = {f.name for f in dataclasses.fields(TrainConfig)}
    search = {f.name for f in dataclasses.fields(SearchConfig)}
    assert {*entries.MEASURE["train"], entries.SAMPLES["train"], "batch"} <= train
    assert {*entries.MEASURE["search"], entries.SAMPLES["search"], "batch"} <= search
    assert train | search >= entries.FREE


def test_another_budget_is_flagged_but_ranked(runs, tmp_path):
    other = write_train_run(tmp_path / "short", epochs=12, lr=5e-4)
    text = markdown([runs / "searched", other])
    assert "differ in more than what is compared: epochs, lr, epochs run" in text
    settings = {row[0]: row[1:] for row in table(text, "Settings that differ")}
    assert settings["lr"] == ["0.001", "0.0005"] and settings["epochs run"] == ["20", "12"]
    assert "; but settings differ" in table(text, "Differences between pairs")[1][-1]
    assert {row[-1] for row in table(text, "Validation losses, epoch of the lowest")[1:]} > {"lowest"}


@pytest.mark.parametrize(
    "change",
    [
        {"val": ("got10k:/data/GOT-10k:votval",)},
        {"classifier": "dimp"},
        {"image_size": 288},
        {"val_batches": 99},
    ],
)
def test_losses_that_do_not_compare_are_not_ranked(runs, tmp_path, change):
    other = write_seeds(tmp_path / "other", **change)
    text = markdown([runs / "searched", other])
    assert "fall into 2 groups" in text and "lowest |" not in text and "Differences" not in text
    page = Page(write_comparison([runs / "searched", other], tmp_path / "p.html"))
    assert page.find("div", class_="problems")
    assert len([h for h in page.elements if h[0] == "h2"]) == 2 + 3


def test_unfinished_runs_are_flagged_and_not_ranked(runs, tmp_path):
    other = write_train_run(tmp_path / "going", level=1.0, epochs=15, planned=20)
    text = markdown([runs / "searched", runs / "plain", other])
    assert "going is not finished (1 seed; in progress or interrupted after epoch 15 of 20)" in text
    rows = {row[0]: row[-1] for row in table(text, "Validation losses, epoch of the lowest")}
    assert rows["going"] == "not finished" and rows["searched"] == "lowest"
    assert table(text, "Differences between pairs")[3][-1] == "none: not finished"


def test_searches_and_trainings_get_sections_of_their_own(runs, tmp_path):
    searches = [
        write_run(tmp_path / f"search_{s}", "demo", epochs=10, chosen=6 + s, seed=s) for s in range(2)
    ]
    page = Page(write_comparison([runs / "searched", *searches], tmp_path / "p.html"))
    assert "Trainings, measured on synthetic" in page.words()
    assert "Searches, measured on synthetic" in page.words()
    assert len(page.find("svg", class_="upright")) == 3
    assert "one seed each: seed noise unknown" in page.words()


def test_a_run_without_configuration_stands_alone(runs, tmp_path):
    bare = write_train_run(tmp_path / "bare")
    (bare / "config.json").unlink()
    text = markdown([runs / "searched", bare])
    assert "bare has no config.json" in text and "fall into 2 groups" in text


def test_names_tell_runs_apart(tmp_path):
    for parent in ("a", "b"):
        write_train_run(tmp_path / parent / "run", epochs=2)
    paths = [tmp_path / "a/run", tmp_path / "b/run"]
    assert [entry.name for entry in entries.open_entries(paths)] == ["a/run", "b/run"]
    assert table(markdown(paths, ["x | y", "<z>"]), "Size, cost and speed")[1][0].startswith("x \\")
    assert "&lt;z&gt;" in write_comparison(paths, tmp_path / "p.html", ["x", "<z>"]).read_text()


def test_command_writes_the_page_or_prints_markdown_and_nothing_else(runs, tmp_path, capsys):
    copies = [shutil.copytree(runs / name, tmp_path / name) for name in ("searched", "plain")]
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    assert command.main([*map(str, copies), "--markdown"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("**Validation losses") and text.count("\n|---") == 4
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
    assert command.main([*map(str, copies)]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path.resolve() / "report_comparison.html")
    assert command.main([*map(str, copies), "--out", str(tmp_path / "x.html"), "--names", "a", "b"]) == 0
    after = {p for p in tmp_path.rglob("*") if p.is_file()} - set(before)
    assert {p.name for p in after} == {"report_comparison.html", "x.html"}


def test_wrong_input_is_one_line_and_nothing_is_written(tmp_path, capsys):
    good = write_train_run(tmp_path / "good", epochs=3)
    empty = write_train_run(tmp_path / "empty", epochs=0)
    (empty / "history.jsonl").write_text("")
    torn = write_train_run(tmp_path / "torn", epochs=3)
    with open(torn / "history.jsonl", "a") as f:
        f.write('{"epoch": 4, "val_l')
    mixed = write_seeds(tmp_path / "mixed", epochs=3)
    rewrite(mixed / "seed_1/config.json", lambda c: c | {"config": c["config"] | {"image_size": 320}})
    both = write_train_run(tmp_path / "both/seed_0", epochs=2).parent
    write_run(both / "seed_1", "demo", epochs=3, chosen=2)
    (tmp_path / "nothing").mkdir()
    out = tmp_path / "out.html"
    for arguments, words in (
        ([good, tmp_path / "nowhere"], "no such folder"),
        ([good, tmp_path / "nothing"], "no run folder"),
        ([good, empty], "has no val loss yet"),
        ([good, torn], "history.jsonl: 1 unreadable line"),
        ([good, mixed], "its seeds differ in image_size"),
        ([good, both], "some seeds are searches"),
        ([good, good / ".." / "good"], "given twice"),
        ([good, "--names", "a", "b"], "2 names for 1 runs"),
        ([good, mixed / "seed_0", "--names", "a", "a"], "two runs are called a"),
        ([good, "--cell", "chase"], "not both"),
        ([good, "--svg", "x.svg"], "give --cell"),
    ):
        assert command.main([*map(str, arguments), "--out", str(out)]) == 2, arguments
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1 and words in error, error
    for place in (good / "history.jsonl", tmp_path / "no" / "x.html"):
        assert command.main([str(good), "--out", str(place)]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert not out.exists() and not list(tmp_path.rglob("*.html"))
    with pytest.raises(ChaseError, match="no such folder"):
        markdown([tmp_path / "nowhere"])


def test_markdown_escapes_and_aligns():
    text = Table("a*b", "", ["run", "n"], [["x|y", "1"]]).markdown()
    assert text.splitlines() == ["**a\\*b**", "", "| run | n |", "|---|---:|", "| x\\|y | 1 |"]
