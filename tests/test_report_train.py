"""The report of a training: one run, the seeds of one, finished or not, and what a broken folder gives."""

import json

import pytest

from chase_fast.draw import draw_cell
from chase_fast.draw.arcs import BOX_H, BOX_W, PILL_H, arrange
from chase_fast.draw.charts import Marks, Series, chart, log_ticks
from chase_fast.errors import ChaseError
from chase_fast.nn.genotype import CHASE, CHASE_FD, CHASE_WO
from chase_fast.report import __main__ as command
from chase_fast.report import write_comparison, write_report
from chase_fast.report.train.read import TERMS, read_train
from tests.fake_run import write_run, write_seeds, write_train_run
from tests.test_report import FULL, TWO, Page, page


def rewrite(path, change) -> None:
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Page:
    return page(write_train_run(tmp_path_factory.mktemp("runs") / "small"))


def test_a_training_has_all_its_curves(small):
    names = {a["aria-label"] for a in small.find("svg", class_="chart")}
    for name in (
        "Training and validation loss over the epochs",
        "Target classifier: last iterate",
        "Target classifier: first iterate",
        "Target classifier: iterates between",
        "Box regressor",
        "Learning rates, logarithmic",
        "Norm of the gradient, mean of the epoch, logarithmic",
        "Samples per second",
        "Time per step (ms)",
        "Share of the time spent waiting for data",
        "Peak memory (MB)",
    ):
        assert name in names, name
    whole = small.find("svg", class_="chart")[0]
    train, val = json.loads(whole["data-chart"])["series"]
    assert (train[0], len(train[2]), val[0], len(val[2])) == ("training", 20, "validation", 21)


def test_a_training_names_result_sizes_data_and_versions(small):
    run = read_train(small.path.parent)
    words = small.words()
    best = run.history[run.chosen]["val_loss"]
    assert best == min(row["val_loss"] for row in run.history.values()) == run.result["val_loss"]
    fall = 100 * (1 - best / run.history[0]["val_loss"])
    assert f"{best:.4g}" in words and f"epoch {run.chosen}: {fall:.1f} % below row 0" in words
    for text in ("10.7 M", "430 k", "1.86 G", "84.3 M", "box regressor", "2.15.0", "9c21ce7", "lr_gamma"):
        assert text in words, text
    assert "training synthetic" in words and "validation synthetic" in words
    assert "load_tracker" in words and "ended after epoch 20 of 20" in words
    assert len(small.find("svg", class_="cell")) == 1
    assert small.raw.replace("http://www.w3.org/2000/svg", "").count("://") == 0


def test_inputs_and_none_are_explained_wherever_a_cell_is_drawn(tmp_path):
    runs = [write_train_run(tmp_path / "none/seed_0", cell=TWO), write_train_run(tmp_path / "chase/seed_0")]
    runs.append(write_run(tmp_path / "search", "chase_2n", epochs=14, chosen=12, genotype=TWO))
    write_report(tmp_path / "none"), write_report(tmp_path / "chase")
    pages = [page(run) for run in (*runs, tmp_path / "none")]
    pages.append(Page(write_comparison(runs, tmp_path / "comparison.html")))
    for words, inputs, nones in zip((p.words() for p in pages), (1, 1, 1, 1, 3), (1, 0, 1, 1, 2)):
        assert words.count("nodes 0 and 1 in cell.json") == inputs and words.count("gives zero") == nones


def test_plain_block_has_no_drawing(tmp_path):
    found = page(write_train_run(tmp_path / "r", cell=None))
    assert not found.find("svg", class_="cell") and "Plain block: no searched cell" in found.words()


@pytest.mark.parametrize("epochs", [0, 1, 7])
def test_training_in_progress(tmp_path, epochs):
    run = write_train_run(tmp_path / "r", epochs=epochs, planned=20)
    found = page(run)
    assert f"in progress or interrupted after epoch {epochs} of 20" in found.words()
    assert "chase_fast.train --out" in found.words() and "--resume" in found.words()
    assert ("best so far" in found.words()) == (epochs > 0)


