"""The report page and the drawing of a cell: what they must contain, whatever part of a run exists."""

import json
import math
import re
import sys
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import pytest

from chase_fast import draw
from chase_fast.draw import draw_cell, palette
from chase_fast.draw.arcs import BOX_H, BOX_W, PILL_H, arrange
from chase_fast.draw.charts import Marks, Series, chart, spark, ticks, value_range
from chase_fast.errors import ChaseError
from chase_fast.nn.genotype import CHASE, CHASE_FD, CHASE_WO, Genotype
from chase_fast.nn.space import OPS
from chase_fast.report import __main__ as command
from chase_fast.report import write_report
from chase_fast.report.search.read import read_search
from tests.fake_run import write_run

FULL = Genotype(tuple(tuple((OPS[1 + (3 * i + s) % 7], s) for s in range(i + 2)) for i in range(4)))
TWO = Genotype(((("sep_conv_3x3", 0), ("none", 1)), (("dil_conv_5x5", 0), ("max_pool_3x3", 2))))
FILES = ("config.json", "history.jsonl", "alphas.jsonl", "perf.jsonl", "cell.json")
VOID = {"meta", "br", "img", "link", "input", "hr"}


class Page(HTMLParser):
    """All elements with their attributes, the visible text, and a check that every tag is closed."""

    def __init__(self, path: Path, raw: str | None = None):
        super().__init__()
        self.path = path
        self.elements: list[tuple[str, dict]] = []
        self.text: list[str] = []
        self.stack: list[str] = []
        self.raw = path.read_text(encoding="utf-8") if raw is None else raw
        self.feed(self.raw)
        assert not self.stack, f"unclosed: {self.stack}"

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        if not {"style", "script"} & set(self.stack):
            self.text.append(data)

    def words(self) -> str:
        return " ".join(" ".join(self.text).split())

    def find(self, tag: str, **wanted) -> list[dict]:
        def fits(attributes):
            classes = (attributes.get("class") or "").split()
            return all(v in classes if k == "class_" else attributes.get(k) == v for k, v in wanted.items())

        return [a for t, a in self.elements if t == tag and fits(a)]


def page(run: Path) -> Page:
    return Page(write_report(run))


@pytest.fixture(scope="module")
def paper(tmp_path_factory) -> Page:
    return page(write_run(tmp_path_factory.mktemp("runs") / "paper", hessian=True))


def test_page_needs_nothing_from_outside(paper):
    for tag, attributes in paper.elements:
        for key in ("src", "srcset", "data", "poster", "action"):
            assert key not in attributes, (tag, key)
        for key in ("href", "xlink:href"):
            assert "//" not in attributes.get(key, ""), (tag, attributes)
    assert not paper.find("link") and not paper.find("iframe") and not paper.find("img")
    assert paper.raw.replace("http://www.w3.org/2000/svg", "").count("://") == 0
    assert "@import" not in paper.raw and "url(" not in paper.raw


def test_every_edge_and_operation_is_drawn(paper):
    figures = paper.find("figure", class_="edge")
    assert len(figures) == 14
    for name in ("layer2 → node 2", "layer3 → node 5", "node 4 → node 5"):
        assert name in paper.words()
    charts = [json.loads(a["data-chart"]) for a in paper.find("svg", class_="small")]
    assert len(charts) == 14
    for data in charts:
        assert [name for name, _, _ in data["series"]] == list(OPS)
        assert {len(points) for _, _, points in data["series"]} == {53}
        at_41 = [float(dict(points)[41]) for _, _, points in data["series"]]
        assert sum(at_41) == pytest.approx(1, abs=1e-3)


def test_genes_are_drawn_with_their_operation_and_source(paper):
    drawn = [
        (int(g["data-target"]), g["data-op"], int(g["data-source"])) for g in paper.find("g", class_="gene")
    ]
    assert drawn == [(i + 2, op, s) for i, genes in enumerate(CHASE.nodes) for op, s in genes]
    assert len(paper.find("tr", class_="gene-row")) == 8
    assert len(paper.find("g", class_="state")) == 7
    assert len(paper.find("figure", class_="kept")) == 8


