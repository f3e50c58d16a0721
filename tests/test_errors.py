"""Every error of the user is a ChaseError; clauses that catch what it is let it through."""

import ast
from pathlib import Path

import pytest

from chase_fast.data import open_sources
from chase_fast.errors import ChaseError, Elsewhere, MissingFile

PACKAGE = Path(__file__).parents[1] / "chase_fast"
# clauses around calls that may raise a ChaseError, looked at one by one: they add the file's name
LOOKED_AT = {"runs/loop.py": 1}
RAISING = {
    "user_path", "load_json", "load_object", "load_arrays", "load_tracker", "load_cell", "build_backbone",
    "restore", "check_checkpoint", "stored_config", "open_sources", "open_evaluation", "resolve_device",
    "read_pytracking", "from_data", "from_json", "from_any", "write_atomic", "write_bytes", "write_json",
    "search_rows", "train_rows", "alpha_rows", "perf_rows",
}  # fmt: skip


def test_errors_are_also_what_python_calls_them():
    for kind in (ChaseError, MissingFile, Elsewhere):
        assert issubclass(kind, ChaseError) and issubclass(kind, ValueError)
    assert issubclass(MissingFile, FileNotFoundError) and str(MissingFile("a line")) == "a line"
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        open_sources(["got10k:/no/such/folder:train"])
    with pytest.raises(ValueError, match="nonsense"):
        open_sources(["nonsense:x"])


def swallowing(tree: ast.AST) -> int:
    """Clauses that would catch a ChaseError as a ValueError, around calls that raise one."""
    count = 0
    for node in ast.walk(tree):
        if not isinstance(node, ast.Try):
            continue
        for handler in node.handlers:
            names = (
                {n.id for n in ast.walk(handler.type) if isinstance(n, ast.Name)} if handler.type else set()
            )
            if "ChaseError" in names:
                break
            calls = [n.func for part in node.body for n in ast.walk(part) if isinstance(n, ast.Call)]
            called = {getattr(f, "attr", getattr(f, "id", "")) for f in calls}
            if "ValueError" in names and called & RAISING:
                count += 1
    return count


def test_no_clause_swallows_an_error_of_the_user():
    found = {}
    for path in PACKAGE.rglob("*.py"):
        if count := swallowing(ast.parse(path.read_text(encoding="utf-8"))):
            found[str(path.relative_to(PACKAGE))] = count
    assert found == LOOKED_AT
    bad = "try:\n    user_path(x)\nexcept (OSError, ValueError):\n    pass"
    assert swallowing(ast.parse(bad)) == 1
    assert swallowing(ast.parse(bad.replace("except (", "except ChaseError:\n    raise\nexcept ("))) == 0