def test_epochs_without_validation_are_bridged(tmp_path):
    run = write_train_run(tmp_path / "r", epochs=10)
    rows = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    for row in rows:
        if row["epoch"] % 5:
            row |= {key: None for key in row if key.startswith("val_")}
    (run / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (run / "result.json").unlink()
    data = json.loads(page(run).find("svg", class_="chart")[0]["data-chart"])
    assert [epoch for epoch, _ in data["series"][1][2]] == [0, 5, 10]


@pytest.mark.parametrize("missing", ["config.json", "history.jsonl", "perf.jsonl", "result.json"])
def test_any_file_of_a_training_may_be_missing(tmp_path, missing):
    run = write_train_run(tmp_path / "r")
    (run / missing).unlink()
    found = page(run)
    assert "Optimiser" in found.words() or missing == "history.jsonl"
    assert ("Parameters and MACs" in found.words()) == (missing != "result.json")
    assert found.find("svg", class_="cell")  # the architecture stands in two files


def test_broken_files_of_a_training_are_named(tmp_path):
    run = write_train_run(tmp_path / "r")
    with open(run / "history.jsonl", "a") as f:
        f.write('{"epoch": 21, "val')
    (run / "result.json").write_text("[]")
    rewrite(run / "config.json", lambda c: c | {"spec": c["spec"] | {"cell": {"nodes": [[["ghost", 0]]]}}})
    words = page(run).words()
    assert "history.jsonl: 1 unreadable line left out" in words
    assert "result.json: not a JSON object" in words and "ghost" in words
    rewrite(run / "config.json", lambda c: c | {"spec": c["spec"] | {"cell": {"nodes": 3}}})
    assert "a cell that cannot be read" in page(run).words()


def test_seeds_stand_side_by_side(tmp_path):
    run = write_seeds(tmp_path / "runs")
    found = page(run)
    losses = [json.loads((run / f"seed_{s}/result.json").read_text())["val_loss"] for s in (0, 1, 2)]
    mean = sum(losses) / 3
    deviation = (sum((v - mean) ** 2 for v in losses) / 2) ** 0.5
    assert f"{mean:.3f} ± {deviation:.3f}" in found.words()
    assert f"{losses.index(min(losses))} (best)" in found.words()
    assert [a["href"] for a in found.find("a")] == [f"seed_{s}/report.html" for s in (0, 1, 2)]
    assert all((run / f"seed_{s}/report.html").exists() for s in (0, 1, 2))
    assert len(found.find("svg", class_="cell")) == 1  # one cell, three seeds
    assert len(found.find("polygon", class_="spread")) == 2 * (1 + len(TERMS))


def test_seeds_in_progress_and_random_cells(tmp_path):
    run = tmp_path / "runs"
    for seed, cell, epochs in ((0, CHASE, 8), (1, CHASE_WO, 3)):
        write_train_run(run / f"seed_{seed}", seed=seed, cell=cell, epochs=epochs, planned=8)
    about = json.loads((run / "seed_0/config.json").read_text())
    (run / "config.json").write_text(json.dumps(about | {"seeds": [0, 1, 2]}))
    found = page(run)
    assert "2 of 3 seeds, in progress or interrupted" in found.words()
    assert len(found.find("svg", class_="upright")) == 2
    mean = next(a for a in found.find("svg", class_="chart") if a["aria-label"] == "Total loss")
    (_, _, points) = json.loads(mean["data-chart"])["series"][1]
    assert [epoch for epoch, _ in points] == [0, 1, 2, 3] and "±" in points[0][1]


def test_one_seed_before_its_first_epoch(tmp_path):
    write_train_run(tmp_path / "runs/seed_0", epochs=0, planned=5)
    assert "no values yet" not in page(tmp_path / "runs").words()
    (tmp_path / "runs/seed_0/history.jsonl").unlink()
    assert "not started" in page(tmp_path / "runs").words()


def test_folder_of_mixed_seeds_is_an_error(tmp_path, capsys):
    write_train_run(tmp_path / "runs/seed_0")
    write_run(tmp_path / "runs/seed_1", "demo", epochs=3, chosen=2)
    with pytest.raises(ChaseError, match="some seeds are searches"):
        write_report(tmp_path / "runs")
    assert command.main([str(tmp_path / "runs")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_hostile_strings_of_a_training_are_text(tmp_path):
    evil = '</script><script>alert(1)</script><img src=x onerror="alert(2)">'
    run = write_train_run(tmp_path / "r", train=(evil,))
    rewrite(run / "config.json", lambda c: c | {"config": c["config"] | {"recipe": evil, evil: evil}})
    found = page(run)
    assert evil in found.words() and len(found.find("script")) == 1 and not found.find("img")


@pytest.mark.parametrize(
    "cell", [CHASE, CHASE_FD, CHASE_WO, FULL, TWO], ids=["chase", "fd", "wo", "full", "two"]
)
def test_upright_labels_do_not_overlap(cell):
    layout = arrange(cell, upright=True)
    boxes = [(*g.label, g.label_width, PILL_H) for g in layout.genes]
    boxes += [(*layout.place(i), BOX_W, BOX_H) for i in range(len(layout.names))]
    for i, (x, y, w, h) in enumerate(boxes):
        assert x - w / 2 >= 0 and x + w / 2 <= layout.width and y - h / 2 >= 0 and y + h / 2 <= layout.height
        for x2, y2, w2, h2 in boxes[:i]:
            assert abs(x - x2) >= (w + w2) / 2 or abs(y - y2) >= (h + h2) / 2, (boxes[i], (x2, y2))
    assert draw_cell(cell, upright=True).count("data-op") == sum(map(len, cell.nodes))


def test_logarithmic_charts_leave_out_what_they_cannot_show():
    assert log_ticks(-2.1, -0.5) == pytest.approx([0.01, 0.02, 0.05, 0.1, 0.2])
    assert log_ticks(-6, -3) == pytest.approx([1e-6, 1e-5, 1e-4, 1e-3])
    picture = chart("lr", [Series("lr", [(0, 0.0), (1, 1e-3), (2, 1e-5)], "red")], Marks(2), logarithmic=True)
    points = picture.split(' d="M')[1].split('"')[0].split("L")
    assert len(points) == 2 and float(points[0].split()[1]) < float(points[1].split()[1])