def test_stop_and_warm_up_are_marked(paper):
    stops = paper.find("line", class_="stop")
    assert len(stops) == 14 + 1 + 5  # edges, losses, diagnostics
    assert {s["data-epoch"] for s in stops} == {"41"}
    assert "stop: cell of epoch 41" in paper.words() and "warm-up" in paper.words()
    bands = paper.find("rect", class_="warmup")
    assert len(bands) == len(stops) and all(float(b["width"]) > 0 for b in bands)
    assert "ended after epoch 52 of at most 70" in paper.words()


def test_summary_compares_with_row_0(paper):
    run = read_search(paper.path.parent)
    holdout = dict(run.series("holdout_loss"))
    percent = 100 * (1 - holdout[41] / holdout[0])
    assert f"{holdout[41]:.4g}" in paper.words()
    assert f"{percent:.1f} % below row 0 ({holdout[0]:.4g})" in paper.words()
    for word in ("Time per iteration", "Peak memory", "12.44 GB", "2.15.0", "9c21ce7", "alpha_weight_decay"):
        assert word in paper.words()
    assert "Hessian" in paper.words()


def test_row_0_has_no_time_per_iteration(paper):
    charts = [
        a for a in paper.find("svg", class_="chart") if a["aria-label"].startswith("Time per iteration")
    ]
    ((_, _, points),) = json.loads(charts[0]["data-chart"])["series"]
    assert [epoch for epoch, _ in points] == list(range(1, 53))


def test_charts_have_names_and_the_page_has_a_language(paper):
    assert paper.find("html", lang="en")
    for svg in paper.find("svg", class_="chart") + paper.find("svg", class_="cell"):
        assert svg["role"] == "img" and svg["aria-label"]
    headings = [t for t, _ in paper.elements if t in ("h1", "h2", "h3")]
    assert headings[0] == "h1" and headings.count("h1") == 1


def test_words_of_charts_stay_legible_on_narrow_pages(paper):
    """Fault: on a page of 400 px the words of the loss chart were 4 px high, and nothing showed that panels
    scroll."""
    style = (Path(draw.__file__).parent / "style.css").read_text()
    least = re.search(r"\.chart\.wide, \.chart\.strip \{ min-width: (\d+)px", style)
    for svg in paper.find("svg", class_="chart"):
        width = float(svg["viewbox"].split()[2])
        shown = 320 if width <= 420 else float(least[1]) * ("wide" in svg["class"].split())
        assert 11 * shown / width >= 8, svg["aria-label"]
    assert re.search(r"\.panel, \.scroll, \.cellbox \{\s+background: .*local,", style)


def test_two_node_cell_of_seven_operations(tmp_path):
    found = page(write_run(tmp_path / "r", "chase_2n", epochs=30, chosen=20, genotype=TWO))
    assert len(found.find("figure", class_="edge")) == 5 and len(found.find("g", class_="state")) == 5


def test_fair_run_is_shown_as_sigmoid_without_none(tmp_path):
    found = page(write_run(tmp_path / "r", "chase_fd", epochs=30, chosen=20, genotype=CHASE_FD))
    series = json.loads(found.find("svg", class_="small")[0]["data-chart"])["series"]
    assert [name for name, _, _ in series] == list(OPS[1:])
    assert float(dict(series[0][2])[0]) == pytest.approx(0.5)  # sigmoid(0)
    assert "Sigmoid of the alphas" in found.words()


@pytest.mark.parametrize(
    "missing", ["config.json", "history.jsonl", "alphas.jsonl", "perf.jsonl", "cell.json"]
)
def test_any_file_may_be_missing(tmp_path, missing):
    run = write_run(tmp_path / "r", epochs=14, chosen=12)
    (run / missing).unlink()
    found = page(run)
    assert "Losses" in found.words()
    assert bool(found.find("svg", class_="cell")) == (missing != "cell.json")
    assert bool(found.find("figure", class_="edge")) == (missing != "alphas.jsonl")


def test_run_in_progress_names_the_best_so_far(tmp_path):
    found = page(write_run(tmp_path / "r", epochs=25, chosen=22, finished=False))
    assert "best so far: epoch 22" in found.words() and "No cell yet" in found.words()
    assert "in progress or interrupted after epoch 25" in found.words()
    assert "--resume" in found.words()


def test_only_row_0(tmp_path):
    run = write_run(tmp_path / "r", epochs=0, chosen=None, genotype=None)
    (run / "perf.jsonl").unlink()
    found = page(run)
    assert "Hold-out loss of row 0" in found.words() and not found.find("line", class_="stop")


