"""Who may import whom, and that every op has the same files and is named in CONTRIBUTING.md."""

import ast
import re
from pathlib import Path

import pytest

from chase_fast import doctor
from chase_fast.kernels import _choice

ROOT = Path(__file__).parents[1]
OPS = sorted(p.parent.name for p in (ROOT / "kernels").glob("*/__init__.py"))
_NET = {"nn", "data", "kernels", "runs", "recipes", "distributed", "graphs"}
_COMMAND = {"command", "commandline"}
_WORDS = {"commandline", "datasets", "remarks"}
# part of chase_fast -> the parts it may import, beside itself and the ground floor
GROUND = {"errors", "files", "fields", "imports", "lazy", "threads", "_version"}
MAY = {
    "errors": set(),
    "imports": set(),
    "lazy": set(),
    "threads": set(),
    "_version": set(),
    "fields": set(),
    "commandline": set(),
    "datasets": set(),
    "remarks": set(),
    "files": set(),
    "kernels": set(),
    "process": set(),
    "command": {"process", "kernels"},  # of kernels only _choice, which needs no torch
    "unpickle": set(),
    "weights": {"unpickle"},
    "nn": {"kernels", "weights"},
    "data": {"kernels", "process", "command"} | _WORDS,  # command: data.pack
    "device": set(),
    "graphs": set(),
    "cells": {"nn"},
    "distributed": {"nn", "device"},  # of nn only norm, whose statistics it merges
    "published": {"nn", "unpickle", "weights"},
    "checkpoint": {"nn", "published", "runs", "weights"},
    "recipes": {"nn"},  # only nn.space, which needs no torch
    "draw": {"nn"},
    "report": {"nn", "cells", "draw"} | _COMMAND,
    "runs": {"nn", "data", "distributed", "device", "report"} | _COMMAND,
    "search": _NET | {"cells"},
    "train": _NET | {"checkpoint", "cells"},
    "engines": {"nn", "kernels", "runs"},  # of runs only the names of files
    "export": {"engines", "track", "checkpoint", "data", "runs"} | _COMMAND,
    "convert": {"checkpoint", "published", "nn", "cells"} | _COMMAND,
    "doctor": {"kernels", "data"} | _COMMAND,
    "track": {"engines", "nn", "data", "kernels", "checkpoint", "runs", "device", "graphs"} | _COMMAND,
    "evaluate": {
        "track",
        "engines",
        "data",
        "runs",
        "distributed",
        "device",
        "checkpoint",
        "draw",
        "command",
        "process",
    }
    | _WORDS,
}


def sources() -> list[tuple[str, Path]]:
    """(dotted name, file) of every Python file of the package; kernels/ is chase_fast.kernels."""
    files = [p for p in (ROOT / "chase_fast").rglob("*.py") if "kernels" not in p.relative_to(ROOT).parts]
    named = [(p.relative_to(ROOT).with_suffix("").parts, p) for p in files]
    named += [
        (("chase_fast", *p.relative_to(ROOT).with_suffix("").parts), p) for p in ROOT.glob("kernels/**/*.py")
    ]
    return [(".".join(parts), p) for parts, p in named]


