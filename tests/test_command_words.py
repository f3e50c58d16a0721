"""The words of a command line: one rule for the lists of all commands, and what is said about mistakes."""

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest

from chase_fast import __main__ as chase_fast
from chase_fast.commandline import parse, take_word
from chase_fast.commandline.flags import flags_of
from chase_fast.convert.__main__ import Arguments as Convert
from chase_fast.data.pack.__main__ import Arguments as Pack
from chase_fast.doctor import __main__ as doctor
from chase_fast.errors import ChaseError
from chase_fast.evaluate import __main__ as evaluate
from chase_fast.evaluate.options import Evaluate
from chase_fast.recipes import search_recipe, train_recipe
from chase_fast.report import __main__ as report
from chase_fast.search import __main__ as search_command
from chase_fast.search import options as search
from chase_fast.track import __main__ as track
from chase_fast.train import options as train

LISTS = {
    "together": ["{flag}", "a", "b", "c"],
    "repeated": ["{flag}", "a", "{flag}", "b", "{flag}", "c"],
    "with signs": ["{flag}=a", "{flag}=b", "{flag}=c"],
    "mixed": ["{flag}=a", "b", "{flag}", "c"],
}
# how each command reads its words, and the lists it has
READ = {
    "evaluate": (
        lambda words: evaluate.parse(["--data", "x", *words]),
        ["--results", "--checkpoint", "--opencv", "--protocol", "--set"],
    ),
    "search": (
        lambda words: search.SearchCommand().parse(words, search_recipe("demo")).config,
        ["--train", "--val", "--holdout", "--ops"],
    ),
    "train": (
        lambda words: train.TrainCommand().parse(words, train_recipe("demo")).config,
        ["--train", "--val"],
    ),
    "track": (lambda words: track.parse(["video.mp4", "--checkpoint", "x", *words]), ["--box", "--set"]),
}


@pytest.mark.parametrize("spelling", LISTS)
@pytest.mark.parametrize(("command", "flag"), [(c, f) for c, (_, flags) in READ.items() for f in flags])
def test_a_list_takes_all_that_is_given_for_it(command, flag, spelling):
    found = READ[command][0]([word.format(flag=flag) for word in LISTS[spelling]])
    assert getattr(found, flag.removeprefix("--")) == ("a", "b", "c")


def test_these_are_all_lists_of_all_commands():
    kinds = {
        "evaluate": Evaluate,
        "search": search.Arguments,
        "train": train.Arguments,
        "track": type(track.parse(["0", "--checkpoint", "x"])),
        "doctor": doctor.Doctor,
        "report": report.Report,
        "pack": Pack,
        "convert": Convert,
    }
    found = {c: {f.name for f in flags_of(kind) if f.many and not f.positional} for c, kind in kinds.items()}
    expected = {command: set(flags) for command, (_, flags) in READ.items()}
    expected["search"].add("--seeds")
    expected["train"].add("--seeds")
    assert found == expected | {"doctor": {"--data"}, "report": {"--names"}, "pack": set(), "convert": set()}


@pytest.mark.parametrize("command", [search.SearchCommand(), train.TrainCommand()], ids=lambda c: c.name)
def test_seeds_go_on_too(command):
    words = ["--seeds", "3", "1", "--seeds=2"]
    assert command.parse(words, command.recipe("demo")).options.seeds == (3, 1, 2)


def test_doctor_looks_at_every_dataset(capsys):
    assert doctor.main(["--data", "folder:/no/a", "--data=folder:/no/b"]) == 2
    errors = capsys.readouterr().err
    assert "/no/a" in errors and "/no/b" in errors


def test_report_names_every_run(monkeypatch, capsys):
    seen = []
    monkeypatch.setattr("chase_fast.report.write_comparison", lambda *given: seen.append(given) or "page")
    assert report.main(["runs/a", "runs/b", "--names", "one", "--names", "two"]) == 0
    assert seen == [((Path("runs/a"), Path("runs/b")), None, ("one", "two"))]


def test_a_list_before_the_word_that_a_command_needs():
    """--box takes all that follows, but SOURCE is still needed: it is the last word."""
    given = track.parse(["--box", "1,2,3,4", "--box", "5,6,7,8", "video.mp4", "--checkpoint", "x"])
    assert given.source == "video.mp4" and given.box == ("1,2,3,4", "5,6,7,8")
    given = track.parse(["--box=-3,8,20,20", "0", "--checkpoint=x"])
    assert given.source == "0" and given.box == ("-3,8,20,20",)


@pytest.mark.parametrize(
    "words", [["paper", "--out", "x"], ["--out", "x", "paper"], ["--out=x", "paper", "--resume"]]
)
def test_the_recipe_stands_anywhere(words):
    name, rest = take_word(search.Arguments, words, "search")
    assert name == "paper" and rest == [w for w in words if w != "paper"]


@dataclasses.dataclass(frozen=True)
class Inner:
    seed: int = 0
    names: tuple[str, ...] = ("first",)


@dataclasses.dataclass(frozen=True)
class Outer:
    out: Path
    inner: Inner
    rate: float = 1.0
    order: Literal[1, 2] = 2
    fast: bool = True
    limit: int | None = None


def read(*words: str) -> Outer:
    return parse(Outer, words, "outer", "Examples:")