def test_only_a_configuration(tmp_path):
    run = write_run(tmp_path / "r", epochs=0, chosen=None, genotype=None)
    for name in ("history", "alphas", "perf"):
        (run / f"{name}.jsonl").unlink()
    assert "not started" in page(run).words()


def test_half_written_lines_and_broken_files_are_named(tmp_path):
    run = write_run(tmp_path / "r", epochs=14, chosen=12)
    with open(run / "history.jsonl", "a") as f:
        f.write('{"epoch": 15, "holdo')
    with open(run / "alphas.jsonl", "a") as f:
        f.write('{"epoch": 15, "alpha": [[1, 2], [3]]}\n')
    (run / "cell.json").write_text("{}}")
    found = page(run)
    assert "history.jsonl: 1 unreadable line left out" in found.words()
    assert "the alphas of epoch 15 are not a table" in found.words()
    assert "cell.json" in found.words() and not found.find("svg", class_="cell")


def test_values_that_are_no_numbers_leave_a_gap(tmp_path):
    run = write_run(tmp_path / "r", epochs=14, chosen=12)
    lines = (run / "history.jsonl").read_text().splitlines()
    row = json.loads(lines[13]) | {"train_loss": float("nan"), "val_loss": float("inf")}
    lines[13] = json.dumps(row)
    (run / "history.jsonl").write_text("\n".join(lines) + "\n")
    found = page(run)
    path = [a["d"] for a in found.find("path", class_="line")]
    assert path and not any("nan" in d or "inf" in d for d in path)


def test_hostile_strings_are_text(tmp_path):
    evil = '</script><script>alert(1)</script><img src=x onerror="alert(2)">'
    run = write_run(tmp_path / "r <b>&'", epochs=14, chosen=12)
    config = json.loads((run / "config.json").read_text())
    config["config"] |= {"recipe": evil, evil: evil}
    (run / "config.json").write_text(json.dumps(config))
    cell = json.loads((run / "cell.json").read_text())
    (run / "cell.json").write_text(json.dumps(cell | {"commit": evil}))
    found = page(run)
    assert evil in found.words()
    assert len(found.find("script")) == 1 and not found.find("img") and not found.find("b")
    assert not any(key.startswith("on") for _, attributes in found.elements for key in attributes)


def unchecked(*nodes) -> Genotype:
    """A genotype with operations that are not registered here."""
    cell = Genotype.__new__(Genotype)
    object.__setattr__(cell, "nodes", nodes)
    return cell


def test_hostile_operation_name_in_a_drawing():
    root = ET.fromstring(draw_cell(unchecked((('"><script>x</script>', 0),))))
    assert not [e for e in root.iter() if e.tag.endswith("script")]


def test_several_seeds_get_an_index_and_a_page_each(tmp_path):
    holdouts = {}
    for seed, chosen in ((0, 6), (2, 8), (10, 7)):
        run = write_run(tmp_path / "out" / f"seed_{seed}", "demo", epochs=10, chosen=chosen, seed=seed)
        holdouts[seed] = json.loads((run / "cell.json").read_text())["holdout_loss"]
    found = page(tmp_path / "out")
    assert [a["href"] for a in found.find("a")] == [f"seed_{s}/report.html" for s in (0, 2, 10)]
    assert f"{min(holdouts, key=holdouts.get)} (best)" in found.words()
    assert len(found.find("svg", class_="cell")) == 3
    for seed in holdouts:
        assert (tmp_path / "out" / f"seed_{seed}" / "report.html").exists()
    (tmp_path / "out" / "seed_2" / "cell.json").write_text("{}}")
    assert "seed_2/cell.json: " in page(tmp_path / "out").words()


@pytest.mark.parametrize(
    "cell", [CHASE, CHASE_FD, CHASE_WO, FULL, TWO], ids=["chase", "fd", "wo", "full", "two"]
)
def test_drawing_is_wellformed_and_labels_do_not_overlap(cell):
    root = ET.fromstring(draw_cell(cell, background=True))
    genes = [g for g in root.iter() if g.get("data-op")]
    expected = [(op, str(s), str(i + 2)) for i, row in enumerate(cell.nodes) for op, s in row]
    assert [(g.get("data-op"), g.get("data-source"), g.get("data-target")) for g in genes] == expected
    layout = arrange(cell)
    boxes = [(*g.label, g.label_width, PILL_H) for g in layout.genes]
    boxes += [(x, layout.axis, BOX_W, BOX_H) for x in layout.centres]
    for i, (x, y, w, h) in enumerate(boxes):
        assert x - w / 2 >= 0 and x + w / 2 <= layout.width and y - h / 2 >= 0 and y + h / 2 <= layout.height
        for x2, y2, w2, h2 in boxes[:i]:
            assert abs(x - x2) >= (w + w2) / 2 or abs(y - y2) >= (h + h2) / 2, (boxes[i], (x2, y2))