def imports(name: str, node: ast.AST) -> list[str]:
    """Absolute dotted names that an import statement of module `name` reaches."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    above = name.removesuffix(".__init__").split(".")
    cut = len(above) - node.level + name.endswith(".__init__")
    base = ".".join((above[:cut] if node.level else []) + ([node.module] if node.module else []))
    return [f"{base}.{alias.name}" for alias in node.names]


@pytest.mark.parametrize("part", MAY)
def test_imports_point_downwards(part):
    prefix = f"chase_fast.{part}"
    for name, path in sources():
        if not f"{name}.".startswith(f"{prefix}."):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for reached in imports(name, node):
                package, _, rest = reached.partition(".")
                allowed = MAY[part] | {part} | ({"lazy", "_version"} if part == "kernels" else GROUND)
                assert package != "chase_fast" or rest.split(".")[0] in allowed, f"{path}: imports {reached}"


def test_the_pages_of_searches_and_trainings_do_not_know_one_another():
    """Nor the comparison, which knows both; what they share stands above them."""
    for own, others in (("search", {"train", "compare"}), ("train", {"search", "compare"})):
        for name, path in sources():
            if name.startswith(f"chase_fast.report.{own}."):
                for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                    for reached in imports(name, node):
                        home, _, rest = reached.partition("chase_fast.report.")
                        assert home or rest.split(".")[0] not in others, f"{path}: {reached}"


def test_every_part_has_its_rule():
    parts = {name.split(".")[1] for name, _ in sources()}
    assert parts - {"__init__", "__main__"} == set(MAY)  # the front door and `chase-fast` may import all


def test_only_commands_import_a_command():
    commands = {"search", "train", "convert", "evaluate", "export"}
    for name, path in sources():
        own = name.split(".")[1]
        if name in ("chase_fast.__main__", "chase_fast.__init__") or own in commands:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for reached in imports(name, node):
                assert reached.split(".")[:2] not in [["chase_fast", c] for c in commands], (
                    f"{path}: {reached}"
                )


def test_of_runs_others_than_search_and_train_import_only_what_needs_no_torch():
    light = {"folder", "seeds", "versions", "interrupt", "progress"}
    names = {"RunFolder", "checkpoint_file", "stream", "versions", "git_commit"}  # of chase_fast.runs itself
    for name, path in sources():
        if name.split(".")[1] in {"runs", "search", "train"}:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for reached in imports(name, node):
                if reached.startswith("chase_fast.runs."):
                    assert reached.split(".")[2] in light | names, f"{path}: {reached}"


def test_torchvision_is_imported_only_inside_functions_of_the_backbone():
    for name, path in sources():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        everywhere = [n for n in ast.walk(tree) for m in imports(name, n) if m.split(".")[0] == "torchvision"]
        inside = [
            n
            for function in ast.walk(tree)
            if isinstance(function, ast.FunctionDef)
            for n in ast.walk(function)
            if n in everywhere
        ]
        assert name == "chase_fast.nn.backbone" or not everywhere, path
        assert set(everywhere) == set(inside), f"{path}: torchvision at the top of the file"


@pytest.mark.parametrize("op", OPS)
def test_every_op_has_the_same_files_and_is_named_in_the_documents(op):
    for path in (f"kernels/{op}/reference.py", f"kernels/{op}/cases.py", f"tests/kernels/test_{op}.py"):
        assert (ROOT / path).is_file(), f"{path} is missing"
    (row,) = table_lines("CONTRIBUTING.md", op)
    cells = row.split("|")[3:-1]
    assert [b for b, cell in zip(_choice.BACKENDS, cells, strict=True) if "yes" in cell] == [*_choice.OPS[op]]


STAGES = {"mixed_op": {"separable_stack", "pool", "batch_norm"}, "sep_conv": {"depthwise", "node_sum"}}


def test_native_files_are_named_after_ops_or_their_stages():
    for language, folder in (("cpu", "csrc/cpu/*.cpp"), ("cuda", "csrc/cuda/*.cu")):
        wanted = {"jpeg"} if language == "cpu" else set()
        for op in (op for op, backends in _choice.OPS.items() if language in backends):
            wanted |= STAGES.get(op, {op})
        assert {p.stem for p in ROOT.glob(folder)} == wanted
    text = " ".join((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split())
    for op, stages in STAGES.items():
        sentence = next(
            part for part in text.split("Two ops have C++ in stages")[1].split(";") if f"`{op}`" in part
        )
        assert all(f"{stage}.cpp" in sentence for stage in stages), sentence


def table_lines(document: str, op: str) -> list[str]:
    text = (ROOT / document).read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line.startswith(f"| `{op}` |")]


def test_the_backend_variable_and_the_doctor_know_every_op():
    assert sorted(_choice.OPS) == OPS == sorted(doctor.ops())


FILE = re.compile(r"[\w*/]+\.(?:py|cpp|cu|h|md|txt|toml)\b|\w[\w/]*/(?=[\s;,:)]|$)")


def layout() -> dict[str, list[str]]:
    """Files and folders that CONTRIBUTING.md names, by the folder (or file) at the head of their lines."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    sections: dict[str, list[str]] = {}
    for line in text.split("## Layout")[1].split("```")[1].strip().splitlines():
        names = FILE.findall(line)
        if not line.startswith(" "):
            head = names[0]
        sections.setdefault(head, []).extend(names)
    return sections


def test_the_layout_of_contributing_names_what_is_there():
    sections = layout()
    for head, names in sections.items():
        for name in names:
            pattern = re.sub("OP|NAME|LAYOUT|FILE", "*", name).rstrip("/")
            homes = (ROOT / head, ROOT, ROOT / "chase_fast")
            found = any(home.is_dir() and next(home.glob(f"**/{pattern}"), None) for home in homes[:1])
            assert found or any(next(home.glob(pattern), None) for home in homes[1:]), f"{head}: {name}"
    known = {name.rstrip("/") for names in sections.values() for name in names}
    assert {"csrc", "kernels", "chase_fast", "bench", "docs", "examples", "tests"} <= known
    parts = {
        p.name for p in (ROOT / "chase_fast").iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()
    }
    assert parts - {"__main__.py", "_version.py"} <= known


def test_the_rules_are_checked_at_all():
    assert imports("chase_fast.kernels.x.__init__", ast.parse("from ... import nn").body[0]) == [
        "chase_fast.nn"
    ]
    assert imports("chase_fast.kernels.x.reference", ast.parse("from .. import nn").body[0]) == [
        "chase_fast.kernels.nn"
    ]
    assert imports("chase_fast.nn.a", ast.parse("from chase_fast.search import b").body[0]) == [
        "chase_fast.search.b"
    ]
    assert len(OPS) >= 7 and len(sources()) > 40