def test_values_have_the_types_of_their_fields():
    given = read(
        "--out=~/x",
        "--seed",
        "-7",
        "--rate",
        "1e-3",
        "--order",
        "1",
        "--no-fast",
        "--limit=5",
        "--names=-a",
        "b",
    )
    assert given == Outer(Path.home() / "x", Inner(-7, ("-a", "b")), 1e-3, 1, False, 5)
    assert read("--out", "x", "--seed", "3", "--seed", "3") == Outer(Path("x"), Inner(3))
    given = parse(Outer, ["--rate=2"], "outer", "", Outer(Path("y"), Inner(4, ()), 5.0, 1))
    assert given == Outer(Path("y"), Inner(4, ()), 2.0, 1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--rate", "1"], "--out is missing"),
        (["--out", "x", "--raet", "1"], "there is no flag --raet, did you mean --rate?"),
        (["--out", "x", "-q"], "there is no flag -q"),
        (["--out", "x", "word"], "'word' belongs to no flag"),
        (["--out"], "--out needs a value"),
        (["--out", "--rate", "1"], "--out needs a value"),
        (["--out", "-x"], "--out needs a value; one that begins with - is written --out=-x"),
        (["--out", "x", "--names"], "--names needs a value"),
        (["--out", "x", "--fast=1"], "--fast is a switch and takes no value"),
        (["--out", "x", "--fast", "--no-fast"], "is given twice, as --fast and --no-fast: give it once"),
        (["--out", "x", "--seed", "1", "--seed=2"], "--seed is given twice, '1' and '2': give it once"),
    ],
)
def test_words_that_are_no_command_end_it(words, message, capsys):
    with pytest.raises(SystemExit) as end:
        read(*words)
    error = capsys.readouterr().err
    assert end.value.code == 2 and error.count("\n") == 1 and error.startswith("error: ")
    assert message in error and "outer --help" in error


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--rate", "abc"], "--rate abc: expected a number"),
        (["--rate", "nan"], "--rate nan: expected a number"),
        (["--rate", "1" * 400], "expected a number"),
        (["--seed", "1.5"], "--seed 1.5: expected an integer"),
        (["--seed", "9" * 400], "expected an integer of 64 bits"),
        (["--seed", "9" * 5000], "expected an integer of 64 bits"),
        (["--limit", "None"], "--limit None: expected an integer"),
        (["--order", "3"], "--order 3: choose from 1, 2"),
        (["--out="], "expected a path"),
        (["--out=~nobody_of_that_name/x"], "the home folder is not known here"),
    ],
)
def test_wrong_values_are_one_line(words, message):
    with pytest.raises(ChaseError) as error:
        read(*([] if words[0].startswith("--out") else ["--out", "x"]), *words)
    assert message in str(error.value) and "\n" not in str(error.value) and len(str(error.value)) < 200


@pytest.mark.parametrize("name", list(chase_fast.COMMANDS))
def test_help_has_choices_and_none_of_the_parser_s_own_words(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as end:
        chase_fast.main([name, "--help"])
    text = capsys.readouterr().out
    assert end.value.code == 0
    for artefact in (
        "{None}",
        "None|",
        "STR",
        "INT",
        "options options",
        "(repeatable)",
        "default: None",
        "default: )",
    ):
        assert artefact not in text, artefact
    assert any(line.strip("│| ").startswith("--") for line in text.splitlines())


@pytest.mark.parametrize("name", ["evaluate", "search"])
def test_help_names_the_choices(name, capsys):
    with pytest.raises(SystemExit):
        chase_fast.main([name, "--help"])
    text = capsys.readouterr().out
    expected = {
        "evaluate": [
            "--preset {accurate,balanced,fast,published}",
            "--precision {fp32,bf16}",
            "--unknown {toolkit,zero,remove}",
        ],
        "search": ["--order {1,2}", "--backbone {resnet18,resnet50}", "[RECIPE]"],
    }[name]
    assert all(e in text for e in expected)


def test_help_needs_no_torch():
    names = [name for name in chase_fast.COMMANDS if name != "data.pack"]
    program = (
        "import importlib, sys\n"
        f"for name in {names}:\n"
        "    main = importlib.import_module(f'chase_fast.{name}.__main__').main\n"
        "    try: main(['--help'])\n"
        "    except SystemExit: pass\n"
        "assert 'torch' not in sys.modules and 'cv2' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_benchmarks_of_the_help_page_are_those_that_can_be_opened():
    from chase_fast.data import layouts
    from chase_fast.datasets import BENCHMARKS, KINDS
    from chase_fast.evaluate.protocols import PROTOCOLS

    for name, kind in BENCHMARKS.items():
        assert isinstance(layouts.layout(name), layouts.Layout) and set(kind.protocols) <= set(PROTOCOLS)
        assert kind.usage.startswith(f"{name}:")
    assert set(KINDS) - set(BENCHMARKS) == {"coco", "packed", "synthetic"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--lr", "abc"], "--lr abc: expected a number"),
        (["demo", "--no-such-flag"], "there is no flag --no-such-flag"),
        (["--out", "x", "dmeo"], "unknown search recipe 'dmeo', choose from demo"),
    ],
)
def test_commands_end_with_code_2_and_one_line(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    try:
        code = search_command.main(words)
    except SystemExit as end:
        code = end.code
    error = capsys.readouterr().err
    assert code == 2 and error.count("\n") == 1 and message in error and not list(tmp_path.iterdir())