def test_drawing_of_a_user_operation_and_an_empty_node():
    text = draw_cell(unchecked((("sep_conv_3x3", 0), ("ghost_conv", 1)), ()))
    assert "ghost_conv" in text and "Node 3 = nothing." in text
    assert palette.light(palette.index("ghost_conv", ("ghost_conv",))) in text


def test_ticks_are_round_and_cover():
    assert ticks(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert ticks(2.01, 5.5) == [3, 4, 5]
    low, high = value_range([3.0])
    assert low < 3 < high
    assert "no values yet" in chart("empty", [Series("a", [], "red")], Marks(0))


def test_spark_leaves_a_gap_where_nothing_is_known():
    picture = spark("overlap", [Series("a", [(0, 1.0), (1, 0.5), (2, math.nan), (3, 0.0)], "red")], 3)
    assert ' d="M0.0 3.0L100.0 22.0M300.0 41.0"' in picture


def test_charts_over_thresholds_have_broken_ticks_and_their_own_axis():
    picture = chart("success", [Series("a", [(0.0, 1.0), (0.5, 0.25)], "red")], Marks(0.5, axis="threshold"))
    data = json.loads(Page(Path(), picture).find("svg")[0]["data-chart"])
    assert (data["axis"], data["end"], data["series"][0][2]) == (
        "threshold",
        0.5,
        [[0.0, "1"], [0.5, "0.25"]],
    )
    assert ">0.1</text>" in picture and ">threshold</text>" in picture


def test_command_writes_page_and_drawings(tmp_path, capsys):
    run = write_run(tmp_path / "r", epochs=14, chosen=12)
    assert command.main([str(run)]) == 0 and (run / "report.html").stat().st_size > 10_000
    svg, png = tmp_path / "c.svg", tmp_path / "c.png"
    assert command.main(["--cell", str(run / "cell.json"), "--svg", str(svg), "--png", str(png)]) == 0
    assert ET.parse(svg).getroot().tag.endswith("svg") and png.read_bytes()[:4] == b"\x89PNG"
    assert command.main(["--cell", "chase", "--png", str(tmp_path / "bitmap")]) == 0  # the name as given
    assert (tmp_path / "bitmap").read_bytes()[:4] == b"\x89PNG"
    assert command.main(["--cell", "CHASE_WO", "--svg", str(svg)]) == 0
    assert "skip_connect" not in svg.read_text()


def test_png_without_matplotlib_says_how_to_get_it(tmp_path, capsys, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # as if it were not installed
    assert command.main(["--cell", "chase", "--png", str(tmp_path / "c.png")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and "pip install matplotlib" in line
    assert not list(tmp_path.iterdir())
    assert command.main(["--cell", "chase", "--svg", str(tmp_path / "c.svg")]) == 0


def test_command_names_wrong_input_in_one_line(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.json").write_text('{"genotype": 3}')
    (tmp_path / "torn.json").write_text('{"genot')
    for arguments in (
        [str(tmp_path / "nowhere")],
        [str(tmp_path / "empty")],
        [],
        ["--cell", "CHASE"],
        ["--cell", "NO_SUCH", "--svg", str(tmp_path / "x.svg")],
        ["--cell", str(tmp_path / "bad.json"), "--svg", str(tmp_path / "x.svg")],
        ["--cell", str(tmp_path / "torn.json"), "--svg", str(tmp_path / "x.svg")],
        ["--cell", "CHASE", "--svg", str(tmp_path / "no" / "x.svg")],
    ):
        assert command.main(arguments) == 2, arguments
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1, error
    assert not (tmp_path / "x.svg").exists()


def test_report_raises_for_no_run(tmp_path):
    with pytest.raises(ChaseError, match="no such folder"):
        write_report(tmp_path / "nowhere")
